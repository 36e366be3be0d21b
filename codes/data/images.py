"""Pictures on disk: BGR, whole, with names in any alphabet."""

import io
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from codes.data.listing import has_suffix
from codes.errors import InputError
from codes.files import replacing

PNG_HEAD, PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"
JPEG_HEAD, JPEG_END = b"\xff\xd8", b"\xff\xd9"
TAIL = 4096  # cameras may write a few bytes after the end marker
LARGEST = 10**8  # pixels
MODES = {"L": "gray", "LA": "gray with alpha", "I;16": "gray", "RGBA": "RGB with alpha", "P": "palette"}
SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
}  # MPO: of several pictures, of telephones
Image.MAX_IMAGE_PIXELS = None  # the limit above, told in our words


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) from the header of a picture, without decoding it.

    Raises: InputError if there is no such file or it is no picture.
    """
    try:
        with open(path, "rb") as file, _header(path, file) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise InputError(f"{path}: no such picture") from None
    except OSError as error:
        raise InputError(f"{path}: picture cannot be read ({error.strerror})") from None


def check_image(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of a picture that is there, 8-bit colour, what its name says, and ends where it should.

    It costs two small reads.
    Raises: InputError if it is missing, no such picture, or truncated.
    """
    size = image_size(path)
    with open(path, "rb") as file:
        head = file.read(26)
        file.seek(-min(TAIL, Path(path).stat().st_size), 2)
        _refuse_truncated(path, head, file.read())
        file.seek(0)
        with _header(path, file) as image:
            bits = head[24] if image.format == "PNG" else 8
            if image.mode != "RGB" or bits != 8:
                found = f"{bits}-bit {MODES.get(image.mode, image.mode)}"
                raise InputError(f"{path}: a picture of {found}; 8-bit RGB is expected: convert it")
            if not has_suffix(path, SUFFIXES[image.format]):
                raise InputError(f"{path}: a {image.format} by its content; name it {SUFFIXES[image.format][0]}")
    return size


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as [H,W,3] uint8 BGR; gray, transparent and 16-bit ones are made so.

    Its rows are those of the sensor, beside which the spikes lie: how a camera says it was held is not heeded.

    Raises: InputError if the file is missing, is no picture, or ends too early (decoders fill the rest with gray).
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: picture cannot be read ({error.strerror})") from None
    _refuse_truncated(path, data[:4], data[-TAIL:])
    _header(path, io.BytesIO(data)).close()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise InputError(_unreadable(path, len(data)))
    return image


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write [H,W] or [H,W,3] BGR, uint8 or float in [0,1], in the format of the suffix, whole or not at all."""
    if image.dtype != np.uint8:
        image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    written, data = cv2.imencode(Path(path).suffix, image)
    if not written:
        raise InputError(f"{path}: a picture of shape {image.shape} cannot be written in this format")
    with replacing(path) as file:
        file.write(data.tobytes())


def _header(path: str | Path, file: BinaryIO) -> Image.Image:
    """Read the header of a picture, PNG or JPEG.

    Raises: InputError if it is none, or says to be larger than any camera's.
    """
    try:
        image = Image.open(file, formats=("PNG", "JPEG"))
    except Exception:  # by where the header is broken; of reading it is not, the file is open
        raise InputError(_unreadable(path, file.seek(0, 2))) from None
    if image.height * image.width > LARGEST:
        raise InputError(f"{path}: says that it is {image.height}x{image.width}; at most {LARGEST:,} pixels are read")
    return image


def _unreadable(path: str | Path, size: int) -> str:
    return f"{path}: not a readable picture ({size} bytes); PNG and JPEG are accepted"


def _refuse_truncated(path: str | Path, head: bytes, tail: bytes) -> None:
    end = PNG_END if head[:4] == PNG_HEAD else JPEG_END if head[:2] == JPEG_HEAD else b""
    if end not in tail:
        raise InputError(f"{path}: picture is truncated (no end marker); copy it or make it again")
