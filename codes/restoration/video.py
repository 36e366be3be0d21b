"""Videos of restored frames, .mp4, .mkv or .gif, complete or not written at all."""

import shutil
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from PIL import Image

from codes.data.video import ACCURATE
from codes.errors import InputError
from codes.files import replacing

SUFFIXES = (".mp4", ".mkv", ".gif")
BT_601, LIMITED = 6, 1  # matrix and range of an .mp4; without their names players take others for large pictures


def check_video(path: str | Path) -> None:
    """Raise InputError if `write_video` does not write videos of this suffix."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a video ends with {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def write_video(path: str | Path, frames: Iterable[np.ndarray], *, rate: float) -> None:
    """Write frames [H,W,3] uint8 BGR, all of one size, at `rate` frames a second; a GIF repeats for ever.

    An .mp4 is H.264 in yuv420p with its index in front, which browsers play; odd sides are padded by one pixel. An .mkv
    is FFV1, lossless. Memory does not depend on the number of frames, except for a GIF.
    Raises: InputError for another suffix, or if there are no frames.
    """
    check_video(path)
    frames = iter(frames)
    if (first := next(frames, None)) is None:
        raise InputError(f"{path}: there are no frames to write")
    suffix, frames = Path(path).suffix.lower(), chain((first,), frames)
    with replacing(path) as file:
        if suffix == ".gif":
            _gif(file, frames, rate)
        else:
            _encoded(file, frames, first.shape[:2], rate, suffix)


def _gif(file: BinaryIO, frames: Iterable[np.ndarray], rate: float) -> None:
    first, *others = (Image.fromarray(frame[..., ::-1]).quantize() for frame in frames)
    first.save(file, "GIF", save_all=True, append_images=others, duration=round(1000 / rate), loop=0)


def _encoded(file: BinaryIO, frames: Iterable[np.ndarray], size: tuple[int, int], rate: float, suffix: str) -> None:
    height, width = size
    is_lossless = suffix == ".mkv"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"video{suffix}")  # a file: moving the index to the front reads what was written
        with av.open(str(path), "w", options={} if is_lossless else {"movflags": "faststart"}) as container:
            stream = container.add_stream(
                "ffv1" if is_lossless else "libx264",
                rate=Fraction(rate).limit_denominator(1001),
                options={} if is_lossless else {"crf": "14"},
            )
            even = (height % 2, width % 2) if not is_lossless else (0, 0)
            stream.width, stream.height = width + even[1], height + even[0]
            stream.pix_fmt = "bgr0" if is_lossless else "yuv420p"
            if not is_lossless:
                stream.codec_context.colorspace, stream.codec_context.color_range = BT_601, LIMITED
            for frame in frames:
                padded = np.pad(frame, ((0, even[0]), (0, even[1]), (0, 0)), mode="edge")
                image = av.VideoFrame.from_ndarray(padded, format="bgr24")
                container.mux(stream.encode(image.reformat(format=stream.pix_fmt, interpolation=ACCURATE)))
            container.mux(stream.encode())
        with path.open("rb") as made:
            shutil.copyfileobj(made, file)
