"""Defects of a spike sensor, hot and dead pixels and lost spike frames: found in a recording, and repaired.

The gain of its pixels is estimated from a recording of a uniform scene.
"""

from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

MANY = 20  # spikes a frame, of which by chance none is never seen
FEW = 8  # spikes of the second darkest neighbour: a pixel beside fewer may be dark, not dead
HOTTER = 1.25  # times the rate of the brightest neighbour
SCATTER = 3.0  # standard deviations of the number of noise spikes, and of the rest of a count, which is one spike
NOISE = 0.01  # noise spikes a spike frame, at most
INTERVALS = 2  # compared on either side of lost frames
REACH = 128  # spike frames on either side in which they are looked for
GAINS = 0.5, 2.0  # of pixels: one beyond them does not measure intensity
SHADING = 8.0  # pixels, standard deviation of the weights of the local fit that is divided out of a gain


class Defects(NamedTuple):
    """Defects of a stream [T,h,w]."""

    hot: np.ndarray  # mask [h,w]
    dead: np.ndarray  # mask [h,w]
    lost: np.ndarray  # numbers of spike frames


def find_defects(spikes: np.ndarray) -> Defects:
    """Find hot, dead and lost ones in spikes [T,h,w] of at least an exposure."""
    hot, dead = defective_pixels(spikes.sum(0, dtype=np.int64), len(spikes))
    return Defects(hot, dead, lost_frames(spikes.sum((1, 2), dtype=np.int64)))


def repair(spikes: np.ndarray, defects: Defects) -> np.ndarray:
    """Return spikes [T,h,w] whose defects are replaced by what their neighbours in space and time imply."""
    return repair_pixels(bridge_frames(spikes, defects.lost), defects.hot | defects.dead)


def lost_frames(fired: np.ndarray) -> np.ndarray:
    """Find frames without a single spike, by the spikes of each [T], where the scene makes many: their numbers.

    No scene goes dark for a frame: these frames a camera did not hand over.
    """
    has_many = fired.any() and np.median(fired[fired > 0]) > MANY
    return np.flatnonzero(fired == 0) if has_many else np.empty(0, int)


def defective_pixels(total: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Find pixels that fire more than their neighbours, and such as never fire: masks [h,w], (hot, dead).

    total: [h,w], spikes of each pixel over `frames` spike frames. Optics and motion spread a bright point over several
    pixels, so that a single one is a defect; of two dead pixels side by side each has one dead neighbour.
    """
    padded = np.pad(total.astype(np.float32), 1, mode="reflect")
    around = np.delete(sliding_window_view(padded, (3, 3)).reshape(*total.shape, 9), 4, axis=2)
    around.sort(axis=2)
    contrast = (around[..., 7] - around[..., 0]) / 2
    scatter = 1 + SCATTER * np.sqrt(1 + NOISE * frames)
    hot = total > HOTTER * around[..., 7] + contrast + scatter
    dead = (total == 0) & (around[..., 1] >= FEW)
    return hot, dead


def fixed_pattern_gain(total: np.ndarray, defective: np.ndarray) -> np.ndarray:
    """Estimate the relative gain [h,w] float32 of each pixel from its spikes `total` [h,w] of a uniform scene.

    The counts are divided by a local linear fit, which shading and vignetting follow, to the borders too. Pixels of the
    mask `defective` are left out; they have gain 1, as they are repaired from neighbours. Gains are within GAINS.
    """
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, side) for side in total.shape), indexing="ij")
    terms = np.stack((np.ones(total.shape), rows, columns), -1)

    def local_sum(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(np.where(defective, 0.0, values), (0, 0), SHADING, borderType=cv2.BORDER_CONSTANT)

    products = [[local_sum(terms[..., i] * terms[..., j]) for i in range(3)] for j in range(3)]
    observed = [local_sum(terms[..., i] * total) for i in range(3)]
    fitted = np.linalg.solve(np.moveaxis(np.array(products), (0, 1), (2, 3)), np.stack(observed, -1)[..., None])
    shading = (terms * fitted[..., 0]).sum(-1)
    return np.where(defective, 1, (total / shading).clip(*GAINS)).astype(np.float32)


def repair_pixels(spikes: np.ndarray, defective: np.ndarray) -> np.ndarray:
    """Replace the spikes [T,h,w] of defective pixels, a mask [h,w], by those that their intact neighbours imply.

    The mean of the neighbours' spikes is integrated, and fires at whole numbers.
    """
    repaired, (height, width) = spikes.copy(), defective.shape
    for row, column in np.argwhere(defective):
        places = [(row + down, column + right) for down, right in product((-1, 0, 1), repeat=2)]
        inside = [(y, x) for y, x in places if 0 <= y < height and 0 <= x < width and not defective[y, x]]
        if inside:
            charge = np.cumsum(np.sum([spikes[:, y, x] for y, x in inside], 0, dtype=np.int64)) + len(inside) // 2
            repaired[:, row, column] = np.diff(charge // len(inside), prepend=0)
    return repaired


def bridge_frames(spikes: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Fill lost frames of spikes [T,h,w] by the spikes that the intervals around them imply.

    An interval across lost frames that is longer than those before and after it lost as many spikes as make it alike.
    """
    filled = spikes.copy()
    for run in np.split(lost, np.flatnonzero(np.diff(lost) > 1) + 1):
        if not len(run):
            continue
        earlier, before = _nearest(spikes[max(0, run[0] - REACH) : run[0]][::-1])
        after, later = reversed(_nearest(spikes[run[-1] + 1 :][:REACH]))
        usual = (earlier - before + later - after) / (2 * INTERVALS)
        across = len(run) + 1 + before + after
        missing = np.nan_to_num(np.rint(across / usual) - 1).clip(0, len(run)).astype(int)
        for count in np.unique(missing[missing > 0]).tolist():
            rows, columns = np.nonzero(missing == count)
            for number in range(1, count + 1):
                place = run[0] - 1 - before + np.rint(across * number / (count + 1))
                place = np.nan_to_num(place).astype(int).clip(run[0] + number - 1, run[-1] - count + number)
                filled[place[rows, columns], rows, columns] = 1
    return filled


def _nearest(spikes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the last and the first end of the compared intervals of each pixel of [T,h,w]: [h,w], NaN for none."""
    fired = np.cumsum(spikes, 0, dtype=np.int32) if len(spikes) else np.zeros((1, *spikes.shape[1:]), np.int32)
    found = [np.where(fired[-1] >= count, (fired >= count).argmax(0), np.nan) for count in (1 + INTERVALS, 1)]
    return found[0], found[1]
