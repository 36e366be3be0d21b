"""Response curve of a picture camera, applied to intensity and undone."""

from typing import NamedTuple, TypeVar

import numpy as np
from torch import Tensor

Values = TypeVar("Values", np.ndarray, Tensor)


class Response(NamedTuple):
    """A picture is black + (1 - black) * intensity ** exponent, all in [0,1]; a gamma of 2.2 is the exponent 1/2.2."""

    exponent: float = 1.0
    black: float = 0.0

    @property
    def is_linear(self) -> bool:
        return self == Response()

    def apply(self, intensity: Values) -> Values:
        """Return the picture of an intensity in [0,1]."""
        return intensity if self.is_linear else self.black + (1 - self.black) * intensity**self.exponent

    def undo(self, picture: Values) -> Values:
        """Return the intensity of a picture in [0,1]; values below black are 0."""
        return picture if self.is_linear else ((picture - self.black).clip(0) / (1 - self.black)) ** (1 / self.exponent)
