"""Estimate the response of the picture camera from a picture and the intensity of its spikes."""

from collections.abc import Callable
from functools import partial

import numpy as np

from codes.data.response import Response
from codes.data.spikes import GRAY_WEIGHTS

EXPONENTS, BLACKS = (0.3, 1.5), (0.0, 0.1)  # searched
STEPS, LEVELS = 9, 3  # of a search: values that are compared, and how often the best one's surroundings are searched
SATURATED = 0.98  # of white: brighter pixels may be clipped
FLOOR, SPREAD = 0.01, 0.03  # standard deviation of the intensity: of its mean, and of itself
OUTLIER = 3.0  # standard deviations
PIXELS = 2**12  # compared at most
BETTER = 1.3  # times the residual of a linear picture: less is no evidence
ALIKE, BLACKISH = 0.05, 0.01  # differences from a linear picture that do not matter


def estimate_response(seen: np.ndarray, intensity: np.ndarray, mask: np.ndarray) -> Response:
    """Estimate the response of a picture; it is linear unless the spikes clearly contradict.

    seen: the picture [h,w,3] BGR in [0,1] in the view of the spikes; intensity: mean over its exposure [h,w], on any
    scale; mask [h,w]: pixels that both show.
    """
    values, intensity = seen[mask & (seen.max(2) < SATURATED)], intensity[mask & (seen.max(2) < SATURATED)]
    if len(values) < 64:
        return Response()
    every = -(-len(values) // PIXELS)
    values, intensity = values[::every], intensity[::every]

    def residual(black: float, exponent: float) -> float:
        return _residual(Response(exponent, black), values, intensity)

    def exponent_at(black: float) -> float:
        return _least(partial(residual, black), *EXPONENTS)

    darkest = min(BLACKS[1], float(values.max(1).min()))
    black = _least(lambda black: residual(black, exponent_at(black)), BLACKS[0], darkest)
    best = Response(exponent_at(black), black)
    matters = abs(best.exponent - 1) > ALIKE or best.black > BLACKISH
    is_better = BETTER * _residual(best, values, intensity) < _residual(Response(), values, intensity)
    return best if matters and is_better else Response()


def _residual(response: Response, values: np.ndarray, intensity: np.ndarray) -> float:
    """Return the mean squared deviation of intensity [N] from that of values [N,3], on the best scale.

    Deviations are relative to what is expected of each intensity, and bounded, as moving edges are no outliers of it.
    """
    linear = response.undo(values) @ np.array(GRAY_WEIGHTS, np.float32)
    weight = 1 / (FLOOR * intensity.mean() + SPREAD * intensity)
    scale = np.median(intensity / np.maximum(linear, 1e-6))
    return float(np.minimum((weight * (intensity - scale * linear)) ** 2, OUTLIER**2).mean())


def _least(cost: Callable[[float], float], low: float, high: float) -> float:
    """Return the value between two others with the least cost, coarse to fine."""
    for _ in range(LEVELS):
        values = np.linspace(low, high, STEPS)
        best = int(np.argmin([cost(value) for value in values.tolist()]))
        low, high = values[max(best - 1, 0)], values[min(best + 1, STEPS - 1)]
    return float(values[best])
