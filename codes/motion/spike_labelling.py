"""Which spikes light made, and how the light of an interval lies within it, as the motion around a pixel tells.

A pixel alone knows only how long it took to gather a charge. What lies on the same path of motion some ticks before
and after, averaged, predicts its light at every tick: so a spike that comes far too early for it is the sensor's own,
and the charge of a long interval belongs where the light was. Nothing is trained. Runs on the CPU.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from codes.motion.interpolation import between
from codes.motion.super_resolution import WindowMeans, flow, interpolated, knots_between
from codes.physics.intensity import IN_CACHE, estimate_intensity, firing_rate, interval_ends

STEP = 4  # ticks between the instants that are predicted; between them light is interpolated
REACH = (8, 16, 24, 32)  # ticks to either side that are brought to an instant
AVERAGED = 5  # ticks averaged for each
REFINEMENTS = 2  # of the flow to them; more bring nothing
TOLERANCE = 0.3  # difference of light, of 1, at which a neighbour counts 1/e
PASSES = 2  # each predicts by what the pass before explained
FALSE = 0.007  # false spikes a tick: 1 in 140, as published
CHARGE_ERROR = 0.2  # standard deviation of the logarithm of a predicted charge
FILM_ERROR = 0.25  # the same, predicted by restored pictures
MATCHED_OVER = 3.0  # pixels, standard deviation, within which these are brought to the scale of light
DARKEST = 1e-4  # predicted light, in spikes a tick, at least
WORST = 8.0  # -log of the likelihood at which a prediction is taken for wrong, not the spikes
SKIPPED = 3  # false spikes in a row at most


def motion_compensated_intensity(spikes: Tensor) -> Tensor:
    """Return the light at every tick as the true spikes and motion tell: [T,h,w] of 0 and 1 -> [T,h,w] float32.

    Its charge over every interval between true spikes is that of one spike, as with `firing_rate`.
    """
    light = estimate_intensity(spikes[None], "rates")[0]
    for _ in range(PASSES):
        predicted = predict(light)
        light = redistribute_charge(label_spikes(spikes, predicted), predicted)
    return light


def refined_intensity(spikes: Tensor, light: Tensor, pictures: Tensor, instants: list[int]) -> Tensor:
    """Return light [T,h,w] as `motion_compensated_intensity` does, predicted by what was restored from it.

    pictures: [N,h,w], light that was restored at `instants`, ascending, in any scale. What is between two of them is
    interpolated along motion; before the first and after the last, light [T,h,w] of the look before predicts itself.
    What that explains is averaged along motion, and the mean of both predicts once more. All on the CPU.
    """
    bright = pictures.mean(0).quantile(0.999).clamp(min=1e-6)  # flow wants light in 0..1
    film = list((pictures / bright).numpy())
    frames = film[:1]
    for (before, after), (here, there) in zip(pairwise(film), pairwise(instants), strict=True):
        times = [(tick - here) / (there - here) for tick in range(here + 1, there)]
        frames += [*between(before, after, times, flow), after]
    shown, filmed, within = torch.from_numpy(np.stack(frames)), light.clone(), slice(instants[0], instants[-1] + 1)

    def around(picture: Tensor) -> Tensor:
        return torch.from_numpy(cv2.GaussianBlur(picture.numpy(), (0, 0), MATCHED_OVER))

    # What a camera makes of light is no single factor: black level, gamma, dark corners.
    filmed[within] = shown * around(light[within].mean(0)) / around(shown.mean(0)).clamp(min=1e-3)

    def explained(predicted: Tensor) -> Tensor:
        predicted = predicted.clamp(min=DARKEST)
        return redistribute_charge(label_spikes(spikes, predicted, charge_error=FILM_ERROR), predicted)

    return explained((filmed + predict(explained(filmed))) / 2)


def predict(light: Tensor) -> Tensor:
    """Average light [T,h,w] along motion: what each tick and those before and after it say of it.

    Returns [T,h,w], in spikes a tick as light is, DARKEST at least. Pictures are averaged at some instants, by flow
    that is found at fewer; what is between is interpolated.
    """
    # Flow wants light in 0..1, whatever the threshold was.
    scale = light.mean(0).quantile(0.999).clamp(min=1e-6)
    mean = WindowMeans((light / scale).numpy())
    total, height, width = light.shape
    instants = sorted({*range(0, total, STEP), total - 1})
    reach = [sign * ticks for ticks in REACH for sign in (-1, 1) if ticks < total]
    knots = {ticks: knots_between(max(0, -ticks), total - 1 - max(0, ticks), 0) for ticks in reach}
    rows, columns = np.indices((height, width), np.float32)

    def moved(ticks: int, knot: int) -> np.ndarray:
        return flow(mean(knot, AVERAGED), mean(knot + ticks, AVERAGED), refinements=REFINEMENTS)

    def picture(instant: int) -> np.ndarray:
        here = mean(instant, AVERAGED)
        smooth = cv2.GaussianBlur(here, (0, 0), 1.0)
        sums, weights = here.copy(), np.ones_like(here)
        for ticks in reach:
            if not 0 <= instant + ticks < total:
                continue
            move = interpolated(flows[ticks], instant)
            x, y, there = columns + move[..., 0], rows + move[..., 1], mean(instant + ticks, AVERAGED)
            there = cv2.remap(there, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            weight = np.exp(-(((cv2.GaussianBlur(there, (0, 0), 1.0) - smooth) / TOLERANCE) ** 2))
            sums += weight * there
            weights += weight
        return sums / weights

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # OpenCV lets other threads run meanwhile
        found = {ticks: pool.map(partial(moved, ticks), at) for ticks, at in knots.items()}
        flows = {ticks: dict(zip(knots[ticks], of_ticks, strict=True)) for ticks, of_ticks in found.items()}
        pictures = dict(zip(instants, pool.map(picture, instants), strict=True))
    every_tick = np.stack([interpolated(pictures, tick) for tick in range(total)])
    return torch.from_numpy(every_tick).mul_(scale).clamp_(min=DARKEST)


def label_spikes(spikes: Tensor, predicted: Tensor, *, charge_error: float = CHARGE_ERROR) -> Tensor:
    """Remove false spikes: of all ways to tell true from false in a pixel, the most likely one (Viterbi).

    spikes [T,h,w] of 0 and 1, predicted light [T,h,w] in spikes a tick -> [T,h,w] uint8. The charge predicted between
    two true spikes is 1 within `charge_error` and half a tick; each false spike costs its rarity.
    """
    total, fired = len(spikes), spikes.flatten(1) > 0
    predicted = predicted.flatten(1)
    charge = predicted.cumsum(0)
    # The last spikes of every pixel, the latest first: charge and tick of each, and the cost of taking it for true.
    # The first entry is the beginning of the stream, -1.
    shape = (SKIPPED + 1, fired.shape[1])
    state = torch.zeros(shape), torch.full(shape, -1.0), torch.full(shape, math.inf)
    state[-1][0] = 0
    rarity = -math.log(FALSE) * torch.arange(SKIPPED + 1).view(-1, 1)
    skipped = torch.zeros(fired.shape, dtype=torch.uint8)  # false spikes before each, were it true

    def unlikely(gathered: Tensor, light: Tensor, is_open: Tensor | bool) -> Tensor:
        """Score the charge of an interval that ends in light, within half a tick; of an open one it is 1 at most."""
        off = gathered.clamp(min=1e-3).log()
        off = torch.where(torch.as_tensor(is_open), off, off.abs())
        return (0.5 * ((off - torch.log1p(light / 2)).clamp(min=0) / charge_error) ** 2).clamp(max=WORST)

    for tick, fire in enumerate(fired):
        here = fire.nonzero()[:, 0]  # nothing changes where nothing fired
        before = [each.index_select(1, here) for each in state]
        at_charge, at_tick, cost = before
        is_open = at_tick < 0
        length = torch.log((math.sqrt(2 * math.pi) * charge_error * (tick - at_tick)).clamp(min=1)).masked_fill(
            is_open, 0
        )
        charge_here, light_here = (each[tick].index_select(0, here) for each in (charge, predicted))
        ways = cost + unlikely(charge_here - at_charge, light_here, is_open) + length + rarity
        best, skipped_here = ways.min(0)
        skipped[tick].index_copy_(0, here, skipped_here.to(torch.uint8))
        latest = (charge_here, torch.full_like(best, tick), best)
        for each, new, old in zip(state, latest, before, strict=True):
            each.index_copy_(1, here, torch.cat((new[None], old[:-1])))
    at_charge, _, cost = state
    left = (cost + unlikely(charge[-1] - at_charge, predicted[-1], True) + rarity).argmin(0).to(torch.uint8)
    true = torch.zeros(fired.shape, dtype=torch.uint8)
    for tick in reversed(range(total)):
        is_true = fired[tick] & (left == 0)
        true[tick] = is_true
        left = torch.where(is_true, skipped[tick], left - (fired[tick] & ~is_true).to(torch.uint8))
    return true.view(spikes.shape)


def redistribute_charge(spikes: Tensor, predicted: Tensor) -> Tensor:
    """Lay the charge of every interval between spikes [T,h,w] where light is predicted [T,h,w]: [T,h,w] float32."""
    # Every pixel is on its own: some rows at a time stay in the cache.
    rows = max(IN_CACHE // spikes[:, :1].numel(), 1)
    return torch.cat(
        [_redistribute_charge(*part) for part in zip(spikes.split(rows, 1), predicted.split(rows, 1), strict=True)], 1
    )


def _redistribute_charge(spikes: Tensor, predicted: Tensor) -> Tensor:
    before, after = (end[0].long() for end in interval_ends(spikes[None]))
    charge = torch.cat((torch.zeros_like(predicted[:1]), predicted.cumsum(0)))
    gathered = charge.gather(0, (after + 1).clamp(max=len(spikes))) - charge.gather(0, before + 1)
    is_open = (before < 0) | (after == len(spikes))
    return torch.where(is_open, firing_rate(spikes[None])[0], predicted / gathered.clamp(min=1e-12))
