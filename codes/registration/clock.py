"""The clock of a recording: pictures of one camera are exposed at an even period, each over the same time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """When the pictures of a recording were exposed, in spike frames."""

    first: float  # start of the exposure of picture 0
    period: float  # from one picture to the next
    length: int

    def exposure(self, number: int) -> tuple[int, int]:
        """Return the first spike frame and the length of the exposure of a picture."""
        return round(self.first + self.period * number), self.length
