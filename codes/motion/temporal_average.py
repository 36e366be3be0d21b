"""Averages of a frame and its neighbours in time along motion: what changes without motion is mostly noise."""

from collections.abc import Sequence

import cv2
import numpy as np

from codes.motion.flow import pixel_grid, sample
from codes.motion.propagation import dense_flow, inside

DIFFERENT = 0.05  # difference of intensity, of 1, at which the weight of a neighbour is 1/e of that
BLURRED = 1.0  # pixels, standard deviation of the blur of an average that is undone
SHARPENED = 0.7  # share of what this blur takes away that is added, where neighbours have all the weight


def average_along_motion(frame: np.ndarray, neighbours: Sequence[tuple[np.ndarray, float]]) -> np.ndarray:
    """Average a frame [H,W,3] float32 in [0,1] with neighbours in time, where they show the same.

    neighbours: frames and their weights, beside 1 of the frame. Looked up between pixels they are blurred a little; the
    average is sharpened as far as they contribute.
    """
    height, width = frame.shape[:2]
    total, weights = frame.copy(), np.ones((height, width), np.float32)
    for neighbour, share in neighbours:
        flow = 2 * cv2.resize(dense_flow(_half(frame), _half(neighbour)), (width, height))
        positions = pixel_grid(height, width) + flow
        moved = sample(neighbour, positions)
        difference = cv2.GaussianBlur((moved - frame).mean(2), (0, 0), 1.0) / DIFFERENT
        weight = np.float32(share) * np.exp(-(difference**2)) * inside(positions)
        total += weight[..., None] * moved
        weights += weight
    average = total / weights[..., None]
    amount = SHARPENED * (1 - 1 / weights)[..., None]
    return (average + amount * (average - cv2.GaussianBlur(average, (0, 0), BLURRED))).clip(0, 1)


def _half(frame: np.ndarray) -> np.ndarray:
    """Return a frame [H,W,3] in gray at half its size, [H/2,W/2] uint8."""
    height, width = frame.shape[:2]
    half = cv2.resize(frame, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return np.rint(255 * cv2.cvtColor(half, cv2.COLOR_BGR2GRAY).clip(0, 1)).astype(np.uint8)
