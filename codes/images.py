"""Pictures on disk: BGR, whole, with names in any alphabet."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from codes.errors import InputError
from codes.files import replacing

PNG_END = b"IEND\xaeB`\x82"
JPEG_END = b"\xff\xd9"
TAIL = 4096  # cameras may write a few bytes after the end marker


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) from the header of a picture, without decoding it.

    Raises: InputError if there is no such file or it is no picture.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise InputError(f"{path}: no such picture") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable picture ({error})") from None


def check_image(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of a picture that is there and ends where it should, at the cost of two small reads.

    Raises: InputError if it is missing, no picture, or truncated.
    """
    size = image_size(path)
    with open(path, "rb") as file:
        head = file.read(4)
        file.seek(-min(TAIL, Path(path).stat().st_size), 2)
        _refuse_truncated(path, head, file.read())
    return size


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as [H,W,3] uint8 BGR.

    Raises: InputError if the file is missing, is no picture, or ends too early (decoders fill the rest with gray).
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: picture cannot be read ({error.strerror})") from None
    _refuse_truncated(path, data[:4], data[-TAIL:])
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise InputError(f"{path}: not a readable picture ({len(data)} bytes); PNG and JPEG are accepted")
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


def _refuse_truncated(path: str | Path, head: bytes, tail: bytes) -> None:
    end = PNG_END if head == b"\x89PNG" else JPEG_END if head[:2] == b"\xff\xd8" else b""
    if end not in tail:
        raise InputError(f"{path}: picture is truncated (no end marker); copy it or make it again")
