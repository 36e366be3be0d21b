"""Check whether spikes and picture are aligned, oriented alike and exposed at the same time; nothing is estimated."""

import itertools
from collections.abc import Iterable

import cv2
import numpy as np

from codes.data.orientation import ORIENTATIONS, upright

ALIKE, SHIFTED = 0.8, 2.0  # minimum correlation of what is aligned; picture pixels at most, which cost LDN some 4 dB
MARGIN = 0.05  # by which the correlation of another orientation must exceed that of the expected one
TIME_MARGIN = 0.01  # likewise of another start of the exposure
STARTS = 33  # starts that are compared


def align(average: np.ndarray, picture: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Compare a TFP [h,w] with a picture [H,W,3] uint8: correlation, and where it lies, (x, y) in picture pixels."""
    height, width = average.shape
    small, average = _gray_of_size(picture, height, width), average.astype(np.float64)
    window = np.outer(np.hanning(height), np.hanning(width))
    below, right = (_transformed(side) - side for side in (height, width))
    both = ((_standard(x) * window, 0, below, 0, right, cv2.BORDER_CONSTANT) for x in (small, average))
    (x, y), _ = cv2.phaseCorrelate(*(cv2.copyMakeBorder(*one) for one in both))
    return correlation(small, average), (x * picture.shape[1] / width, y * picture.shape[0] / height)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two images of one size; 0 if either is flat."""
    return float((_standard(one) * _standard(other)).mean())


def is_aligned(correlation: float, shift: tuple[float, float]) -> bool:
    """Say whether what `align` found is good enough to restore by."""
    return correlation > ALIKE and max(map(abs, shift)) < SHIFTED


def is_flat(average: np.ndarray) -> bool:
    """Say whether all pixels of a TFP [h,w] fire alike, but for a few defective ones: it shows nothing."""
    low, high = np.percentile(average, (2, 98))
    return bool(low == high)


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


def _transformed(side: int) -> int:
    """Return the next even side that OpenCV transforms as it is: of an odd one it finds a shift of half a pixel."""
    return next(size for size in itertools.count(side + side % 2, 2) if cv2.getOptimalDFTSize(size) == size)


def _gray_of_size(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if picture.ndim == 3 else picture
    return cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA).astype(np.float64)


def _standard(image: np.ndarray) -> np.ndarray:
    """Bring to mean 0 and deviation 1; 0 everywhere if it is flat."""
    spread = image.std()
    return (image - image.mean()) / spread if spread > 0 else np.zeros(image.shape)
