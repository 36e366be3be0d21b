"""A film of sharp frames at even times from a film of blurry pictures and one continuous spike stream.

Inside an exposure frames are restored from its picture. Between exposures they are carried along motion from
both sides.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from codes.errors import InputError
from codes.motion.compensation import motion_compensated_intensity
from codes.motion.propagation import blended_times, fill_between
from codes.motion.super_resolution import super_resolve
from codes.motion.window_means import window_means
from codes.physics.intensity import isi_intensity

REACH = 64  # spike frames beyond a gap whose intensity is estimated too
AT_ONCE = 32  # frames of a gap that are in memory at the same time
AVERAGED = 9  # spike frames averaged for the pictures that flow is computed between

Frames = dict[int, np.ndarray]  # time in spike frames -> [H,W,3] float32 in [0,1]


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


def schedule(clock: tuple[float, float, float], *, pictures: int, total: int, step: float) -> Schedule:
    """Lay the times of a film over a stream of `total` spike frames, from its first exposure to its last.

    clock: first spike frame of the first picture, period, and length of the exposures. step: spike frames from one
    frame of the result to the next.
    Raises: InputError if an exposure lies outside the stream, exposures overlap, or there is no picture.
    """
    first, period, length = clock[0], clock[1], round(clock[2])
    if pictures < 1:
        raise InputError("the film has no pictures")
    if length < 1 or (pictures > 1 and period < length) or first < 0:
        raise InputError(
            f"--clock {first:g} {period:g} {length}: the first spike frame, the period and the length of the exposures "
            "are accepted, the length at most a period"
        )
    starts = tuple(round(first + number * period) for number in range(pictures))
    if (end := starts[-1] + length) > total:
        fitting = sum(start + length <= total for start in starts)
        raise InputError(
            f"--clock {first:g} {period:g} {length}: the exposure of picture {pictures} ends at spike frame {end - 1}, "
            f"the stream has 0..{total - 1}: it covers {fitting} of {pictures} pictures"
        )
    times = starts[0] + np.arange(0, end - starts[0], step)
    return Schedule(starts, length, tuple(dict.fromkeys(np.rint(times).astype(int).tolist())))


def film(
    plan: Schedule,
    missing: set[int],
    *,
    restore: Callable[[int, list[int]], Frames],
    read: Callable[[int, int], np.ndarray],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (time, frame [H,W,3] float32 in [0,1]) for every missing time, in ascending order.

    restore: (number of an exposure, times) -> its frames. read: (first, stop) -> spikes [T,h,w] of 0 and 1; what lies
    outside the stream is cut off. Memory does not depend on the length of the film. Exposures that no missing frame
    needs are not restored.
    """
    before: Frames = {}
    for number in range(len(plan.starts)):
        into, onward = plan.between(number - 1), plan.between(number)
        inside = plan.inside(number)
        if not missing.intersection({*into, *inside, *onward}):
            continue
        frames = restore(number, inside)
        for first in range(0, len(into), AT_ONCE):
            times = into[first : first + AT_ONCE]
            if missing.intersection(times):  # all are made: the same frames, whichever of them are missing
                filled = zip(times, _filled(plan, before, frames, times, read), strict=True)
                yield from ((time, frame) for time, frame in filled if time in missing)
        alone = missing.intersection(inside) - {*into, *onward}
        yield from ((time, frames[time]) for time in sorted(alone))
        before = {time: frame for time, frame in frames.items() if time in onward or time == plan.last(number)}


def _filled(
    plan: Schedule, before: Frames, frames: Frames, times: Sequence[int], read: Callable[[int, int], np.ndarray]
) -> Iterator[np.ndarray]:
    """Fill the gap between the frames of two exposures at some of the times of their blend."""
    end, start = max(before), min(frames)
    number = plan.starts.index(start) - 1
    after = {time: frame for time, frame in frames.items() if time <= plan.blend(number)[1]}
    first = max(min(end, *times) - REACH, 0)
    intensity = _intensity(read(first, max(start, *times) + REACH + 1))
    means, wanted = window_means(intensity, AVERAGED)[0].numpy(), sorted({end, start, *times})
    fine = super_resolve(intensity, [time - first for time in wanted])[0].numpy()
    height, width = frames[start].shape[:2]

    def coarse(time: int) -> np.ndarray:
        return cv2.resize(means[time - first], (width // 2, height // 2), interpolation=cv2.INTER_CUBIC)

    yield from fill_between(
        before, after, times, coarse=coarse, fine=lambda time: fine[wanted.index(time), :height, :width]
    )


def _intensity(spikes: np.ndarray) -> torch.Tensor:
    """Estimate the intensity [1,T,h,w] of spikes [T,h,w], about 0..1 whatever the threshold was."""
    stream = torch.from_numpy(np.ascontiguousarray(spikes))[None]
    intensity = motion_compensated_intensity(stream, isi_intensity(stream))
    return intensity / intensity.mean(1).quantile(0.999).clamp(min=1e-6)
