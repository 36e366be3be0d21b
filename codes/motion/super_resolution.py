"""More pixels than the spike camera has: neighbouring instants, moved to where they belong at one instant, fill them.

What moves is seen by every spike pixel at another place from tick to tick. Optical flow between short averages says
where; the samples are spread over a grid four times finer, as corrections of a bicubic enlargement (iterative
back-projection, Irani and Peleg, "Improving resolution by image registration", CVGIP 1991). Nothing is trained.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch

from codes.data.spikes import UPSCALE

REACH, STEP = 48, 2  # ticks to either side that are looked at, and between them
FLOW_STEP = 8  # ticks between those whose flow is found; that of the others is interpolated
SAMPLE, MATCHED = 5, 9  # ticks averaged for a sample, and for the pictures that flow is found between
FADES = 40.0  # ticks after which a sample counts 1/e
TOLERANCE = 0.3  # difference of light, of 1, at which a sample counts 1/e: it shows something else
SPREAD = 1.13  # picture pixels, standard deviation of a sample's footprint
DOUBT = 1.0  # weight of the enlargement, in samples at the very pixel
ROUNDS = 8
SMALLEST = 32  # spike pixels along a side that flow needs


def super_resolve(mean: "WindowMeans", center: int, *, step: int = STEP) -> np.ndarray:
    """Enlarge light at an instant by 4: `WindowMeans` of light of a stream, about 0..1, at [h,w] -> [4h,4w] float32.

    A spike pixel is taken as the mean of the inner 2x2 of its 4x4 picture pixels, as the simulator makes it. `step`:
    ticks between the samples that are brought to the instant.
    """
    reference = mean(center, MATCHED)
    height, width = reference.shape
    fine = _enlarge(reference)
    moves = _motion(mean, center, _others(center, len(mean), step))
    samples = [np.stack(_arrived(mean, center, other, move, fine)).reshape(4, -1) for other, move in moves]
    x, y, value, weight = np.concatenate(samples, 1)
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


class WindowMeans:
    """Averages of light [T,h,w] over windows of ticks, cut at its ends, each in one subtraction."""

    def __init__(self, light: np.ndarray):
        self.total = np.zeros((len(light) + 1, *light.shape[1:]))
        for tick, frame in enumerate(light):  # several times as fast as np.cumsum along time
            np.add(self.total[tick], frame, out=self.total[tick + 1])

    def __len__(self) -> int:
        return len(self.total) - 1

    def __call__(self, center: int, length: int) -> np.ndarray:
        first, end = max(center - length // 2, 0), min(center - length // 2 + length, len(self))
        return ((self.total[end] - self.total[first]) / (end - first)).astype(np.float32)


def flow(before: np.ndarray, after: np.ndarray, *, refinements: int = 5) -> np.ndarray:
    """Find where each pixel [h,w] goes: [h,w,2] float32, by dense inverse search down to single pixels.

    `refinements`: iterations of its variational refinement, which take half of its time.
    """
    height, width = before.shape
    below, right = max(SMALLEST - height, 0), max(SMALLEST - width, 0)
    eight_bit = (
        cv2.copyMakeBorder(np.rint(255 * x.clip(0, 1)).astype(np.uint8), 0, below, 0, right, cv2.BORDER_REPLICATE)
        for x in (before, after)
    )
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(0)
    search.setVariationalRefinementIterations(refinements)
    return search.calc(*eight_bit, None)[:height, :width]


def knots_between(first: int, last: int, origin: int) -> list[int]:
    """List the ticks whose flow is found: first, last, and in steps from the origin what lies between."""
    start = origin - (origin - first) // FLOW_STEP * FLOW_STEP
    return sorted({first, *range(start, last, FLOW_STEP), last})


def cubic(knots: list[int], place: int) -> dict[int, float]:
    """Return by knot the shares that values at knots, ascending, have in what is at a place between them.

    Between two knots it is the cubic through both whose slope at each is that of the parabola through it and its two
    neighbours, at the first and last knot that of the line to its only one. At most four shares are not 0.
    """
    if len(knots) == 1:
        return {knots[0]: 1.0}
    after = min(max(bisect_left(knots, place), 1), len(knots) - 1)
    near = knots[max(after - 2, 0) : after + 2]
    values, after = np.eye(len(near)), near.index(knots[after])
    slopes, length = np.gradient(values, near, axis=0), near[after] - near[after - 1]
    way = (place - near[after - 1]) / length
    found = (1 + 2 * way) * (1 - way) ** 2 * values[after - 1] + (3 - 2 * way) * way**2 * values[after]
    found += length * way * (1 - way) * ((1 - way) * slopes[after - 1] - way * slopes[after])
    return {knot: share for knot, share in zip(near, found.tolist(), strict=True) if share}


def interpolated(values: dict[int, np.ndarray], place: int) -> np.ndarray:
    """Return what is at a place between knots, ascending, whose values are given: `cubic`."""
    return sum(share * values[knot] for knot, share in cubic(list(values), place).items())


def _others(center: int, total: int, step: int) -> list[int]:
    """List the ticks whose samples are taken, the instant itself and those whose windows lie inside the stream."""
    margin = MATCHED // 2
    ticks = range(center - REACH // step * step, center + REACH + 1, step)
    return [tick for tick in ticks if margin <= tick < total - margin or tick == center]


def _enlarge(light: np.ndarray) -> np.ndarray:
    return cv2.resize(light, None, fx=UPSCALE, fy=UPSCALE, interpolation=cv2.INTER_CUBIC)


def _motion(mean: WindowMeans, center: int, ticks: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield ticks, given ascending, and where the pixels of each go until the instant: [h,w,2], in spike pixels."""
    reference = mean(center, MATCHED)
    knots = knots_between(ticks[0], ticks[-1], center)
    still = np.zeros((*reference.shape, 2), np.float32)
    flows = {knot: still if knot == center else flow(mean(knot, MATCHED), reference) for knot in knots}
    for tick in ticks:
        yield tick, interpolated(flows, tick)


def _arrived(
    mean: WindowMeans, center: int, other: int, move: np.ndarray, fine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Move the samples of a tick to where they lie at the instant: x, y in picture pixels, value, weight [h,w]."""
    value = mean(other, SAMPLE)
    rows, columns = np.indices(value.shape, np.float32)
    x, y = UPSCALE * (columns + move[..., 0]) + 1.5, UPSCALE * (rows + move[..., 1]) + 1.5
    if other == center:
        return x, y, value, np.ones_like(value)
    there = cv2.remap(fine, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = np.exp(-(((there - mean(other, MATCHED)) / TOLERANCE) ** 2) - ((other - center) / FADES) ** 2)
    return x, y, value, weight


def _normal_equations(
    x: np.ndarray, y: np.ndarray, value: np.ndarray, weight: np.ndarray, shape: tuple[int, int]
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Sum up what M samples, float32, say of pictures of a shape that they lie in.

    Returns S^T W S as a function of a picture, and S^T W value, both [H,W]. S samples a picture between its pixels,
    bilinear: half way between four pixels that is what a spike pixel sees. W weighs. S^T W S is a symmetric stencil of
    nine points for each pixel, so no sample is looked at again.
    """
    height, width = shape
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    place, right, down = torch.from_numpy(top * width + left), x - left.astype(np.float32), y - top.astype(np.float32)
    # The four pixels around a sample, by row and column, and its shares of them.
    shares = {(row, column): (1 - down, down)[row] * (1 - right, right)[column] for row in (0, 1) for column in (0, 1)}
    observed = np.zeros(shape, np.float32)
    stencil = {offset: np.zeros(shape, np.float32) for offset in ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1))}

    def add(samples: np.ndarray, total: np.ndarray, row: int, column: int) -> None:
        """Add samples to one of the four pixels around each; torch is faster than NumPy and lets other threads run."""
        torch.from_numpy(total.reshape(-1)[row * width + column :]).scatter_add_(0, place, torch.from_numpy(samples))

    for (row, column), share in shares.items():
        weighted = weight * share
        add(weighted * value, observed, row, column)
        for (other_row, other_column), other_share in shares.items():
            if (offset := (other_row - row, other_column - column)) in stencil:
                add(weighted * other_share, stencil[offset], row, column)

    def explained_by(picture: np.ndarray) -> np.ndarray:
        total = np.zeros_like(picture)
        for (row, column), part in stencil.items():
            here = slice(0, height - row), slice(max(-column, 0), width - max(column, 0))
            there = slice(row, height), slice(max(column, 0), width + min(column, 0))
            total[here] += part[here] * picture[there]
            if here != there:
                total[there] += part[here] * picture[here]
        return total

    return explained_by, observed
