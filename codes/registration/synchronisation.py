"""Synchronisation: the spike frames over which a picture was exposed.

The mean of the spikes over the exposure shows the blur of the picture. Every window of the stream is compared with the
picture, in its view of the spikes. A window of n spike frames has noise whose variance falls with n: a plain residual
prefers long windows. Each block of spike pixels is therefore divided into two halves, as on a chessboard. They show the
same intensity with independent noise, so the product of both has no noise in the mean where the square of their sum
has; the correlation with the picture is normalised by it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from codes.registration.geometry import enlargement
from codes.registration.homography import brightness
from codes.registration.intensity import Read, cumulative_intensity

LENGTHS = (17, 257)  # spike frames of an exposure that is searched for
BLOCK = 2  # spike pixels along a side
STEP = 8  # spike frames between the windows of the search through a whole stream
AT_ONCE = 512  # spike frames that are read at once
HIGH_PASS = 12.0  # spike pixels, standard deviation of the mean that is subtracted
SMOOTH = 0.5  # blocks, standard deviation: texture finer than a block differs between its halves
GROUPS = 6  # of pixels; halves of them are compared with each other
SURE = 0.8  # spike frames of standard deviation, at most, of an exposure that is sure
LEAST_CORRELATION = 0.5  # of a window that shows the picture


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
    lengths: tuple[int, int] = LENGTHS,
    gain: np.ndarray | None = None,
) -> FoundExposure:
    """Find the exposure of a picture [H,W,3] or [H,W], uint8, in a stream of `total` spike frames.

    homography: from picture to upright spikes, of `register`. is_exact: it holds whatever the exposure is; else each
    window is compared with all that small affine maps make of the picture, as a registration to another window follows
    the motion of the scene. lengths: the least and the largest one that is searched. gain: relative sensitivity of the
    upright pixels [h,w], which is undone; None: not known.
    Reads the stream in parts, so that memory does not depend on its length.
    """
    shape = read(0, 1).shape[1:]
    view = _view(picture, homography, shape, is_exact)
    charge = np.ones(shape, np.float32) if gain is None else 1 / gain  # that a spike of each pixel stands for
    largest = min(lengths[1], total)
    least = min(lengths[0], largest)
    start, length = _search(read, total, view, charge, least=least, largest=largest)
    first, stop = max(0, start - 2 * STEP), min(total, start + length + 2 * STEP)
    spikes = read(first, stop)
    view = view.linear(charge * spikes[start - first : start - first + length].mean(0))
    return _refine(spikes, view, charge, first=first, least=least, largest=largest)


@dataclass(frozen=True)
class _View:
    """The picture [h,w] as the spike camera would see it, and the pixels [h,w] that it shows."""

    picture: np.ndarray
    mask: np.ndarray
    is_exact: bool

    def references(self) -> np.ndarray:
        """Return the picture and, if not exact, its derivatives by the parameters of an affine map: [1 or 7,h,w]."""
        if self.is_exact:
            return self.picture[None]
        x, y = (cv2.Sobel(self.picture, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1)))
        rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in self.picture.shape)
        u, v = columns[None], rows[:, None]
        return np.stack((self.picture, x, y, x * u, x * v, y * u, y * v))

    def linear(self, mean: np.ndarray) -> "_View":
        """Undo the response of the picture: the cubic polynomial of its values that fits a mean of spikes [h,w]."""
        powers = self.picture[..., None] ** np.arange(4, dtype=np.float32)
        coefficients = np.linalg.lstsq(powers[self.mask], mean[self.mask], rcond=None)[0]
        return _View((powers @ coefficients).astype(np.float32), self.mask, self.is_exact)


def _view(picture: np.ndarray, homography: np.ndarray, shape: tuple[int, ...], is_exact: bool) -> _View:
    """Bring a picture into the view of spikes of a shape (h, w), averaged over the area of a spike pixel."""
    gray = brightness(picture)
    per_spike = 1 / np.sqrt(abs(np.linalg.det(homography[:2, :2])))
    height, width = (max(round(side / max(per_spike / 2, 1.0)), 8) for side in gray.shape)
    small = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
    twice = enlargement(shape, (2 * shape[0], 2 * shape[1])) @ homography @ enlargement(small.shape, gray.shape)
    size = (2 * shape[1], 2 * shape[0])
    seen = cv2.warpPerspective(small, twice, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpPerspective(np.ones_like(small), twice, size, flags=cv2.INTER_LINEAR)
    area = (shape[1], shape[0])
    mask = cv2.resize(inside, area, interpolation=cv2.INTER_AREA) > 0.99
    return _View(cv2.resize(seen, area, interpolation=cv2.INTER_AREA), mask, is_exact)


def _search(read: Read, total: int, view: _View, charge: np.ndarray, *, least: int, largest: int) -> tuple[int, int]:
    """Compare windows whose ends lie STEP spike frames apart; return the best start and length."""
    best, found = -np.inf, (0, largest)
    advance = max(AT_ONCE - largest, STEP) // STEP * STEP
    for begin in range(0, max(total - largest, 0) + 1, advance):
        spikes = read(begin, min(begin + advance + largest, total))
        ends = np.unique([*range(0, len(spikes) + 1, STEP), len(spikes)])
        sums = charge * _cumulative(spikes, ends)
        score = _scores(sums, view.linear(sums[-1]), 2 * BLOCK, ends, least=least, largest=largest)
        start, end = np.unravel_index(score.argmax(), score.shape)
        if score[start, end] > best:
            best, found = score[start, end], (begin + int(ends[start]), int(ends[end] - ends[start]))
    return found


def _refine(
    spikes: np.ndarray, view: _View, charge: np.ndarray, *, first: int, least: int, largest: int
) -> FoundExposure:
    """Compare all windows of spikes [T,h,w], which start at frame `first` of the stream."""
    ends = np.arange(len(spikes) + 1)
    # Intervals leave less noise at the ends of a window than spikes.
    products = _products(charge * cumulative_intensity(spikes), view, BLOCK)
    admitted = _admitted(ends, least, largest)

    def best(groups: Sequence[int]) -> np.ndarray:
        score = _correlation(*(one[list(groups)].sum(0) for one in products))
        return np.array(np.unravel_index(np.where(admitted, score, -1).argmax(), score.shape))

    start, end = (int(at) for at in best(range(GROUPS)))
    correlation = float(_correlation(*(one.sum(0) for one in products))[start, end])
    # Estimates from two halves of the pixels differ by twice the deviation of the estimate from all of them.
    halves = [half for half in itertools.combinations(range(GROUPS), GROUPS // 2) if 0 in half]
    apart = [best(half) - best(sorted({*range(GROUPS)} - {*half})) for half in halves]
    deviation = np.sqrt(np.mean(np.square(apart), axis=0)) / 2
    reason = ""
    if correlation < LEAST_CORRELATION:
        reason = "no window of the stream shows the picture"
    elif max(deviation) > SURE:
        reason = "the scene hardly moves, or always the same way: other exposures fit as well"
    return FoundExposure(first + start, end - start, correlation, (float(deviation[0]), float(deviation[1])), reason)


def _scores(total: np.ndarray, view: _View, block: int, ends: np.ndarray, *, least: int, largest: int) -> np.ndarray:
    correlation = _correlation(*(one.sum(0) for one in _products(total, view, block)))
    return np.where(_admitted(ends, least, largest), correlation, -1)


def _admitted(ends: np.ndarray, least: int, largest: int) -> np.ndarray:
    length = ends[None] - ends[:, None]
    return (length >= least) & (length <= largest)


def _cumulative(spikes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sum spikes [T,h,w] from the first frame to each of the ends: [len(ends),h,w] float32."""
    total = np.zeros((len(ends), *spikes.shape[1:]), np.float32)
    for index, (begin, end) in enumerate(itertools.pairwise(ends)):
        total[index + 1] = total[index] + spikes[begin:end].sum(0, dtype=np.float32)
    return total


def _products(total: np.ndarray, view: _View, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scalar products of windows between any two ends, for each of GROUPS of blocks.

    total: [E,h,w], sums of spikes from the first frame to each end.
    Returns: of the halves with each other, [GROUPS,E,E], of both with the R references of the view, [GROUPS,R,E], and
    of the references with each other, [GROUPS,R,R].
    """
    height, width = (side // block * block for side in view.mask.shape)
    rows, columns = np.indices((height, width))
    even = ((rows + columns) % 2 == 0).astype(np.float32)
    mask = _means(view.mask[:height, :width].astype(np.float32), block) > 0.99

    def features(image: np.ndarray) -> np.ndarray:
        small = cv2.GaussianBlur(_means(image, block), (0, 0), SMOOTH)
        return (small - _smooth(small, mask, HIGH_PASS / block))[mask]

    halves = [np.stack([features(2 * one[:height, :width] * half) for one in total]) for half in (even, 1 - even)]
    references = np.stack([features(one[:height, :width]) for one in view.references()])
    place = (rows[::block, ::block] // 8 + 3 * (columns[::block, ::block] // 8))[mask] % GROUPS
    cross, along, own = [], [], []
    for group in range(GROUPS):
        one, other, seen = (values[..., place == group] for values in (*halves, references))
        gram = one @ other.T
        gram = (gram + gram.T) / 2
        square = np.diag(gram)
        cross.append(square[:, None] + square[None] - 2 * gram)
        along.append(seen @ (one + other).T / 2)
        own.append(seen @ seen.T)
    return np.stack(cross), np.stack(along), np.stack(own)


def _correlation(cross: np.ndarray, along: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return the multiple correlation of each window with the references, [E,E]; 0 where it opposes the picture."""
    regularised = own + 1e-6 * np.diag(np.diag(own) + 1e-12)
    whitened = np.linalg.solve(np.linalg.cholesky(regularised), along)
    square = np.zeros_like(cross)
    for row in whitened:
        square += (row[None] - row[:, None]) ** 2
    with_picture = along[0][None] - along[0][:, None]
    return np.where(with_picture > 0, np.sqrt(square / np.maximum(cross, 1e-6 * cross.max() + 1e-12)), 0)


def _means(image: np.ndarray, block: int) -> np.ndarray:
    return cv2.resize(image, (image.shape[1] // block, image.shape[0] // block), interpolation=cv2.INTER_AREA)


def _smooth(image: np.ndarray, mask: np.ndarray, deviation: float) -> np.ndarray:
    inside = mask.astype(np.float32)
    share = np.maximum(cv2.GaussianBlur(inside, (0, 0), deviation), 1e-3)
    return cv2.GaussianBlur(image * inside, (0, 0), deviation) / share
