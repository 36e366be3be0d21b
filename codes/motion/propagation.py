"""Frames in the gap between two exposures: those on both sides carried along motion and corrected by the spikes.

No picture was exposed between two exposures, but the spikes tell the intensity at every time. Flow between neighbouring
times, composed to the last frame before and the first frame after, carries colour and detail; what the intensity says
beyond that is added. Where one of the two frames does not show a point, the other is used; where neither does, the
intensity is shown, in the colours around it.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from codes.data.spikes import GRAY_WEIGHTS
from codes.motion.flow import pixel_grid, sample

KNOT_STEP = 16  # spike frames at most between the times whose flow is composed
INCONSISTENT = 1.5  # pixels by which the flows there and back differ, at which the weight of a frame is 0.6
DIFFERENT = 0.1  # difference of intensity, of 1, at which the weight of a frame is 1/e
FINE = 1.5  # pixels, standard deviation: differences finer than this are mostly noise of single spike pixels
# Differences of intensity, of 1, half of which is believed, below it is mostly noise: of coarse and of fine ones.
CREDIBLE, CREDIBLE_FINE = 0.02, 0.2
SMALLEST = 32  # pixels along a side that DIS needs
LEAST = 1e-3  # weight where neither frame fits
UNSEEN = 0.5  # weight of intensity in the colours around it, where neither frame shows a point
COLOUR_SPREAD = 4.0  # pixels, standard deviation, over which these colours are averaged
COLOURLESS = 0.005  # weight of no colour in that average
SHORTEST_BLEND = 32  # spike frames at least, over which one exposure is blended into the next

Intensity = Callable[[int], np.ndarray]  # a time -> [H,W] float32, about 0..1


class Carrier(NamedTuple):
    """Flow at half size from one time to another, [H/2,W/2,2] float32, and its consistency in [0,1], [H/2,W/2]."""

    flow: np.ndarray
    consistency: np.ndarray


def knots_between(first: int, last: int, times: Sequence[int]) -> list[int]:
    """List ascending times from `first` to `last`, all of `times` between them among these, at most KNOT_STEP apart."""
    knots = [first]
    for start, end in pairwise([first, *sorted({time for time in times if first < time < last}), last]):
        parts = max(-(-(end - start) // KNOT_STEP), 1)
        knots += [start + round(part * (end - start) / parts) for part in range(1, parts + 1)]
    return list(dict.fromkeys(knots))


def blended_times(end: int, start: int) -> tuple[int, int]:
    """Return where the blend begins and ends between an exposure whose last spike frame is `end` and the next's first.

    Between exposures far apart the whole gap; else it reaches into both, so that nothing jumps.
    """
    inside = max(SHORTEST_BLEND - (start - end) + 1, 0) // 2
    return end - inside, start + inside


def fill_between(
    before: dict[int, np.ndarray],
    after: dict[int, np.ndarray],
    times: Sequence[int],
    *,
    coarse: Intensity,
    fine: Intensity,
) -> Iterator[np.ndarray]:
    """Yield the frame [H,W,3] float32 in [0,1] at each of ascending times of `blended_times`, ends included.

    before: restored frames [H,W,3] float32 in [0,1] of the exposure before by their times, the last of which is carried
    on; after: of the exposure after, the first is carried back. Both hold a frame at each of `times` inside them.
    coarse: intensity at half the size of the frames, less noise than detail; flow is computed from it. fine: intensity
    at their size, in the same scale of about 0..1.
    Memory grows with the number of times.
    """
    end, start = max(before), min(after)
    first, last = blended_times(end, start)
    wanted = sorted({end, start, *times})
    seen = {knot: _eight_bit(coarse(knot)) for knot in knots_between(wanted[0], wanted[-1], wanted)}
    to_end = dict(_carriers(seen, end))
    to_start = dict(_carriers(seen, start, reverse=True))
    at_end, at_start = fine(end), fine(start)
    gain = (_gray_mean(before[end]) + _gray_mean(after[start])) / max(float(at_end.mean() + at_start.mean()), 1e-6)

    for time in times:
        here, share = fine(time), (time - first) / (last - first)
        one, weight_one = (
            (before[time], np.ones_like(here))
            if time in before
            else _carried(before[end], at_end, here, to_end[time], gain=gain)
        )
        other, weight_other = (
            (after[time], np.ones_like(here))
            if time in after
            else _carried(after[start], at_start, here, to_start[time], gain=gain)
        )
        unseen = UNSEEN * (1 - weight_one).clip(0, 1) * (1 - weight_other).clip(0, 1)
        weight_one, weight_other = (1 - share) * weight_one, share * weight_other
        carried = cv2.blendLinear(one, other, weight_one, weight_other)
        smooth = np.float32(gain) * cv2.GaussianBlur(here, (0, 0), 1.0)
        alone = _coloured_by_surroundings(smooth, carried, weight_one + weight_other)
        yield cv2.blendLinear(carried, alone, weight_one + weight_other, unseen).clip(0, 1)


def _carriers(seen: dict[int, np.ndarray], anchor: int, *, reverse: bool = False) -> Iterator[tuple[int, Carrier]]:
    """Yield the times from the anchor on, in reverse those before it, and the carrier of each to the anchor.

    The flow over a short time is small and reliable. Composed, it is where the search over the long time starts.
    """
    order = sorted((time for time in seen if (time <= anchor if reverse else time >= anchor)), reverse=reverse)
    height, width = seen[anchor].shape
    grid = pixel_grid(height, width)
    there = back = np.zeros((height, width, 2), np.float32)
    yield anchor, Carrier(there, np.ones((height, width), np.float32))
    for previous, time in pairwise(order):
        there = dense_flow(seen[time], seen[anchor], _compose(dense_flow(seen[time], seen[previous]), there, grid))
        back = dense_flow(seen[anchor], seen[time], _compose(back, dense_flow(seen[previous], seen[time]), grid))
        difference = 2 * _compose(there, back, grid) / INCONSISTENT
        yield time, Carrier(there, np.exp(-0.5 * np.einsum("hwc,hwc->hw", difference, difference)))


def _compose(first: np.ndarray, second: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Follow one flow [H,W,2], then another one from where it leads."""
    return first + sample(second, grid + first)


def dense_flow(start: np.ndarray, end: np.ndarray, guess: np.ndarray | None = None) -> np.ndarray:
    """Compute the flow [H,W,2] between two frames [H,W] uint8 by dense inverse search, from a guess on."""
    height, width = start.shape
    below, right = max(SMALLEST - height, 0), max(SMALLEST - width, 0)
    padded = [cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE) for frame in (start, end)]
    if guess is not None:
        guess = cv2.copyMakeBorder(guess, 0, below, 0, right, cv2.BORDER_REPLICATE)  # a copy: it is written over
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    return search.calc(*padded, guess)[:height, :width]


def _carried(
    frame: np.ndarray, intensity: np.ndarray, here: np.ndarray, carrier: Carrier, *, gain: float
) -> tuple[np.ndarray, np.ndarray]:
    """Carry a frame [H,W,3] to another time and correct it by the intensity [H,W] there: the frame, its weight [H,W].

    intensity: that of the frame. Small differences of intensity are mostly noise, and are believed less.
    """
    height, width = here.shape
    scale = np.float32((width / carrier.flow.shape[1], height / carrier.flow.shape[0]))
    positions = pixel_grid(height, width) + cv2.resize(carrier.flow, (width, height)) * scale
    change = here - sample(intensity, positions)
    coarse = cv2.GaussianBlur(change, (0, 0), FINE)
    credible = _credible(coarse, CREDIBLE) + _credible(change - coarse, CREDIBLE_FINE)
    different = cv2.GaussianBlur(change, (0, 0), 1.0) / DIFFERENT
    weight = cv2.resize(carrier.consistency, (width, height)) * np.exp(-(different**2)) * inside(positions) + LEAST
    return sample(frame, positions) + np.float32(gain) * credible[..., None], weight


def _credible(change: np.ndarray, half: float) -> np.ndarray:
    """Shrink small changes, half of one of `half`."""
    return change**3 / (change**2 + np.float32(half**2))


def _coloured_by_surroundings(intensity: np.ndarray, frame: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Give intensity [H,W] the chroma of a frame [H,W,3], averaged where its weight [H,W] is high: [H,W,3]."""
    gray = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    weighted = np.dstack((weight[..., None] * (frame - gray[..., None]), weight))
    # At a quarter of the size: the averages are smooth.
    height, width = weight.shape
    small = cv2.resize(weighted, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    averaged = cv2.resize(cv2.GaussianBlur(small, (0, 0), COLOUR_SPREAD / 4), (width, height))
    return intensity[..., None] + averaged[..., :3] / (averaged[..., 3:] + np.float32(COLOURLESS))


def inside(positions: np.ndarray) -> np.ndarray:
    """Return the weight [H,W] of positions [H,W,2] in a frame of that size: 0 from a pixel beyond its borders on."""
    height, width = positions.shape[:2]
    last = np.array((width - 1, height - 1), np.float32)
    return (1 + np.minimum(positions, last - positions).min(-1)).clip(0, 1)


def _eight_bit(intensity: np.ndarray) -> np.ndarray:
    return np.rint(255 * intensity.clip(0, 1)).astype(np.uint8)


def _gray_mean(frame: np.ndarray) -> float:
    return float(frame.mean((0, 1)) @ GRAY_WEIGHTS)
