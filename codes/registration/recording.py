"""Clock and geometry of a recording, estimated together from all its pictures."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from codes.data.orientation import upright
from codes.registration.clock import Clock
from codes.registration.clock_comparison import Candidate, Comparison
from codes.registration.evidence import Evidence, Shot, evidence_of, joined
from codes.registration.geometry import corner_error
from codes.registration.least_squares import PARAMETERS, map_of
from codes.registration.windows import BLOCK, GROUPS, seen_picture

LENGTHS = (17, 257)  # spike frames of an exposure that is searched for
WINDOW = 97  # spike frames that a picture is compared with before its exposure is known
SAMPLES, SAMPLE = 8, 32  # parts of the stream, and their spike frames, that show the response of a picture before that
STEP, STEP_OF_LENGTH = 8, 16  # spike frames, of the search
MOST_STARTS = 256  # of a picture, in the search: those of a longer time lie further apart
CAUTION = 0.2  # of the energy of the noise of a window, by which what it leaves unexplained may be off, by chance
SHORTEST = 2  # spike frames of a window that is compared
REACH = 24  # spike frames around starts and length in which they are refined
FAR, STEPS = 4, (2, 1, 0.5)  # spike frames, of the refinement
SMALL = 0.1  # picture pixels of a correction of the geometry that needs no other one, as it is linear
LEAST_CORRELATION = 0.5  # of windows that show their pictures
SURE = 0.8  # spike frames of standard deviation, at most, of the ends of exposures by a clock that is sure


class FoundClock(NamedTuple):
    """The clock that fits all pictures best, and the geometry by it."""

    clock: Clock
    homography: np.ndarray
    correlation: float  # of windows with pictures, without noise: the median
    deviation: tuple[float, float]  # standard deviations of starts and ends, of the worst picture, in spike frames
    reason: str = ""  # why the clock is not sure, a sentence


def find_clock(
    shots: Sequence[Shot],
    orientation: str,
    homography: np.ndarray,
    *,
    model: str = "homography",
    near: Clock | None = None,
) -> FoundClock:
    """Find the clock of all pictures of a recording, in the order of their numbers.

    homography: from picture to upright spikes, right to a few spike pixels. model: of its correction, as in
    `least_squares.fit`. near: the clock is about this one; None: it is searched.
    """
    shots = [_upright(shot, orientation) for shot in shots]
    shape, size = shots[0].read(0, 1).shape[1:], shots[0].picture.shape
    numbers, parameters = [shot.number for shot in shots], PARAMETERS[model]
    if near:
        found = Candidate(
            near.first, near.first + near.period * numbers[-1], near.length, correction=np.zeros(parameters)
        )
    else:
        found = _search(shots, homography, parameters)
    is_alone = len(shots) == 1  # its motion and its exposure are hardly told apart: it keeps its geometry
    for is_fine in (True,) if near else (False, True, True):
        former, middle = homography, found
        if not is_alone:
            homography = corrected(homography, found.correction, shape)
        evidence = _evidence_around(found, shots, homography, parameters, is_fine=is_fine)
        found = _refined(Comparison(evidence, numbers), found)
        at_edge = np.abs(np.subtract(found[:3], middle[:3])).max() > REACH - FAR
        if is_fine and not at_edge and (is_alone or corner_error(homography, former, size) < SMALL):
            break
    apart = []
    for half in itertools.combinations(range(1, GROUPS), GROUPS // 2):
        halves = half, sorted({*range(GROUPS)} - {*half})
        one, other = (_refined(Comparison(evidence, numbers, groups), found) for groups in halves)
        first, last, length = np.subtract(one[:3], other[:3])
        apart.append(((first, first + length), (last, last + length)))
    # Estimates from two halves of the pixels differ by twice the deviation of the estimate from all of them.
    deviation = np.sqrt(np.mean(np.square(apart), axis=0)).max(0) / 2
    if at_edge or not LENGTHS[0] < found.length < LENGTHS[1]:
        deviation += np.inf
    clock = Clock(found.first, (found.last - found.first) / max(numbers[-1], 1), round(found.length))
    correlation = float(np.median(Comparison(evidence, numbers).correlations(found)))
    reason = ""
    if correlation < LEAST_CORRELATION:
        reason = "no window of the stream shows the picture"
    elif max(deviation) > SURE:
        reason = "the scene hardly moves, or always the same way: other exposures fit as well"
    ends = float(deviation[0]), float(deviation[1])
    return FoundClock(clock, corrected(homography, found.correction, shape), correlation, ends, reason)


def _refined(comparison: Comparison, found: Candidate) -> Candidate:
    """Return the best clock around one: of those far apart first, so that a smooth loss is seen to be one."""
    around = np.arange(-REACH, REACH + 1, FAR)
    firsts, lasts, lengths = (value + around for value in found[:3])
    return comparison.climb(comparison.search(firsts, lasts, lengths.clip(SHORTEST)), STEPS)


def corrected(homography: np.ndarray, correction: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Apply a correction of the pixels of spikes of a shape (h, w), as in `windows`, to a homography."""
    changed = np.linalg.inv(map_of(correction, shape)) @ homography
    return changed / changed[2, 2]


def _search(shots: Sequence[Shot], homography: np.ndarray, parameters: int) -> Candidate:
    """Compare clocks whose values lie apart, by spike counts of large blocks."""
    spread = max(shot.spread for shot in shots)
    step = max(STEP, math.ceil(2 * spread / MOST_STARTS)) if len(shots) > 1 else STEP
    around = step * np.arange(-math.ceil(spread / step), math.ceil(spread / step) + 1)
    longest = min(LENGTHS[1], *(shot.total for shot in shots))
    lengths = np.arange(min(LENGTHS[0], longest - STEP_OF_LENGTH), longest + 1, STEP_OF_LENGTH)
    parts = []
    for shot in shots:
        starts = round(shot.expected) + around
        first, stop = (min(max(int(end), 0), shot.total) for end in (starts[0], starts[-1] + WINDOW))
        middles = np.linspace(first, max(stop - SAMPLE, first), SAMPLES).astype(int)
        mean = shot.without_gain(np.mean([shot.read(begin, begin + SAMPLE).mean(0) for begin in middles], 0))
        seen = seen_picture(shot.picture, homography, mean.shape, parameters=parameters).linear(mean)
        parts.append(evidence_of(shot, seen, starts, lengths, block=2 * BLOCK, is_fine=False))
    evidence = joined(parts)
    firsts, lasts = (starts.astype(float) for starts in (evidence.starts[0], evidence.starts[-1]))
    comparison = Comparison(evidence, [shot.number for shot in shots], caution=CAUTION)
    return comparison.search(firsts, lasts, lengths.astype(float))


def _evidence_around(
    found: Candidate, shots: Sequence[Shot], homography: np.ndarray, parameters: int, *, is_fine: bool
) -> Evidence:
    """Return the evidence of all windows whose start and length are near those of a clock."""
    around = np.arange(-REACH, REACH + 1)
    middle = max(round(found.length), SHORTEST)  # where no window fits, a search may end anywhere
    lengths = np.arange(max(middle - REACH, SHORTEST), middle + REACH + 1)
    parts = []
    for shot in shots:
        start = round(found.first + (found.last - found.first) * shot.number / max(shots[-1].number, 1))
        first, stop = (min(max(end, 0), shot.total) for end in (start, start + round(found.length)))
        mean = shot.without_gain(shot.read(min(first, shot.total - 1), max(stop, 1)).mean(0))
        seen = seen_picture(shot.picture, homography, mean.shape, parameters=parameters).linear(mean)
        parts.append(evidence_of(shot, seen, start + around, lengths, block=BLOCK, is_fine=is_fine))
    return joined(parts)


def _upright(shot: Shot, orientation: str) -> Shot:
    """Return a shot whose stream shows the scene as its picture."""

    def read(first: int, stop: int) -> np.ndarray:
        return upright(shot.read(first, stop), orientation)

    return shot._replace(read=read, gain=None if shot.gain is None else upright(shot.gain, orientation))
