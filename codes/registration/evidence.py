"""What the windows of a stream tell of when pictures were exposed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from codes.registration.intensity import AROUND, Read, cumulative_intensity
from codes.registration.windows import Products, SeenPicture, cumulative, products

AT_ONCE = 512  # spike frames that are read at once


class Shot(NamedTuple):
    """A picture and the stream that its exposure lies in."""

    name: str
    picture: np.ndarray  # [H,W,3] uint8
    read: Read  # spike frames as they are stored
    total: int
    number: int  # of the picture by the clock of the recording; 0 if it has a stream of its own
    expected: float  # spike frame about which the exposure starts, if pictures fill the stream evenly
    spread: float  # spike frames by which it may be off
    gain: np.ndarray | None = None  # [h,w], relative, of the pixels of the stream as it is stored; None: not known

    def without_gain(self, mean: np.ndarray) -> np.ndarray:
        """Undo the gain in spikes, their sums or means [...,h,w]."""
        return mean if self.gain is None else mean / self.gain


class Evidence(NamedTuple):
    """Scalar products of n pictures with the windows of S starts and L lengths, for each of G groups of pixels.

    R references: the picture, and its derivatives by the parameters of an affine map of the spikes.
    """

    starts: np.ndarray  # [n,S], spike frames, evenly spaced
    lengths: np.ndarray  # [L]
    cross: np.ndarray  # [n,G,S,L], energy of a window without its noise; 1 for windows outside the stream
    noise: np.ndarray  # [n,G,S,L], energy of its noise
    along: np.ndarray  # [n,G,R,S,L], of a window with the references; 0 for windows outside the stream
    own: np.ndarray  # [n,G,R,R], of the references with each other


def evidence_of(
    shot: Shot, seen: SeenPicture, starts: np.ndarray, lengths: np.ndarray, *, block: int, is_fine: bool
) -> Evidence:
    """Compare a picture with the windows of its stream, which is upright.

    starts: [S], may lie outside the stream. block: spike pixels along a side that are averaged.
    is_fine: of the intensity of intervals, which leave less noise at the ends of a window than spikes.
    """
    step = int(starts[1] - starts[0])
    at_once = max((AT_ONCE - lengths[-1]) // step, 1)
    parts = []
    for part in np.split(starts, range(at_once, len(starts), at_once)):
        ends = np.unique(part[:, None] + np.array([0, *lengths]))
        inside = np.unique(ends.clip(0, shot.total))
        margin = AROUND if is_fine else 0
        first, stop = max(0, int(inside[0]) - margin), min(shot.total, int(inside[-1]) + margin)
        if stop - first < 2:
            inside, first, stop = np.array([0, 1]), 0, 1
        spikes = shot.read(first, stop)
        sums = cumulative_intensity(spikes)[inside - first] if is_fine else cumulative(spikes, inside - first)
        parts.append(_of_windows(products(shot.without_gain(sums), seen, block), inside, part, lengths))
    cross, noise, along = (np.concatenate([one[name] for one in parts], -2) for name in range(3))
    return Evidence(starts[None], lengths, cross[None], noise[None], along[None], parts[0][3][None])


def joined(parts: Sequence[Evidence]) -> Evidence:
    """Return the evidence of several pictures, of windows of the same lengths."""
    names = ("starts", "cross", "noise", "along", "own")
    together = {name: np.concatenate([getattr(one, name) for one in parts]) for name in names}
    return parts[0]._replace(**together)


def _of_windows(
    found: Products, ends: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pick the windows of starts and lengths from all between any two ends."""
    stops = starts[:, None] + lengths
    begin, end = (np.searchsorted(ends, one).clip(0, len(ends) - 1) for one in (starts[:, None], stops))
    is_inside = (ends[begin] == starts[:, None]) & (ends[end] == stops)
    cross = np.where(is_inside, found.cross[:, begin, end], 1)
    noise = np.where(is_inside, found.noise[:, begin, end], 0)
    along = np.where(is_inside, found.along[..., end] - found.along[..., begin], 0)
    return cross.astype(np.float32), noise.astype(np.float32), along.astype(np.float32), found.own
