"""Motion-compensated prediction: the intensity of each spike frame from those before and after it, along motion.

A pixel alone tells only how long it took to collect a charge. The intensity along its motion path some spike frames
before and after predicts its intensity in every spike frame, and restored frames predict it better still. Nothing is
trained. Runs on the CPU.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from codes.motion.flow import fine_flow, interpolate, knot_times, pixel_grid, sample
from codes.motion.interpolation import interpolate_frames
from codes.motion.window_means import WindowMeans

STEP = 4  # spike frames between the predicted times; intensity between them is interpolated
REACH = (8, 16, 24, 32)  # spike frames to either side that are aligned with a time
AVERAGED = 5  # spike frames averaged for each
REFINEMENTS = 2  # variational refinements of the flow to them; more bring nothing
TOLERANCE = 0.3  # difference of intensity, of 1, at which the weight of a neighbour is 1/e
MATCHED_OVER = 3.0  # pixels, standard deviation, within which restored frames are scaled to the intensity
DARKEST = 1e-4  # lower bound of predicted intensity, in spikes a spike frame


def predict_along_motion(intensity: Tensor) -> Tensor:
    """Average intensity [T,h,w] along motion, over each spike frame and those before and after it.

    Returns [T,h,w] in spikes a spike frame, DARKEST at least. Averages are computed at every STEP-th time, by flow
    that is computed at fewer; both are interpolated in between.
    """
    # Flow is computed on 0..1, whatever the threshold was.
    scale = intensity.mean(0).quantile(0.999).clamp(min=1e-6)
    means, total = WindowMeans((intensity / scale).numpy()), len(intensity)
    times = sorted({*range(0, total, STEP), total - 1})
    offsets = [sign * offset for offset in REACH for sign in (-1, 1) if offset < total]
    knots = {offset: knot_times(max(0, -offset), total - 1 - max(0, offset), 0) for offset in offsets}

    def knot_flow(offset: int, knot: int) -> np.ndarray:
        return fine_flow(means(knot, AVERAGED), means(knot + offset, AVERAGED), refinements=REFINEMENTS)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # OpenCV lets other threads run meanwhile
        found = {offset: pool.map(partial(knot_flow, offset), at) for offset, at in knots.items()}
        flows = {offset: dict(zip(knots[offset], arrays, strict=True)) for offset, arrays in found.items()}
        averages = dict(zip(times, pool.map(partial(_average_along_motion, means, flows), times), strict=True))
    every_time = np.stack(interpolate(averages, range(total)))
    return torch.from_numpy(every_time).mul_(scale).clamp_(min=DARKEST)


def _average_along_motion(means: WindowMeans, flows: dict[int, dict[int, np.ndarray]], time: int) -> np.ndarray:
    """Average the intensity [h,w] at a time with that at every offset, aligned by flow and weighted by similarity."""
    here = means(time, AVERAGED)
    smooth = cv2.GaussianBlur(here, (0, 0), 1.0)
    grid, sums, weights = pixel_grid(*here.shape), here.copy(), np.ones_like(here)
    for offset, at_knots in flows.items():
        if not 0 <= time + offset < len(means):
            continue
        (flow,) = interpolate(at_knots, [time])
        aligned = sample(means(time + offset, AVERAGED), grid + flow)
        weight = np.exp(-(((cv2.GaussianBlur(aligned, (0, 0), 1.0) - smooth) / TOLERANCE) ** 2))
        sums += weight * aligned
        weights += weight
    return sums / weights


def predict_from_restored(intensity: Tensor, restored: Tensor, times: Sequence[int]) -> Tensor:
    """Replace intensity [T,h,w] between the first and the last time by interpolated frames [N,h,w].

    times: ascending, of the frames, which may have any scale. Returns [T,h,w] in the scale of the intensity.
    """
    brightest = restored.mean(0).quantile(0.999).clamp(min=1e-6)  # flow is computed on 0..1
    given = list((restored / brightest).numpy())
    frames = given[:1]
    for (before, after), (start, end) in zip(pairwise(given), pairwise(times), strict=True):
        between = [(time - start) / (end - start) for time in range(start + 1, end)]
        frames += [*interpolate_frames(before, after, between, fine_flow), after]
    shown, predicted = torch.from_numpy(np.stack(frames)), intensity.clone()
    within = slice(times[0], times[-1] + 1)

    def local_mean(frame: Tensor) -> Tensor:
        return torch.from_numpy(cv2.GaussianBlur(frame.numpy(), (0, 0), MATCHED_OVER))

    # Matched locally: the response of a camera is no single factor (black level, gamma, vignetting).
    predicted[within] = shown * local_mean(intensity[within].mean(0)) / local_mean(shown.mean(0)).clamp(min=1e-3)
    return predicted
