"""Spike labelling, signal or noise, and charge redistribution, both by a predicted intensity.

A spike that comes far too early for the prediction is labelled as noise, and the charge of each interval between signal
spikes is distributed over it as predicted. Nothing is trained. Runs on the CPU.
"""

import math

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
