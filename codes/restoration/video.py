"""Videos of restored frames, .mp4 or .gif, complete or not written at all."""

import io
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from PIL import Image

from codes.errors import InputError
from codes.files import replacing

SUFFIXES = (".mp4", ".gif")


def check_video(path: str | Path) -> None:
    """Raise InputError if `write_video` does not write videos of this suffix."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a video ends with {' or '.join(SUFFIXES)}")


def write_video(path: str | Path, frames: Iterable[np.ndarray], *, rate: float) -> None:
    """Write frames [H,W,3] uint8 BGR, all of one size, at `rate` frames a second; a GIF repeats for ever.

    An .mp4 is H.264 in yuv420p with its index in front, which browsers play; odd sides are padded by one pixel.
    Raises: InputError for another suffix, or if there are no frames.
    """
    check_video(path)
    frames = iter(frames)
    if (first := next(frames, None)) is None:
        raise InputError(f"{path}: there are no frames to write")
    write = _gif if Path(path).suffix.lower() == ".gif" else _mp4
    content = write(chain((first,), frames), first.shape[:2], rate)
    with replacing(path) as file:
        file.write(content)


def _gif(frames: Iterable[np.ndarray], _: tuple[int, int], rate: float) -> bytes:
    first, *others = (Image.fromarray(frame[..., ::-1]).quantize() for frame in frames)
    content = io.BytesIO()
    first.save(content, "GIF", save_all=True, append_images=others, duration=round(1000 / rate), loop=0)
    return content.getvalue()


def _mp4(frames: Iterable[np.ndarray], size: tuple[int, int], rate: float) -> bytes:
    height, width = size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")  # a file: moving the index to the front reads what was written
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001), options={"crf": "14"})
            stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            for frame in frames:
                even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="bgr24")))
            container.mux(stream.encode())
        return path.read_bytes()
