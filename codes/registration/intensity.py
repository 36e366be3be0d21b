"""Mean ISI intensity of one exposure, which its picture is registered to."""

from collections.abc import Callable

import numpy as np
import torch

from codes.physics.intensity import isi_intensity

Read = Callable[[int, int], np.ndarray]  # (first, stop) -> spike frames [n,h,w] of 0 and 1
AROUND = 64  # spike frames on either side of an exposure in which its intervals may begin and end


def exposure_intensity(
    read: Read, total: int, start: int, length: int, *, gain: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean intensity [h,w] of an exposure in a stream of `total` spike frames, of intervals: float32.

    gain: relative sensitivity of the pixels of the stream [h,w], which is undone; None: not known.
    At low rates it has much less noise than the number of spikes, which depends on where the intervals begin.
    """
    first, stop = max(0, start - AROUND), min(total, start + length + AROUND)
    total_intensity = cumulative_intensity(read(first, stop))
    intensity = (total_intensity[start - first + length] - total_intensity[start - first]) / length
    return intensity if gain is None else intensity / gain


def cumulative_intensity(spikes: np.ndarray) -> np.ndarray:
    """Sum the intensity of intervals of spikes [T,h,w] from the first frame to each end: [T+1,h,w] float32.

    A spike fires half a frame before its frame ends, on average, so that intensity of intervals is late by as much.
    """
    intensity = isi_intensity(torch.from_numpy(np.ascontiguousarray(spikes))[None])[0].numpy()
    total = np.zeros((len(spikes) + 2, *spikes.shape[1:]), np.float32)
    np.cumsum(np.concatenate((intensity, intensity[-1:])), axis=0, out=total[1:])
    return (total[:-1] + total[1:]) / 2
