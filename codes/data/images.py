"""Pictures on disk, BGR: PNG and JPEG, decoded strictly, with names in any alphabet."""

import io
import zlib
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from codes.data.jpeg import JPEG_END, decode_jpeg, segments
from codes.data.listing import has_suffix
from codes.errors import InputError
from codes.files import replacing

PNG_END = b"IEND\xaeB`\x82"
TAIL = 4096  # bytes at the end of a file in which its end marker usually lies
LARGEST = 10**8  # pixels
MODES = {"L": "gray", "LA": "gray with alpha", "I;16": "gray", "RGBA": "RGB with alpha", "P": "palette"}
SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
}  # MPO: of several pictures, of telephones
Image.MAX_IMAGE_PIXELS = None  # the limit above is checked instead
DARK = 2**14  # no pixel of a 16-bit picture reaches it: its values have fewer bits


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) from the header of a picture, without decoding it.

    Raises: InputError if the file is missing or is not a picture.
    """
    try:
        with open(path, "rb") as file, _header(path, file) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise InputError(f"{path}: no such picture") from None
    except OSError as error:
        raise InputError(f"{path}: picture cannot be read ({error.strerror})") from None


def is_deep(path: str | Path) -> bool:
    """Say whether a picture has 16 bits a channel, from its header.

    Raises: InputError if it is not a picture.
    """
    with open(path, "rb") as file, _header(path, file) as image:
        return image.format == "PNG" and _bits(file) == 16


def check_image(path: str | Path) -> tuple[int, int]:
    """Check that a picture is 8-bit RGB, has the suffix of its format, and is complete; return (height, width).

    Usually it reads the header and the last bytes alone; `read_image` finds damage between them.
    Raises: InputError naming what is wrong.
    """
    size = image_size(path)
    with open(path, "rb") as file, _header(path, file) as image:
        bits = _bits(file) if image.format == "PNG" else 8
        if image.mode != "RGB" or bits != 8:
            found = f"{bits}-bit {MODES.get(image.mode, image.mode)}"
            raise InputError(f"{path}: a picture of {found}; 8-bit RGB is expected: convert it")
        if not has_suffix(path, SUFFIXES[image.format]):
            raise InputError(f"{path}: a {image.format} by its content; name it {SUFFIXES[image.format][0]}")
        file.seek(-min(TAIL, Path(path).stat().st_size), 2)
        if (PNG_END if image.format == "PNG" else JPEG_END) not in file.read():
            file.seek(0)
            _check_structure(path, image.format, file.read())
    return size


def read_image(path: str | Path, *, white: int = 0) -> np.ndarray:
    """Read a picture as [H,W,3] uint8 BGR; gray, transparent and 16-bit pictures are converted.

    Rows and columns are those of the sensor, as the spikes have them: an orientation tag is ignored.
    white: the value of white in a 16-bit picture; 0 stands for 65535, and pictures that are far darker are refused.
    Raises: InputError if the file is missing, is not a picture, or is damaged.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: picture cannot be read ({error.strerror})") from None
    with _header(path, io.BytesIO(data)) as header:
        kind, mode = header.format, header.mode
    _check_structure(path, kind, data)
    if kind != "PNG":
        return decode_jpeg(path, data, mode)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    bits = _bits(io.BytesIO(data))
    if bits < 8:
        raise InputError(f"{path}: a picture of {bits} bit{'s' * (bits > 1)} a channel; 8 or 16 are accepted")
    has_16_bits = bits == 16
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | (cv2.IMREAD_ANYDEPTH if has_16_bits else 0))
    if image is None:
        raise InputError(f"{path}: the data of the PNG are damaged; copy it or make it again")
    return _to_8_bits(path, image, white) if has_16_bits else image


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
    """Read the header of a PNG or JPEG.

    Raises: InputError if there is none, or its size exceeds that of any camera.
    """
    try:
        image = Image.open(file, formats=("PNG", "JPEG"))
    except Exception:  # its type depends on where the header is broken; the file itself is open and readable
        size = file.seek(0, 2)
        raise InputError(f"{path}: not a readable picture ({size} bytes); PNG and JPEG are accepted") from None
    if image.height * image.width > LARGEST:
        raise InputError(f"{path}: says that it is {image.height}x{image.width}; at most {LARGEST:,} pixels are read")
    return image


def _bits(file: BinaryIO) -> int:
    """Return the bits per channel of a PNG."""
    file.seek(24)
    return file.read(1)[0]


def _check_structure(path: str | Path, kind: str, data: bytes) -> None:
    """Walk through the chunks of a PNG or the segments of a JPEG up to its end; bytes behind that are ignored.

    Raises: InputError if the end is missing, a chunk of a PNG does not have its checksum, or it is animated.
    """
    is_whole = _png_is_whole(path, data) if kind == "PNG" else segments(data)[-1][0] == JPEG_END[1]
    if not is_whole:
        raise InputError(f"{path}: picture is truncated (no end marker); copy it or make it again")


def _png_is_whole(path: str | Path, data: bytes) -> bool:
    at, view = 8, memoryview(data)
    while (end := at + 12 + int.from_bytes(data[at : at + 4], "big")) <= len(data):
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise InputError(f"{path}: damaged at byte {at} (checksum of a PNG chunk); copy it or make it again")
        if data[at + 4 : at + 8] == b"acTL":
            raise InputError(f"{path}: an animated PNG; save one picture")
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False


def _to_8_bits(path: str | Path, image: np.ndarray, white: int) -> np.ndarray:
    """Scale [H,W,3] uint16 so that `white` becomes 255."""
    if white:
        return np.rint(np.minimum(image, white) * (255 / white)).astype(np.uint8)
    if 0 < (brightest := int(image.max())) < DARK:
        bits = max(brightest.bit_length(), 8)
        raise InputError(
            f"{path}: a 16-bit picture with values up to {brightest}, nearly black: if they have {bits} bits, multiply "
            f"them by {2 ** (16 - bits)} (make_gopro.py --white {2**bits - 1} does it), if it is so dark, save 8 bits"
        )
    return (image >> 8).astype(np.uint8)
