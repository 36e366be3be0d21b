"""Flow-guided multi-frame super-resolution of intensity: from [h,w] of the spike camera to [4h,4w] of the picture.

Where the scene moves, each spike pixel sees it at another position in every spike frame. Optical flow between short
averages aligns these samples, and iterative back-projection reconstructs a grid four times as fine from them, starting
at a bicubic enlargement. Nothing is trained. Runs on the device of the intensity.
Source: Irani and Peleg, "Improving resolution by image registration", CVGIP 1991.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from codes.data.spikes import UPSCALE, Exposure
from codes.motion.flow import cubic_weights, knot_times
from codes.motion.normal_equations import NormalEquations
from codes.motion.smoothing import gaussian_blur
from codes.motion.warping import Flows, combine, dis_flows, pixel_positions, warp
from codes.motion.window_means import window_means
from codes.parallel import in_threads
from codes.physics.sdm import upsample_bicubic

REACH, STEP = 48, 2  # spike frames to either side of the target time that are used, and between them
MEAN_STEP = 8  # spike frames at most between the times whose mean is the intensity of the exposure
SAMPLE, MATCHED = 5, 9  # spike frames averaged for a sample, and for the frames that flow is computed between
TIME_SCALE = 40.0  # spike frames after which the weight of a sample is 1/e
TOLERANCE = 0.3  # difference of intensity, of 1, at which the weight of a sample is 1/e: it shows something else
LEAST_WEIGHT = 0.05  # of a sample that is used
SPREAD = 1.13  # picture pixels, standard deviation of the footprint of a sample
PRIOR = 1.0  # weight of the enlargement, in samples at the very pixel
# Of one of these, back-projected: bilinear weights of samples anywhere between pixels have a variance of 1/6.
DENSITY = 1 / (2 * math.pi * (SPREAD**2 + 1 / 6))
ROUNDS = 8  # of back-projection
BLOCK = 32  # target times whose reconstructions are in memory at the same time
AT_ONCE = 2**20  # spike pixels reconstructed at the same time on a GPU: 18 frames of 720p, each pixel takes 1 KB
IN_CACHE = 2**15  # samples whose weights are computed at the same time, unless there is one of each spike pixel

Place = tuple[int, int]  # a stream of the batch, a spike frame of it


def super_resolved_intensity(
    intensity: Tensor, times: Sequence[int], *, exposure: Exposure, step: int = STEP, flow: Flows = dis_flows
) -> tuple[Iterator[Tensor], Tensor]:
    """Reconstruct intensity [B,T,h,w] at target times, [B,1,4h,4w] each, and its mean over the exposure [B,1,4h,4w].

    The mean is that of reconstructions too, so that their common errors cancel in a ratio. Beyond those, BLOCK times
    are reconstructed at once, when the first of them is asked for. `step`: spike frames between the samples of each
    reconstruction.
    """
    mean = intensity[:, exposure.frames].mean(1)
    # Flow is computed on 0..1, whatever the threshold was.
    scale = torch.stack([one.quantile(0.999) for one in mean]).clamp(min=1e-6).view(-1, 1, 1, 1)
    intensity = intensity / scale

    def at(distinct: Sequence[int]) -> dict[int, Tensor]:
        fine = super_resolve(intensity, distinct, step=step, flow=flow).unsqueeze(2)
        return dict(zip(distinct, fine.unbind(1), strict=True))

    averaged = exposure.evenly(MEAN_STEP)
    others = [time for time in dict.fromkeys(times) if time not in averaged]
    known = at([*averaged, *others[: max(BLOCK - len(averaged), 0)]])

    def at_times() -> Iterator[Tensor]:
        block = known
        for place, time in enumerate(times):
            if time not in block and time not in known:
                block = at([later for later in dict.fromkeys(times[place:]) if later not in known][:BLOCK])
            yield block[time] if time in block else known[time]

    return at_times(), torch.stack([known[time] for time in averaged], 1).mean(1)


def super_resolve(intensity: Tensor, times: Sequence[int], *, step: int = STEP, flow: Flows = dis_flows) -> Tensor:
    """Reconstruct intensity [B,T,h,w], about 0..1, at N target times: [B,N,4h,4w] float32.

    A spike pixel is modelled as the mean of the inner 2x2 of its 4x4 picture pixels, as the simulator makes it.
    """
    samples, matched = window_means(intensity, SAMPLE), window_means(intensity, MATCHED)
    targets = [(stream, time) for stream in range(len(intensity)) for time in times]
    # A GPU reconstructs many frames at once, each thread of a CPU one, which stays in its cache.
    is_cpu = intensity.device.type == "cpu"
    at_once = 1 if is_cpu else max(AT_ONCE // intensity[0, 0].numel(), 1)
    fine = in_threads(
        lambda first: _reconstruct(samples, matched, targets[first : first + at_once], step=step, flow=flow),
        range(0, len(targets), at_once),
        threads=torch.get_num_threads() if is_cpu else 1,
    )
    return torch.cat(fine).unflatten(0, (-1, len(times)))


def _reconstruct(samples: Tensor, matched: Tensor, targets: Sequence[Place], *, step: int, flow: Flows) -> Tensor:
    """Reconstruct N targets, streams and times of window means [B,T,h,w]: [N,4h,4w]."""
    reference = _at(matched, targets)
    fine = upsample_bicubic(reference.unsqueeze(1)).squeeze(1)
    used = [_sampled_offsets(time, matched.shape[1], step) for _, time in targets]
    offsets = sorted(set().union(*used))
    time_weights = [[math.exp(-((offset / TIME_SCALE) ** 2)) * (offset in each) for offset in offsets] for each in used]
    time_weights = torch.tensor(time_weights, device=fine.device)[..., None, None]
    flows = _flow_to_targets(matched, targets, used, offsets, flow)
    still = UPSCALE * pixel_positions(*reference.shape[1:], device=fine.device) + (UPSCALE - 1) / 2
    equations, at_once = NormalEquations(fine), max(IN_CACHE // reference.numel(), 1)
    for first in range(0, len(offsets), at_once):
        part = range(first, min(first + at_once, len(offsets)))
        motion = torch.stack([combine(at_knots, weights[index]) for at_knots, weights in flows for index in part])
        x, y = torch.add(still, motion.unflatten(0, (-1, len(part))), alpha=UPSCALE).unbind(2)  # [N,L,h,w]
        others = [(stream, time + offsets[index]) for stream, time in targets for index in part]
        found = warp(fine, x.flatten(1, 2), y.flatten(1, 2)).view_as(x)
        difference = (found - _at(matched, others).view_as(x)).div_(TOLERANCE)
        weights = difference.square_().neg_().exp_().mul_(time_weights[:, first : first + at_once])
        if 0 in (here := offsets[first : first + at_once]):
            weights[:, here.index(0)] = 1  # the target time itself
        weights = F.threshold(weights, LEAST_WEIGHT, 0)
        equations.add(x, y, _at(samples, others), weights)

    density = _back_project(equations.normal_matrix(torch.ones_like(fine)))
    density += PRIOR * DENSITY
    for _ in range(ROUNDS):
        residual = equations.normal_matrix(fine).neg_().add_(equations.observed)
        fine.addcdiv_(_back_project(residual), density)
    return fine


def _back_project(residual: Tensor) -> Tensor:
    return gaussian_blur(residual, SPREAD, is_zero_outside=True)


def _sampled_offsets(time: int, total: int, step: int) -> list[int]:
    """List the spike frames, from a target time on, that are used: 0 and those whose windows lie in the stream."""
    margin = MATCHED // 2
    offsets = range(-(REACH // step * step), REACH + 1, step)
    return [offset for offset in offsets if margin <= time + offset < total - margin or offset == 0]


def _at(means: Tensor, places: Sequence[Place]) -> Tensor:
    """Return the window means [B,T,h,w] at N places, or at the end of the stream where they are outside: [N,h,w]."""
    last = means.shape[1] - 1
    return torch.stack([means[stream, min(max(time, 0), last)] for stream, time in places])


def _flow_to_targets(
    matched: Tensor, targets: Sequence[Place], used: list[list[int]], offsets: list[int], flow: Flows
) -> list[tuple[list[Tensor], np.ndarray]]:
    """Compute the flow from K knots around each target to it, [2,h,w] each, in spike pixels.

    used: offsets of the samples of each target, out of L. Also returns the weights of the knots at these, [L,K].
    """
    knots = [knot_times(each[0], each[-1], 0) for each in used]
    moved = [
        ((stream, time + knot), (stream, time))
        for (stream, time), at in zip(targets, knots, strict=True)
        for knot in at
        if knot
    ]
    found = iter(flow(*(_at(matched, places) for places in zip(*moved, strict=True))) if moved else ())
    still = torch.zeros(2, *matched.shape[2:], device=matched.device)
    return [
        ([next(found) if knot else still for knot in at], cubic_weights(at, np.clip(offsets, at[0], at[-1])))
        for at in knots
    ]
