"""Pictures as a film: .mp4 or .gif, whole or not there."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from codes.errors import InputError
from codes.files import replacing

SUFFIXES = (".mp4", ".gif")


def check_video(path: str | Path) -> None:
    """Raise InputError if the suffix is of no kind of film that `write_video` writes."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a film ends with {' or '.join(SUFFIXES)}")


def write_video(path: str | Path, frames: Iterable[np.ndarray], *, rate: float) -> None:
    """Write frames [H,W,3] uint8 BGR, all of one size, at `rate` frames a second; a GIF plays for ever.

    Raises: InputError for another suffix, or if this OpenCV cannot write MPEG-4.
    """
    check_video(path)
    with replacing(path) as file:
        if Path(path).suffix.lower() == ".gif":
            first, *others = (Image.fromarray(frame[..., ::-1]).quantize() for frame in frames)
            first.save(file, "GIF", save_all=True, append_images=others, duration=round(1000 / rate), loop=0)
        else:
            file.write(_mp4(frames, rate))


def _mp4(frames: Iterable[np.ndarray], rate: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path, writer = Path(folder, "film.mp4"), None
        for frame in frames:
            # MPEG-4 has whole pairs of rows and columns.
            even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
            if writer is None:
                code = cv2.VideoWriter_fourcc(*"mp4v")
                writer = cv2.VideoWriter(str(path), code, rate, (even.shape[1], even.shape[0]))
                if not writer.isOpened():
                    raise InputError("this OpenCV writes no .mp4 (it was built without FFmpeg); choose .gif")
            writer.write(even)
        writer.release()
        return path.read_bytes()
