"""Prediction of intensity in each spike frame from those before and after it along motion, or from restored frames.

A pixel alone tells only how long it took to collect a charge. The intensity along its motion path some spike frames
before and after predicts its intensity in every spike frame, and restored frames predict it better still. Nothing is
trained. Runs on the device of the intensity.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from codes.motion.batch_interpolation import interpolate_pairs
from codes.motion.flow import cubic_weights, knot_times
from codes.motion.smoothing import gaussian_blur
from codes.motion.warping import Flows, combine, dis_flows, pixel_positions, warp
from codes.motion.window_means import window_means
from codes.parallel import in_threads
from codes.physics.sdm import at_spike_size, gray

STEP = 4  # spike frames between the predicted times; intensity between them is interpolated
REACH = (8, 16, 24, 32)  # spike frames to either side that are aligned with a time
AVERAGED = 5  # spike frames averaged for each
REFINEMENTS = 2  # variational refinements of the flow to them; more bring nothing
TOLERANCE = 0.3  # difference of intensity, of 1, at which the weight of a neighbour is 1/e
MATCHED_OVER = 3.0  # pixels, standard deviation, within which restored frames are scaled to the intensity
IN_CACHE = 2**15  # pixels averaged at the same time in a thread of a CPU
DARKEST = 1e-4  # lower bound of predicted intensity, in spikes a spike frame


def predict_along_motion(intensity: Tensor, *, flow: Flows = dis_flows) -> Tensor:
    """Average intensity [T,h,w] along motion, over each spike frame and those before and after it.

    Returns [T,h,w] in spikes a spike frame, DARKEST at least. Averages are computed at every STEP-th time, by flow
    that is computed at fewer; both are interpolated in between.
    """
    # Flow is computed on 0..1, whatever the threshold was.
    scale = intensity.mean(0).quantile(0.999).clamp(min=1e-6)
    means, total = window_means((intensity / scale)[None], AVERAGED)[0], len(intensity)
    times = sorted({*range(0, total, STEP), total - 1})
    offsets = [sign * offset for offset in REACH for sign in (-1, 1) if offset < total]
    flows = _flows_at_knots(means, offsets, times, flow)
    # A GPU averages at all times at once, each thread of a CPU at as many as stay in its cache.
    is_cpu = intensity.device.type == "cpu"
    at_once = max(IN_CACHE // means[0].numel(), 1) if is_cpu else len(times)
    averages = in_threads(
        lambda first: _average_along_motion(means, flows, times, slice(first, first + at_once)),
        range(0, len(times), at_once),
        threads=torch.get_num_threads() if is_cpu else 1,
    )
    averages, every_time = torch.cat(averages), torch.empty_like(means)
    for time, weights in enumerate(cubic_weights(times, range(total))):
        every_time[time] = combine(averages, weights)
    return every_time.mul_(scale).clamp_(min=DARKEST)


def _flows_at_knots(
    means: Tensor, offsets: list[int], times: list[int], flow: Flows
) -> dict[int, tuple[Tensor, np.ndarray]]:
    """Compute the flow from window means [T,h,w] at K knots to those at each offset later, [K,2,h,w].

    Also returns the weights of the knots at N times, [N,K].
    """
    total = len(means)
    knots = {offset: knot_times(max(0, -offset), total - 1 - max(0, offset), 0) for offset in offsets}
    if not knots:
        return {}
    before = torch.stack([means[knot] for at in knots.values() for knot in at])
    after = torch.stack([means[knot + offset] for offset, at in knots.items() for knot in at])
    found = flow(before, after, refinements=REFINEMENTS).split([len(at) for at in knots.values()])
    return {
        offset: (flows, cubic_weights(at, np.clip(times, at[0], at[-1])))
        for (offset, at), flows in zip(knots.items(), found, strict=True)
    }


def _average_along_motion(
    means: Tensor, flows: dict[int, tuple[Tensor, np.ndarray]], times: list[int], part: slice
) -> Tensor:
    """Average the intensity at some of ascending times with that at every offset, aligned and weighted by similarity.

    means: window means [T,h,w]; flows: of `_flows_at_knots`. Returns [n,h,w].
    """
    times = times[part]
    sums = torch.stack([means[time] for time in times])
    smooth, weights = gaussian_blur(sums, 1.0), torch.ones_like(sums)
    still = pixel_positions(*means.shape[1:], device=means.device)
    for offset, (at_knots, weights_at) in flows.items():
        seen = [index for index, time in enumerate(times) if 0 <= time + offset < len(means)]
        if not seen:
            continue
        here = slice(seen[0], seen[-1] + 1)
        motion = torch.stack([combine(at_knots, row) for row in weights_at[part][here]])
        others = torch.stack([means[time + offset] for time in times[here]])
        aligned = warp(others, *(still + motion).unbind(1))
        difference = (gaussian_blur(aligned, 1.0) - smooth[here]).div_(TOLERANCE)
        weight = difference.square_().neg_().exp_()
        sums[here].addcmul_(weight, aligned)
        weights[here] += weight
    return sums.div_(weights)


def seen_by_spikes(restored: Tensor, like: Tensor) -> Tensor:
    """Return restored frames [B,3,H,W] as the spike camera sees them: [B,1,h,w], of the size of `like`."""
    return at_spike_size(gray(restored.clamp(0, 1)), like)


def predict_from_restored(
    intensity: Tensor, restored: Tensor, times: Sequence[int], *, flow: Flows = dis_flows
) -> Tensor:
    """Replace intensity [T,h,w] between the first and the last time by interpolated frames [N,h,w].

    times: ascending, of the frames, which may have any scale. Returns [T,h,w] in the scale of the intensity.
    """
    brightest = restored.mean(0).quantile(0.999).clamp(min=1e-6)  # flow is computed on 0..1
    frames, shown, predicted = restored / brightest, [], intensity.clone()
    for first, last, between in _equally_spaced(times):
        part = frames[first : last + 1]
        interpolated = interpolate_pairs(part[:-1], part[1:], between, flow=flow)
        shown.append(torch.cat((part[:-1].unsqueeze(1), interpolated), 1).flatten(0, 1))
    shown = torch.cat((*shown, frames[-1:]))
    within = slice(times[0], times[-1] + 1)

    def local_mean(frames: Tensor) -> Tensor:
        return gaussian_blur(frames.mean(0, keepdim=True), MATCHED_OVER)

    # Matched locally: the response of a camera is no single factor (black level, gamma, vignetting).
    predicted[within] = shown * local_mean(intensity[within]) / local_mean(shown).clamp(min=1e-3)
    return predicted


def _equally_spaced(times: Sequence[int]) -> Iterator[tuple[int, int, list[float]]]:
    """Yield runs of ascending times with the same step: index of the first and the last, shares of the step between."""
    steps, first = np.diff(times).tolist(), 0
    for step, run in groupby(steps):
        last = first + len(list(run))
        yield first, last, [part / step for part in range(1, step)]
        first = last
