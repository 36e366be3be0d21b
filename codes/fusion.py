"""More pixels than the spike camera has: neighbouring instants, moved to where they belong at one instant, fill them.

What moves is seen by every spike pixel at another place from tick to tick. Optical flow between short averages says
where; the samples are spread over a grid four times finer, as corrections of a bicubic enlargement (iterative
back-projection, Irani and Peleg, "Improving resolution by image registration", CVGIP 1991). Nothing is trained.
"""

from collections.abc import Callable
from itertools import combinations_with_replacement, product

import cv2
import numpy as np

from codes.spikes import UPSCALE

REACH, STEP = 48, 2  # ticks to either side that are looked at, and between them
SAMPLE, MATCHED = 5, 9  # ticks averaged for a sample, and for the pictures that flow is found between
FADES = 40.0  # ticks after which a sample counts 1/e
TOLERANCE = 0.3  # difference of light, of 1, at which a sample counts 1/e: it shows something else
SPREAD = 1.13  # picture pixels, standard deviation of a sample's footprint
DOUBT = 1.0  # weight of the enlargement, in samples at the very pixel
ROUNDS = 8
SMALLEST = 32  # spike pixels along a side that flow needs


def fuse(mean: "Means", center: int, *, step: int = STEP) -> np.ndarray:
    """Enlarge light at an instant by 4: `Means` of light of a stream, about 0..1, at [h,w] -> [4h,4w] float32.

    A spike pixel is taken as the mean of the inner 2x2 of its 4x4 picture pixels, as the simulator makes it. `step`:
    ticks between the samples that are brought to the instant.
    """
    reference = mean(center, MATCHED)
    height, width = reference.shape
    fine = _enlarge(reference)
    samples = [np.stack(_arrived(mean, center, other, reference, fine)) for other in _others(center, len(mean), step)]
    x, y, value, weight = np.concatenate([sample.reshape(4, -1) for sample in samples], 1)
    inside = (weight > 0.05) & (x >= 0) & (x <= 4 * width - 1) & (y >= 0) & (y <= 4 * height - 1)
    x, y, value, weight = x[inside], y[inside], value[inside], weight[inside]
    explained_by, observed = _normal_equations(x, y, value, weight, fine.shape)

    def spread(picture: np.ndarray) -> np.ndarray:
        """Give every pixel what the samples around it say."""
        return cv2.GaussianBlur(picture, (0, 0), SPREAD, borderType=cv2.BORDER_CONSTANT)

    share = spread(explained_by(np.ones_like(fine))) + DOUBT / (2 * np.pi * (SPREAD**2 + 1 / 6))
    for _ in range(ROUNDS):
        fine = fine + spread(observed - explained_by(fine)) / share
    return fine


class Means:
    """Averages of light [T,h,w] over windows of ticks, cut at its ends, each in one subtraction."""

    def __init__(self, light: np.ndarray):
        self.total = np.concatenate((np.zeros_like(light[:1]), np.cumsum(light, 0, np.float64)), dtype=np.float64)

    def __len__(self) -> int:
        return len(self.total) - 1

    def __call__(self, center: int, length: int) -> np.ndarray:
        first, end = max(center - length // 2, 0), min(center - length // 2 + length, len(self))
        return ((self.total[end] - self.total[first]) / (end - first)).astype(np.float32)


def flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Find where each pixel [h,w] goes: [h,w,2] float32, by dense inverse search down to single pixels."""
    height, width = before.shape
    below, right = max(SMALLEST - height, 0), max(SMALLEST - width, 0)
    eight_bit = (
        cv2.copyMakeBorder(np.rint(255 * x.clip(0, 1)).astype(np.uint8), 0, below, 0, right, cv2.BORDER_REPLICATE)
        for x in (before, after)
    )
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(0)
    return search.calc(*eight_bit, None)[:height, :width]


def _others(center: int, total: int, step: int) -> list[int]:
    """List the ticks whose samples are taken, the instant itself and those whose windows lie inside the stream."""
    margin = MATCHED // 2
    ticks = range(center - REACH // step * step, center + REACH + 1, step)
    return [tick for tick in ticks if margin <= tick < total - margin or tick == center]


def _enlarge(light: np.ndarray) -> np.ndarray:
    return cv2.resize(light, None, fx=UPSCALE, fy=UPSCALE, interpolation=cv2.INTER_CUBIC)


def _arrived(
    mean: Means, center: int, other: int, reference: np.ndarray, fine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Move the samples of a tick to where they lie at the instant: x, y in picture pixels, value, weight [h,w]."""
    rows, columns = np.indices(reference.shape, np.float32)
    x, y = UPSCALE * columns + 1.5, UPSCALE * rows + 1.5
    value = mean(other, SAMPLE)
    if other == center:
        return x, y, value, np.ones_like(value)
    seen = mean(other, MATCHED)
    moved = UPSCALE * flow(seen, reference)
    x, y = x + moved[..., 0], y + moved[..., 1]
    there = cv2.remap(fine, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = np.exp(-(((there - seen) / TOLERANCE) ** 2) - ((other - center) / FADES) ** 2)
    return x, y, value, weight


def _normal_equations(
    x: np.ndarray, y: np.ndarray, value: np.ndarray, weight: np.ndarray, shape: tuple[int, int]
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Sum up what samples say of pictures of a shape: S^T W S as a function of a picture, and S^T W value, [H,W].

    S samples a picture between its pixels, bilinear: half way between four pixels that is what a spike pixel sees. W
    weighs. S^T W S is a stencil of nine points for each pixel, so no sample is looked at again.
    """
    height, width = shape
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    place, right, down = top * width + left, x - left.astype(np.float32), y - top.astype(np.float32)
    corners = list(product((0, 1), repeat=2))  # row and column of each of the four pixels around a sample
    shares = {(row, column): (1 - down, down)[row] * (1 - right, right)[column] for row, column in corners}
    parts = (slice(None, -1), slice(1, None))  # of a side: the first and the second of every two pixels

    def summed(samples: np.ndarray) -> np.ndarray:
        """Add samples up at the first of their four pixels, which the last row and column have none of."""
        return np.bincount(place, samples, height * width).reshape(shape)[:-1, :-1]

    observed, stencil = np.zeros(shape), np.zeros((3, 3, *shape), np.float32)
    for row, column in corners:
        observed[parts[row], parts[column]] += summed(weight * value * shares[row, column])
    for one, other in combinations_with_replacement(corners, 2):
        together = summed(weight * shares[one] * shares[other])
        for (row, column), (other_row, other_column) in {(one, other), (other, one)}:
            stencil[1 + other_row - row, 1 + other_column - column, parts[row], parts[column]] += together

    def explained_by(picture: np.ndarray) -> np.ndarray:
        around = np.pad(picture, 1)
        total, term = np.zeros_like(picture), np.empty_like(picture)
        for row, column in product(range(3), repeat=2):
            np.multiply(stencil[row, column], around[row : row + height, column : column + width], out=term)
            total += term
        return total

    return explained_by, observed.astype(np.float32)
