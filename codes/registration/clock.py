"""The clock of a recording: pictures of one camera are exposed at an even period, each over the same time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from codes.registration.synchronisation import FoundExposure

INLIER = 3.0  # spike frames that the start of an exposure may differ from the clock's


@dataclass(frozen=True)
class Clock:
    """When the pictures of a recording were exposed, in spike frames."""

    first: float  # start of the exposure of picture 0
    period: float  # from one picture to the next
    length: int
    agreeing: int  # pictures whose exposure was found without doubt and agrees

    def exposure(self, number: int) -> tuple[int, int]:
        """Return the first spike frame and the length of the exposure of a picture."""
        return round(self.first + self.period * number), self.length


def fit_clock(found: Sequence[FoundExposure]) -> Clock | None:
    """Fit a clock to the exposures found for pictures 0, 1, ... of a recording; those that are not sure have no say.

    The line through two starts that most others agree with is kept (RANSAC over all pairs), then fitted to those.
    Returns: None if no two pictures are sure, or most of those that are sure contradict each other.
    """
    sure = [number for number, exposure in enumerate(found) if exposure.is_sure]
    numbers, starts = np.array(sure), np.array([found[number].start for number in sure])
    agreeing = np.zeros(len(sure), bool)
    for one, other in combinations(range(len(sure)), 2):
        period = (starts[other] - starts[one]) / (numbers[other] - numbers[one])
        agrees = np.abs(starts - starts[one] - period * (numbers - numbers[one])) <= INLIER
        if period > 0 and agrees.sum() > agreeing.sum():
            agreeing = agrees
    if agreeing.sum() < 2 or 2 * agreeing.sum() < len(sure):
        return None
    period, first = np.polyfit(numbers[agreeing], starts[agreeing], 1)
    length = np.median([found[number].length for number in numbers[agreeing]])
    return Clock(float(first), float(period), round(float(length)), int(agreeing.sum()))
