"""Spikes and picture of one scene: whether they are oriented alike, and which spike frames the exposure covers."""

from collections.abc import Iterable

import numpy as np

from codes.data.orientation import ORIENTATIONS, upright
from codes.restoration.file_format import ALIKE, align

MARGIN = 0.05  # by which the correlation of another orientation must exceed that of the expected one
TIME_MARGIN = 0.01  # likewise of another start of the exposure
STARTS = 33  # starts that are compared


def better_orientation(averages: Iterable[np.ndarray], picture: np.ndarray) -> tuple[str, float] | None:
    """Find the orientation in which spikes show a picture [H,W,3] uint8, if it is clearly not upright.

    averages: TFPs [h,w] of the possible readings of the spikes, the expected one first.
    Returns: its name in `ORIENTATIONS` and its correlation, or None.
    """
    found = {"upright": -1.0}
    for average in averages:
        for name in ORIENTATIONS:
            candidate = upright(average, name)
            if abs(np.log(candidate.shape[0] * picture.shape[1] / (candidate.shape[1] * picture.shape[0]))) < 0.1:
                found[name] = max(found.get(name, -1.0), align(candidate, picture)[0])
    best = max(found, key=lambda name: found[name])
    return (best, found[best]) if _is_clearly_better(found[best], found["upright"], MARGIN) else None


def better_start(
    spikes: np.ndarray, picture: np.ndarray, *, start: int, length: int
) -> tuple[int, float, float] | None:
    """Find a start of the exposure that fits a picture [H,W,3] uint8 clearly better than the given one.

    The TFP over an exposure shows the blur of the picture; in a static scene all starts fit equally well.
    spikes: [T,h,w]; starts up to one `length` away from the given one are compared.
    Returns: the better start, its correlation, and that of the given start, or None.
    """
    first, last = max(0, start - length), min(len(spikes) - length, start + length)
    starts = sorted({start, *np.linspace(first, last, STARTS).round().astype(int).tolist()})
    totals = np.zeros((len(starts), *spikes.shape[1:]))
    for total, begin in zip(totals, starts, strict=True):
        total += spikes[begin : begin + length].sum(0)
    found = {begin: align(total / length, picture)[0] for begin, total in zip(starts, totals, strict=True)}
    best = max(found, key=lambda begin: found[begin])
    is_better = _is_clearly_better(found[best], found[start], TIME_MARGIN)
    return (best, found[best], found[start]) if is_better else None


def _is_clearly_better(best: float, expected: float, margin: float) -> bool:
    return best > ALIKE and best > expected + margin and 1 - best < (1 - expected) / 2
