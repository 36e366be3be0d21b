"""Pictures on disk: BGR, whole, with names in any alphabet."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from codes.errors import InputError
from codes.files import replacing

PNG_END = b"IEND\xaeB`\x82"
JPEG_END = b"\xff\xd9"


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


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as [H,W,3] uint8 BGR.

    Raises: InputError if the file is missing, is no picture, or ends too early (decoders fill the rest with gray).
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: picture cannot be read ({error.strerror})") from None
    cut_png = data[:4] == b"\x89PNG" and PNG_END not in data[-64:]
    cut_jpeg = data[:2] == b"\xff\xd8" and JPEG_END not in data[-4096:]
    if cut_png or cut_jpeg:
        raise InputError(f"{path}: picture is truncated ({len(data)} bytes and no end marker); copy or make it again")
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
