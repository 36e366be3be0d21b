"""A film of sharp frames at even times from a film of blurry pictures and one continuous spike stream.

Inside an exposure frames are restored from its picture. Between exposures they are carried along motion from
both sides.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import cv2
import numpy as np
from torch import Tensor

from codes.data.spikes import UPSCALE
from codes.errors import InputError
from codes.motion.compensation import intensity_along_motion
from codes.motion.propagation import blended_times, fill_between
from codes.motion.super_resolution import super_resolve
from codes.motion.temporal_average import average_along_motion
from codes.motion.window_means import WindowMeans
from codes.restoration.view import View, gain_of, to_picture, to_quarter

REACH = 64  # spike frames beyond a gap whose intensity is estimated too
AT_ONCE = 32  # frames of a gap that are in memory at the same time
APART = 8  # spike frames between frames that are averaged, unless the film has none as close
FARTHEST = 48  # at most, from a frame to those that it is averaged with
FAR_SHARE = 0.5  # weight of the farther ones, beside 1 of the frame and of the nearer ones
AVERAGED = 9  # spike frames averaged for the pictures that flow is computed between

Frames = dict[int, np.ndarray]  # time in spike frames -> [H,W,3] float32 in [0,1]
# (number of an exposure, ascending times) -> its frames, restored when they are asked for
Restore = Callable[[int, list[int]], Iterator[tuple[int, np.ndarray]]]


@dataclass(frozen=True)
class Schedule:
    """The exposures of a film, and the times of the frames that are made of it, all in spike frames of the stream."""

    starts: tuple[int, ...]
    length: int  # of every exposure
    times: tuple[int, ...]

    def last(self, number: int) -> int:
        """Return the last spike frame of an exposure."""
        return self.starts[number] + self.length - 1

    def inside(self, number: int) -> list[int]:
        """List the times of frames within an exposure, and its first and last spike frame."""
        start, last = self.starts[number], self.last(number)
        return sorted({start, last, *(time for time in self.times if start <= time <= last)})

    def between(self, number: int) -> list[int]:
        """List the times that an exposure is blended into the next one at, those of the gap among them."""
        if not 0 <= number < len(self.starts) - 1:
            return []
        first, last = self.blend(number)
        return [time for time in self.times if first <= time <= last]

    def blend(self, number: int) -> tuple[int, int]:
        """Return where the blend of an exposure into the next one begins and ends."""
        return blended_times(self.last(number), self.starts[number + 1])


def schedule(
    clock: tuple[float, float, float], *, pictures: int, total: int, step: float, margin: int = 0
) -> tuple[Schedule, int]:
    """Lay the times of a film over a stream of `total` spike frames: the schedule, and the number of its first picture.

    clock: first spike frame of the first picture, period, and length of the exposures. step: spike frames from one
    frame of the result to the next. margin: spike frames that the stream needs around an exposure; pictures that it
    does not reach are left out.
    Raises: InputError for a clock that is none, or one by which the stream covers no picture.
    """
    first, period, length = clock[0], clock[1], round(clock[2])
    told = f"--clock {first:g} {period:g} {length}"
    if length < 1 or not np.isfinite(clock).all() or period < length:
        raise InputError(
            f"{told}: the first spike frame, the period and the length of the exposures are accepted, the length at "
            "most a period"
        )
    starts = [round(first + number * period) for number in range(pictures)]
    covered = [n for n, start in enumerate(starts) if start >= margin and start + length + margin <= total]
    if not covered:
        raise InputError(
            f"{told}: by it the stream of {total} spike frames covers the exposure of none of {pictures} pictures, and "
            f"{margin} spike frames to either side"
        )
    starts = starts[covered[0] : covered[-1] + 1]
    times = np.arange(starts[0], starts[-1] + length, step)
    return Schedule(tuple(starts), length, tuple(dict.fromkeys(np.rint(times).astype(int).tolist()))), covered[0]


def film(
    plan: Schedule,
    missing: set[int],
    *,
    restore: Restore,
    read: Callable[[int, int], Tensor],
    view: View | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (time, frame [H,W,3] float32 in [0,1]) for every missing time, in ascending order.

    Frames are averaged with their neighbours in time along motion.
    read: (first, stop) -> spikes [T,h,w] of 0 and 1, on the device that computes; what lies outside the stream is cut
    off. view: of the pictures in the spikes. Memory depends on the length of an exposure and of a gap, not on that of
    the film or the number of frames. Exposures that no missing frame needs are not restored.
    """
    waiting = deque(sorted(missing))
    shares = {time: _shares(plan.times, time) for time in waiting}
    needed = {*chain(*shares.values())}
    reach = max((time - min(averaged) for time, averaged in shares.items()), default=0)
    frames: Frames = {}
    for latest, frame in _separate_frames(plan, needed, restore, read, view):
        frames[latest] = frame
        while waiting and max(shares[waiting[0]]) <= latest:
            time = waiting.popleft()
            others = [(frames[other], share) for other, share in shares.pop(time).items() if other != time]
            averaged = average_along_motion(frames[time], others)
            # Where the spikes do not show the picture, it stays as it is.
            yield time, averaged if view is None else _lerp(frames[time], averaged, _seen(view, averaged))
        frames = {time: frame for time, frame in frames.items() if waiting and time >= waiting[0] - reach}


def _shares(times: Sequence[int], time: int) -> dict[int, float]:
    """Return the times whose frames are averaged to that of one of ascending times, and their weights."""
    place, shares = bisect_left(times, time), {time: 1.0}
    apart = max(round(APART * (len(times) - 1) / max(times[-1] - times[0], 1)), 1)
    for distance, share in ((apart, 1.0), (2 * apart, FAR_SHARE)):
        beside = [times[other] for other in (place - distance, place + distance) if 0 <= other < len(times)]
        shares |= {other: share for other in beside if abs(other - time) <= FARTHEST}
    return shares


def _separate_frames(
    plan: Schedule,
    missing: set[int],
    restore: Restore,
    read: Callable[[int, int], Tensor],
    view: View | None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield what `film` does before frames are averaged."""
    before: Frames = {}
    for number in range(len(plan.starts)):
        into, onward = plan.between(number - 1), plan.between(number)
        inside = plan.inside(number)
        if not missing.intersection({*into, *inside, *onward}):
            continue
        restored = restore(number, inside)
        # Those at the beginning, which the exposure before is blended into.
        after = dict(islice(restored, len({plan.starts[number], *into} & {*inside})))
        for first in range(0, len(into), AT_ONCE):
            times = into[first : first + AT_ONCE]
            if missing.intersection(times):  # all are made: the same frames, whichever of them are missing
                filled = zip(times, _filled(plan, before, after, times, read, view), strict=True)
                yield from ((time, frame) for time, frame in filled if time in missing)
        before = {}
        for time, frame in chain(after.items(), restored):
            if time in missing and time not in into and time not in onward:
                yield time, frame
            if time in onward or time == plan.last(number):
                before[time] = frame


def _filled(
    plan: Schedule,
    before: Frames,
    after: Frames,
    times: Sequence[int],
    read: Callable[[int, int], Tensor],
    view: View | None,
) -> Iterator[np.ndarray]:
    """Fill the gap between the frames of two exposures at some of the times of their blend."""
    end, start = max(before), min(after)
    number = plan.starts.index(start) - 1
    begin, stop = plan.blend(number)
    first = max(min(end, *times) - REACH, 0)
    intensity = _intensity(read(first, max(start, *times) + REACH + 1), view)
    means = WindowMeans(to_quarter(view, intensity)[0].cpu().numpy())
    shown = sorted({end, start, *times})
    height, width = after[start].shape[:2]
    reconstructed = to_picture(view, super_resolve(intensity, [time - first for time in shown]))
    reconstructed = reconstructed[0, :, :height, :width].cpu().numpy()

    def coarse(time: int) -> np.ndarray:
        average = means(time - first, AVERAGED)[: -(-height // UPSCALE), : -(-width // UPSCALE)]
        return cv2.resize(average, (width // 2, height // 2), interpolation=cv2.INTER_CUBIC)

    def fine(time: int) -> np.ndarray:
        return reconstructed[shown.index(time)]

    filled = fill_between(before, after, times, coarse=coarse, fine=fine)
    if view is None:
        yield from filled
        return
    seen = _seen(view, after[start])
    for time, frame in zip(times, filled, strict=True):
        # Elsewhere restored frames are the blurry pictures: one is blended into the next.
        share = (time - begin) / (stop - begin)
        beyond = cv2.addWeighted(before[end], 1 - share, after[start], share, 0)
        yield _lerp(beyond, frame, seen)


def _seen(view: View, frame: np.ndarray) -> np.ndarray:
    """Return how far the spikes show what a frame [H,W,3] does: [H,W,1]."""
    height, width = frame.shape[:2]
    return view.coverage()[:height, :width, None].numpy()


def _lerp(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    return start + share * (end - start)


def _intensity(spikes: Tensor, view: View | None) -> Tensor:
    """Estimate the intensity [1,T,h,w] of spikes [T,h,w], about 0..1 whatever the threshold was."""
    intensity = intensity_along_motion(spikes[None], gain=gain_of(view))
    return intensity / intensity.mean((0, 1)).quantile(0.999).clamp(min=1e-6)
