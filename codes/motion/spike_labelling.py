"""Spike labelling, signal or noise, and charge redistribution, both by a predicted intensity.

A spike that comes far too early for the prediction is labelled as noise, and the charge of each interval between signal
spikes is distributed over it as predicted. Nothing is trained.
"""

import math
from collections.abc import Iterable
from itertools import repeat

import torch
from torch import Tensor

from codes.physics.intensity import IN_CACHE, firing_rate, interval_ends

NOISE_RATE = 0.007  # noise spikes a spike frame: 1 in 140, as published
CHARGE_ERROR = 0.2  # standard deviation of the logarithm of a predicted charge
WORST = 8.0  # negative log-likelihood beyond which the prediction counts as wrong, not the spikes
SKIPPED = 3  # noise spikes in a row at most


def label_spikes(spikes: Tensor, predicted: Tensor, *, charge_error: float = CHARGE_ERROR) -> Tensor:
    """Label every spike as signal or noise and remove the noise: the maximum a posteriori labels of a pixel (Viterbi).

    spikes [T,h,w] of 0 and 1, predicted intensity [T,h,w] in spikes a spike frame -> [T,h,w] uint8. The charge
    predicted between two signal spikes is 1 within `charge_error` and half a spike frame; each noise spike costs the
    negative logarithm of NOISE_RATE. The least cost of the spikes up to s, if s is signal, is

        cost(s) = min over k <= SKIPPED of
            cost(r) + charge cost(r, s) + log(sqrt(2 pi) charge_error (s - r)) - k log NOISE_RATE

    where r is the signal spike before s, with k noise spikes between the two.
    """
    total, fired, device = len(spikes), spikes.flatten(1) > 0, spikes.device
    predicted = predicted.flatten(1)
    charge = predicted.cumsum(0)
    # Of the last SKIPPED + 1 spikes of every pixel, the latest first: charge, time, and the cost of labelling it as
    # signal. The first entry is the beginning of the stream, -1.
    recent = torch.zeros(3 * (SKIPPED + 1), fired.shape[1], device=device)
    _, last_time, cost = recent.chunk(3)
    last_time[:], cost[1:] = -1, math.inf
    noise_cost = -math.log(NOISE_RATE) * torch.arange(SKIPPED + 1, device=device).view(-1, 1)
    skipped = torch.zeros(fired.shape, dtype=torch.uint8, device=device)  # noise spikes before each, if it is signal
    for time, here in enumerate(_updated_pixels(fired)):
        before = recent.index_select(1, here)
        last_charge, last_time, cost = before.chunk(3)
        charge_here, intensity_here = (each[time].index_select(0, here) for each in (charge, predicted))
        is_open = last_time < 0
        length = (math.sqrt(2 * math.pi) * charge_error * (time - last_time)).clamp_(min=1)
        costs = cost + length.log_().masked_fill_(is_open, 0) + noise_cost
        costs += _charge_cost(charge_here - last_charge, intensity_here, charge_error, is_open=is_open)
        best, skipped_here = costs.min(0)
        skipped[time].index_copy_(0, here, skipped_here.to(torch.uint8))
        latest = charge_here, torch.full_like(best, time), best
        after = torch.cat([x for new, old in zip(latest, before.chunk(3), strict=True) for x in (new[None], old[:-1])])
        recent.index_copy_(1, here, torch.where(fired[time].index_select(0, here), after, before))
    last_charge, _, cost = recent.chunk(3)
    costs = cost + _charge_cost(charge[-1] - last_charge, predicted[-1], charge_error, is_open=None) + noise_cost
    remaining = costs.argmin(0).to(torch.uint8)  # noise spikes before the next signal spike, going back in time
    signal = torch.zeros_like(skipped)
    for time in reversed(range(total)):
        is_signal = fired[time] & (remaining == 0)
        signal[time] = is_signal
        remaining = torch.where(is_signal, skipped[time], remaining - (fired[time] & ~is_signal).to(torch.uint8))
    return signal.view(spikes.shape)


def _updated_pixels(fired: Tensor) -> Iterable[Tensor]:
    """Return the pixels that are looked at in each spike frame of [T,P]: on a CPU those that fire.

    On a GPU all: to find those that fire would take longer, since the CPU has to wait for their number.
    """
    if fired.device.type != "cpu":
        return repeat(torch.arange(fired.shape[1], device=fired.device), len(fired))
    return fired.nonzero()[:, 1].split(fired.sum(1).tolist())


def _charge_cost(between: Tensor, at_end: Tensor, charge_error: float, *, is_open: Tensor | None) -> Tensor:
    """Score the predicted charge of an interval against 1, with a tolerance of half a spike frame.

    between: the charge; at_end: the intensity predicted there. An open interval, which the stream cuts, is scored from
    above only; None: all are open.
    """
    error = between.clamp(min=1e-3).log_()
    error = error if is_open is None else torch.where(is_open, error, error.abs())
    return error.sub_(torch.log1p(at_end / 2)).clamp_(min=0).div_(charge_error).square_().mul_(0.5).clamp_(max=WORST)


def redistribute_charge(spikes: Tensor, predicted: Tensor) -> Tensor:
    """Redistribute the charge of every interval between spikes [T,h,w] as predicted [T,h,w]: [T,h,w] float32."""
    # Pixels are independent: on a CPU a few rows at a time stay in the cache; a GPU computes all at once.
    rows = max(IN_CACHE // spikes[:, :1].numel(), 1) if spikes.device.type == "cpu" else spikes.shape[1]
    return torch.cat(
        [_redistribute_charge(*part) for part in zip(spikes.split(rows, 1), predicted.split(rows, 1), strict=True)], 1
    )


def _redistribute_charge(spikes: Tensor, predicted: Tensor) -> Tensor:
    before, after = (end[0].long() for end in interval_ends(spikes[None]))
    charge = torch.cat((torch.zeros_like(predicted[:1]), predicted.cumsum(0)))
    between = charge.gather(0, (after + 1).clamp(max=len(spikes))) - charge.gather(0, before + 1)
    is_open = (before < 0) | (after == len(spikes))
    return torch.where(is_open, firing_rate(spikes[None])[0], predicted / between.clamp(min=1e-12))
