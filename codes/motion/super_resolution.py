"""Flow-guided multi-frame super-resolution of intensity: from [h,w] of the spike camera to [4h,4w] of the picture.

Where the scene moves, each spike pixel sees it at another position in every spike frame. Optical flow between short
averages aligns these samples, and iterative back-projection reconstructs a grid four times as fine from them, starting
at a bicubic enlargement. Nothing is trained.
Source: Irani and Peleg, "Improving resolution by image registration", CVGIP 1991.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor

from codes.data.spikes import UPSCALE, Exposure
from codes.motion.flow import fine_flow, interpolate, knot_times, sample
from codes.motion.window_means import WindowMeans

REACH, STEP = 48, 2  # spike frames to either side of the target time that are used, and between them
MEAN_STEP = 8  # spike frames at most between the times whose mean is the intensity of the exposure
SAMPLE, MATCHED = 5, 9  # spike frames averaged for a sample, and for the frames that flow is computed between
TIME_SCALE = 40.0  # spike frames after which the weight of a sample is 1/e
TOLERANCE = 0.3  # difference of intensity, of 1, at which the weight of a sample is 1/e: it shows something else
SPREAD = 1.13  # picture pixels, standard deviation of the footprint of a sample
PRIOR = 1.0  # weight of the enlargement, in samples at the very pixel
ROUNDS = 8  # of back-projection
AT_ONCE = 2**19  # spike pixels reconstructed at the same time: four frames of 1080p, each pixel takes 5 KB


def super_resolved_intensity(
    intensity: Tensor, times: Sequence[int], *, exposure: Exposure, step: int = STEP
) -> tuple[Tensor, Tensor]:
    """Reconstruct intensity [B,T,h,w] at N target times: [B,N,1,4h,4w], and its mean over the exposure [B,1,4h,4w].

    Runs on the CPU, several times at once. The mean is that of reconstructions too, so that their common errors cancel
    in a ratio. `step`: spike frames between the samples of each reconstruction.
    """
    mean = intensity[:, exposure.frames].mean(1)
    # Flow is computed on 0..1, whatever the threshold was.
    scale = torch.stack([one.quantile(0.999) for one in mean]).clamp(min=1e-6).view(-1, 1, 1, 1)
    windows = [WindowMeans(stream) for stream in (intensity / scale).cpu().numpy()]

    def reconstruct(time: int) -> Tensor:
        frames = np.stack([super_resolve(means, time, step=step) for means in windows])
        return torch.from_numpy(frames).unsqueeze(1).to(intensity.device)

    averaged = exposure.evenly(MEAN_STEP)
    distinct = list(dict.fromkeys([*averaged, *times]))
    threads = min(torch.get_num_threads(), max(AT_ONCE // mean[0].numel(), 1))
    with ThreadPoolExecutor(threads) as pool:  # OpenCV and NumPy let other threads run meanwhile
        fine = dict(zip(distinct, pool.map(reconstruct, distinct), strict=True))
    mean = torch.stack([fine[time] for time in averaged]).mean(0)
    return torch.stack([fine[time] for time in times], 1), mean


def super_resolve(means: WindowMeans, center: int, *, step: int = STEP) -> np.ndarray:
    """Reconstruct one stream at one target time: averages of its intensity [h,w], about 0..1 -> [4h,4w] float32.

    A spike pixel is modelled as the mean of the inner 2x2 of its 4x4 picture pixels, as the simulator makes it.
    """
    reference = means(center, MATCHED)
    height, width = reference.shape
    fine = cv2.resize(reference, None, fx=UPSCALE, fy=UPSCALE, interpolation=cv2.INTER_CUBIC)
    aligned = _aligned_flow(means, center, _sampled_times(center, len(means), step))
    samples = [np.stack(_sample_at(means, center, other, flow, fine)).reshape(4, -1) for other, flow in aligned]
    x, y, value, weight = np.concatenate(samples, 1)
    inside = (weight > 0.05) & (x >= 0) & (x <= 4 * width - 1) & (y >= 0) & (y <= 4 * height - 1)
    x, y, value, weight = x[inside], y[inside], value[inside], weight[inside]
    normal_matrix, observed = _normal_equations(x, y, value, weight, fine.shape)
    back_project = partial(cv2.GaussianBlur, ksize=(0, 0), sigmaX=SPREAD, borderType=cv2.BORDER_CONSTANT)
    density = back_project(normal_matrix(np.ones_like(fine))) + PRIOR / (2 * np.pi * (SPREAD**2 + 1 / 6))
    for _ in range(ROUNDS):
        fine = fine + back_project(observed - normal_matrix(fine)) / density
    return fine


def _sampled_times(center: int, total: int, step: int) -> list[int]:
    """List the spike frames that are used: the target time itself and those whose windows lie inside the stream."""
    margin = MATCHED // 2
    times = range(center - REACH // step * step, center + REACH + 1, step)
    return [time for time in times if margin <= time < total - margin or time == center]


def _aligned_flow(means: WindowMeans, center: int, times: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each of ascending times and the flow from it to the target time: [h,w,2], in spike pixels."""
    reference = means(center, MATCHED)
    still = np.zeros((*reference.shape, 2), np.float32)
    flows = {
        knot: still if knot == center else fine_flow(means(knot, MATCHED), reference)
        for knot in knot_times(times[0], times[-1], center)
    }
    yield from zip(times, interpolate(flows, times), strict=True)


def _sample_at(
    means: WindowMeans, center: int, other: int, flow: np.ndarray, fine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Align the samples of another time with the target time: x, y in picture pixels, value, weight, each [h,w]."""
    value = means(other, SAMPLE)
    rows, columns = np.indices(value.shape, np.float32)
    x, y = UPSCALE * (columns + flow[..., 0]) + 1.5, UPSCALE * (rows + flow[..., 1]) + 1.5
    if other == center:
        return x, y, value, np.ones_like(value)
    expected = sample(fine, np.dstack((x, y)))
    difference = (expected - means(other, MATCHED)) / TOLERANCE
    return x, y, value, np.exp(-(difference**2) - ((other - center) / TIME_SCALE) ** 2)


def _normal_equations(
    x: np.ndarray, y: np.ndarray, value: np.ndarray, weight: np.ndarray, shape: tuple[int, int]
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Accumulate the normal equations of M samples, float32, that lie inside a picture of a shape [H,W].

    Returns S^T W S as a function of a picture, and S^T W value, both [H,W]. S samples a picture between its pixels,
    bilinear: half way between four pixels that is what a spike pixel sees. W holds the weights. S^T W S is a symmetric
    stencil of nine points for each pixel, so the samples are needed only once.
    """
    height, width = shape
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    place, right, down = torch.from_numpy(top * width + left), x - left.astype(np.float32), y - top.astype(np.float32)
    # Bilinear weights of the four pixels around a sample, by row and column.
    bilinear = {
        (row, column): (1 - down, down)[row] * (1 - right, right)[column] for row in (0, 1) for column in (0, 1)
    }
    observed = np.zeros(shape, np.float32)
    stencil = {offset: np.zeros(shape, np.float32) for offset in ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1))}

    def add(samples: np.ndarray, total: np.ndarray, row: int, column: int) -> None:
        """Add samples to one of the four pixels around each; torch is faster than NumPy and lets other threads run."""
        torch.from_numpy(total.reshape(-1)[row * width + column :]).scatter_add_(0, place, torch.from_numpy(samples))

    for (row, column), bilinear_weight in bilinear.items():
        weighted = weight * bilinear_weight
        add(weighted * value, observed, row, column)
        for (other_row, other_column), other_bilinear_weight in bilinear.items():
            if (offset := (other_row - row, other_column - column)) in stencil:
                add(weighted * other_bilinear_weight, stencil[offset], row, column)

    def normal_matrix(picture: np.ndarray) -> np.ndarray:
        total = np.zeros_like(picture)
        for (row, column), coefficient in stencil.items():
            here = slice(0, height - row), slice(max(-column, 0), width - max(column, 0))
            there = slice(row, height), slice(max(column, 0), width + min(column, 0))
            total[here] += coefficient[here] * picture[there]
            if here != there:
                total[there] += coefficient[here] * picture[here]
        return total

    return normal_matrix, observed
