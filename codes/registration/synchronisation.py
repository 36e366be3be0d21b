"""Synchronisation of one picture: the spike frames over which it was exposed, as `recording` finds those of many."""

from dataclasses import dataclass

import numpy as np

from codes.registration.evidence import Shot
from codes.registration.intensity import Read
from codes.registration.recording import find_clock


@dataclass(frozen=True)
class FoundExposure:
    """The spike frames over which a picture was exposed."""

    start: int
    length: int
    correlation: float  # of the window with the picture, without its noise
    deviation: tuple[float, float]  # standard deviations of the start and the end, in spike frames
    reason: str = ""  # why it is not sure, a sentence

    @property
    def is_sure(self) -> bool:
        return not self.reason


def find_exposure(
    read: Read,  # upright
    total: int,
    picture: np.ndarray,
    homography: np.ndarray,
    *,
    is_exact: bool = False,
    gain: np.ndarray | None = None,
) -> FoundExposure:
    """Find the exposure of a picture [H,W,3] or [H,W], uint8, in a stream of `total` spike frames.

    homography: from picture to upright spikes, of `register`. is_exact: it holds whatever the exposure is; else each
    window is compared with all that small affine maps make of the picture, as a registration to another window follows
    the motion of the scene. gain: relative sensitivity of the upright pixels [h,w], which is undone; None: not known.
    Reads the stream in parts, so that memory does not depend on its length.
    """
    shot = Shot("", picture, read, total, number=0, expected=total / 2, spread=total / 2, gain=gain)
    found = find_clock([shot], "upright", homography, model="none" if is_exact else "affine")
    start, length = found.clock.exposure(0)
    return FoundExposure(start, length, found.correlation, found.deviation, found.reason)
