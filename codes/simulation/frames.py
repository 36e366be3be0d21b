"""Frames of raw footage at the rate of the spike camera: the raw frames, and interpolated ones between them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from codes.errors import InputError
from codes.motion.interpolation import interpolator, is_cut
from codes.simulation.footage import Footage

SMALLEST = 16  # pixels along a side of a frame


@dataclass(frozen=True)
class Interpolation:
    """How the frames between two raw frames are made."""

    factor: int = 8  # spike frames from one raw frame to the next
    method: str = "dis"  # of INTERPOLATORS; none: the footage holds every spike frame
    weights: str = ""  # of RAFT; without them torchvision downloads its own
    device: str = ""  # of RAFT
    white: int = 0  # value of white in 16-bit pictures, as in `read_image`

    @property
    def step(self) -> int:
        """Spike frames from one frame of the footage to the next."""
        return 1 if self.method == "none" else self.factor

    def frames(self, footage: Footage, first: int, last: int) -> Iterator[tuple[int, np.ndarray, bool]]:
        """Yield the interpolated frames first..last, cropped, and the raw ones around them: (index, frame, cut).

        cut: a new scene begins with this raw frame; the frames between the last one and this are left out.
        """
        step, before = self.step, None
        between = None if step == 1 else interpolator(self.method, weights=self.weights, device=self.device)
        for number, after in enumerate(footage.read(first // step, -(-last // step), white=self.white), first // step):
            after = _crop(after)
            cut = before is not None and is_cut(before, after)
            if between and before is not None and not cut:
                start = (number - 1) * step
                places = [place for place in range(start + 1, start + step) if first <= place <= last]
                times = [(place - start) / step for place in places]
                for place, frame in zip(places, between(before, after, times), strict=True):
                    yield place, frame, False
            yield number * step, after, cut
            before = after


def cropped(height: int, width: int) -> tuple[int, int]:
    """Return the largest (height, width) whose spike frames are whole bytes: multiples of 8 and 16.

    Raises: InputError if frames are smaller than optical flow needs.
    """
    if min(height, width) < SMALLEST:
        raise InputError(f"frames of {height}x{width}: at least {SMALLEST}x{SMALLEST} are needed")
    return height // 8 * 8, width // 16 * 16


def _crop(frame: np.ndarray) -> np.ndarray:
    """Cut the middle out of a frame, so that a spike frame of it is whole bytes."""
    height, width = cropped(*frame.shape[:2])
    top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
    return np.ascontiguousarray(frame[top : top + height, left : left + width])
