"""Averages of intensity over windows of spike frames (short TFP at any length)."""

import numpy as np
import torch
from torch import Tensor


class WindowMeans:
    """Averages of intensity [T,h,w] over windows of spike frames, cut at its ends, each by one subtraction."""

    def __init__(self, intensity: np.ndarray):
        self.total = np.zeros((len(intensity) + 1, *intensity.shape[1:]))
        for time, frame in enumerate(intensity):  # several times as fast as np.cumsum along time
            np.add(self.total[time], frame, out=self.total[time + 1])

    def __len__(self) -> int:
        return len(self.total) - 1

    def __call__(self, center: int, length: int) -> np.ndarray:
        first, end = max(center - length // 2, 0), min(center - length // 2 + length, len(self))
        return ((self.total[end] - self.total[first]) / (end - first)).astype(np.float32)


def window_means(intensity: Tensor, length: int) -> Tensor:
    """Average intensity [B,T,h,w] over `length` spike frames around each, cut at both ends of the stream."""
    batch, total, height, width = intensity.shape
    sums = torch.zeros(batch, total + 1, height, width, dtype=torch.float64, device=intensity.device)
    for time in range(total):  # several times as fast as torch.cumsum along time
        torch.add(sums[:, time], intensity[:, time], out=sums[:, time + 1])
    means = torch.empty_like(intensity, dtype=torch.float32)
    for time in range(total):
        first, end = max(time - length // 2, 0), min(time - length // 2 + length, total)
        means[:, time] = (sums[:, end] - sums[:, first]).div_(end - first)
    return means
