"""Spike labelling, signal or noise, and charge redistribution, both from motion-compensated intensity.

A pixel alone tells only how long it took to collect a charge. The intensity along its motion path some spike frames
before and after predicts its intensity in every spike frame. A spike that comes far too early for that prediction is
labelled as noise, and the charge of each interval is distributed over it as predicted. Nothing is trained. Runs on the
CPU.
"""

import math
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
from codes.motion.super_resolution import WindowMeans
from codes.physics.intensity import IN_CACHE, firing_rate, interval_ends

STEP = 4  # spike frames between the predicted times; intensity between them is interpolated
REACH = (8, 16, 24, 32)  # spike frames to either side that are aligned with a time
AVERAGED = 5  # spike frames averaged for each
REFINEMENTS = 2  # variational refinements of the flow to them; more bring nothing
TOLERANCE = 0.3  # difference of intensity, of 1, at which the weight of a neighbour is 1/e
PASSES = 2  # each predicts from the labels of the pass before
NOISE_RATE = 0.007  # noise spikes a spike frame: 1 in 140, as published
CHARGE_ERROR = 0.2  # standard deviation of the logarithm of a predicted charge
FILM_ERROR = 0.25  # the same, predicted from restored frames
MATCHED_OVER = 3.0  # pixels, standard deviation, within which these are scaled to the intensity
DARKEST = 1e-4  # lower bound of predicted intensity, in spikes a spike frame
WORST = 8.0  # negative log-likelihood beyond which the prediction counts as wrong, not the spikes
SKIPPED = 3  # noise spikes in a row at most


def motion_compensated_intensity(
    spikes: Tensor, intensity: Tensor, film: Tensor | None = None, film_times: Sequence[int] = ()
) -> Tensor:
    """Remove noise spikes and redistribute the charge of the others along motion: [B,T,h,w] float32.

    spikes: [B,T,h,w] of 0 and 1; intensity: [B,T,h,w], an estimate of each pixel alone or of an earlier refinement
    iteration, which predicts itself along motion. film: frames [B,N,h,w] in any scale that were restored from it at
    ascending `film_times`; they then predict the intensity between the first and the last of these times.
    The charge of the result over every interval between two signal spikes is that of one spike.
    """
    found = []
    for index, (one, of_pixels) in enumerate(zip(spikes.cpu(), intensity.cpu(), strict=True)):
        if film is None:
            found.append(_compensate(one, of_pixels))
        else:
            found.append(_refine(one, of_pixels, film[index].detach().cpu(), film_times))
    return torch.stack(found).to(spikes.device)


def _compensate(spikes: Tensor, intensity: Tensor) -> Tensor:
    """Label spikes and redistribute their charge by what intensity [T,h,w] predicts along motion, PASSES times."""
    for _ in range(PASSES):
        predicted = predict(intensity)
        intensity = redistribute_charge(label_spikes(spikes, predicted), predicted)
    return intensity


def _refine(spikes: Tensor, intensity: Tensor, film: Tensor, times: Sequence[int]) -> Tensor:
    """Label spikes and redistribute their charge by what restored frames [N,h,w] predict.

    Between two of their times frames are interpolated along motion; before the first and after the last, intensity
    [T,h,w] predicts itself. The result is averaged along motion, and the mean of both predictions is used once more.
    """
    predicted_by_film = _predict_from_film(intensity, film, times)

    def labelled(predicted: Tensor) -> Tensor:
        predicted = predicted.clamp(min=DARKEST)
        return redistribute_charge(label_spikes(spikes, predicted, charge_error=FILM_ERROR), predicted)

    return labelled((predicted_by_film + predict(labelled(predicted_by_film))) / 2)


def _predict_from_film(intensity: Tensor, film: Tensor, times: Sequence[int]) -> Tensor:
    """Replace intensity [T,h,w] between the first and the last time by interpolated frames [N,h,w] in its scale."""
    brightest = film.mean(0).quantile(0.999).clamp(min=1e-6)  # flow is computed on 0..1
    given = list((film / brightest).numpy())
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


def predict(intensity: Tensor) -> Tensor:
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


def label_spikes(spikes: Tensor, predicted: Tensor, *, charge_error: float = CHARGE_ERROR) -> Tensor:
    """Label every spike as signal or noise and remove the noise: the maximum a posteriori labels of a pixel (Viterbi).

    spikes [T,h,w] of 0 and 1, predicted intensity [T,h,w] in spikes a spike frame -> [T,h,w] uint8. The charge
    predicted between two signal spikes is 1 within `charge_error` and half a spike frame; each noise spike costs the
    negative logarithm of NOISE_RATE.
    """
    total, fired = len(spikes), spikes.flatten(1) > 0
    predicted = predicted.flatten(1)
    charge = predicted.cumsum(0)
    # The last spikes of every pixel, the latest first: charge and time of each, and the cost of labelling it as signal.
    # The first entry is the beginning of the stream, -1.
    shape = (SKIPPED + 1, fired.shape[1])
    state = torch.zeros(shape), torch.full(shape, -1.0), torch.full(shape, math.inf)
    state[-1][0] = 0
    noise_cost = -math.log(NOISE_RATE) * torch.arange(SKIPPED + 1).view(-1, 1)
    skipped = torch.zeros(fired.shape, dtype=torch.uint8)  # noise spikes before each spike, if that is signal

    def charge_cost(between: Tensor, at_end: Tensor, is_open: Tensor | bool) -> Tensor:
        """Score the predicted charge of an interval against 1, half a spike frame free; if open, from above only."""
        error = between.clamp(min=1e-3).log()
        error = torch.where(torch.as_tensor(is_open), error, error.abs())
        return (0.5 * ((error - torch.log1p(at_end / 2)).clamp(min=0) / charge_error) ** 2).clamp(max=WORST)

    for time, fire in enumerate(fired):
        here = fire.nonzero()[:, 0]  # nothing changes where nothing fired
        before = [each.index_select(1, here) for each in state]
        last_charge, last_time, cost = before
        is_open = last_time < 0
        length = (math.sqrt(2 * math.pi) * charge_error * (time - last_time)).clamp(min=1)
        length_cost = torch.log(length).masked_fill(is_open, 0)
        charge_here, intensity_here = (each[time].index_select(0, here) for each in (charge, predicted))
        costs = cost + charge_cost(charge_here - last_charge, intensity_here, is_open) + length_cost + noise_cost
        best, skipped_here = costs.min(0)
        skipped[time].index_copy_(0, here, skipped_here.to(torch.uint8))
        latest = (charge_here, torch.full_like(best, time), best)
        for each, new, old in zip(state, latest, before, strict=True):
            each.index_copy_(1, here, torch.cat((new[None], old[:-1])))
    last_charge, _, cost = state
    costs = cost + charge_cost(charge[-1] - last_charge, predicted[-1], True) + noise_cost
    remaining = costs.argmin(0).to(torch.uint8)  # noise spikes before the next signal spike, going back in time
    signal = torch.zeros(fired.shape, dtype=torch.uint8)
    for time in reversed(range(total)):
        is_signal = fired[time] & (remaining == 0)
        signal[time] = is_signal
        remaining = torch.where(is_signal, skipped[time], remaining - (fired[time] & ~is_signal).to(torch.uint8))
    return signal.view(spikes.shape)


def redistribute_charge(spikes: Tensor, predicted: Tensor) -> Tensor:
    """Distribute the charge of every interval between spikes [T,h,w] as predicted [T,h,w]: [T,h,w] float32."""
    # Pixels are independent: a few rows at a time stay in the cache.
    rows = max(IN_CACHE // spikes[:, :1].numel(), 1)
    return torch.cat(
        [_redistribute_charge(*part) for part in zip(spikes.split(rows, 1), predicted.split(rows, 1), strict=True)], 1
    )


def _redistribute_charge(spikes: Tensor, predicted: Tensor) -> Tensor:
    before, after = (end[0].long() for end in interval_ends(spikes[None]))
    charge = torch.cat((torch.zeros_like(predicted[:1]), predicted.cumsum(0)))
    between = charge.gather(0, (after + 1).clamp(max=len(spikes))) - charge.gather(0, before + 1)
    is_open = (before < 0) | (after == len(spikes))
    return torch.where(is_open, firing_rate(spikes[None])[0], predicted / between.clamp(min=1e-12))
