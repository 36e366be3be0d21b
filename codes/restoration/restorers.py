"""How light is restored at an instant: by the student, by the closed-form model, or from spikes alone."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from codes.data.spikes import UPSCALE, Exposure
from codes.distillation.teachers import OWN_STEP, ClosedFormTeacher, super_resolved_intensity
from codes.errors import InputError
from codes.motion.spike_labelling import refined_intensity
from codes.networks import LDN, tiling
from codes.physics.intensity import estimate_intensity, intensity_ratios, ldn_input, match_picture_scale
from codes.physics.sdm import at_spike_size, data_consistency_residual, gray, sdm, tfp, windows
from codes.recipe import Recipe

FEW = 0.2  # spikes a tick, in the mean of an exposure: with more, another look finds little
LOOKS = 3  # at few spikes
# Ticks between the pictures that explain spikes for the last look, and between their samples; for a look before it half
# of the pictures suffice.
FILM_STEP = 4
INSTANTS = 12  # parts at least that an exposure is cut into for its mean, where it has as many frames
Restorer = Callable[[int], Tensor]  # instant -> [1,3,H,W], not clipped


def check_instants(instants: Iterable[int], *, length: int, total: int) -> None:
    """Raise InputError for an instant around which a stream of `total` frames has no window of `length`."""
    first, last = length // 2, total - length + length // 2
    for instant in instants:
        if not first <= instant <= last:
            raise InputError(
                f"instant {instant}: {length} spike frames around it are needed, and the stream has 0..{total - 1}; "
                f"{first}..{last} are accepted"
            )


class Look(NamedTuple):
    """What was restored by one look at the spikes."""

    fused: Restorer | None  # by fusion along motion, where LDN is given that
    free: Restorer  # by LDN
    sharp: Restorer  # the same, made to agree with the picture where the recipe says so


def by_ldn(net: LDN, blur: Tensor, spikes: Tensor, **settings: Any) -> Restorer:
    """Restore by the student; settings as of `looks`."""
    *_, last = looks(net, blur, spikes, **settings)
    return last().sharp


def looks(
    net: LDN,
    blur: Tensor,
    spikes: Tensor,
    *,
    exposure: Exposure,
    short: int,
    recipe: Recipe,
    tile: int = 0,
    number: int = 0,
) -> Iterator[Callable[[], Look]]:
    """Restore by the student, fed as its recipe says; yield a function for each look at the spikes, which takes it.

    LDN of the recipe fused may look again: what it restored of a picture explains the spikes better than they explain
    each other. `tile`: in spike pixels; 0: the whole at once. `number`: of looks; 0: LOOKS where spikes are FEW in any
    sample, else one, where more would find little. Where LDN's windows fit at one instant only, it looks once.
    """
    length, total, is_free = net.spike_enc[0].in_channels, spikes.shape[1], recipe["consistency"] == "none"

    def found(free: Restorer, fused: Restorer | None = None) -> Look:
        return Look(fused, free, free if is_free else consistent(free, blur, exposure, length=length, total=total))

    if recipe["picture"] != "fused":
        light, see = estimate_intensity(spikes, recipe["spike_input"]), tiling.ldn(net, blur, tile=tile)
        sizes = {"length": length, "short": short, "exposure": exposure}
        given = ldn_input(blur, light, **sizes, spike_input=recipe["spike_input"])
        yield lambda: found(lambda instant: see(*given([instant])[1:]))
        return

    def look(light: Tensor, **fusion: Any) -> Look:
        at, mean = super_resolved_intensity(light, exposure, **fusion)
        scaled = match_picture_scale(light, blur, exposure)

        def fused(instant: int) -> Tensor:
            return ClosedFormTeacher.sharpen(blur, intensity_ratios(at(instant).unsqueeze(1), mean))[:, 0]

        def free(instant: int) -> Tensor:
            return tiling.ldn(net, fused(instant), tile=tile)(windows(scaled, [instant], length))

        return found(free, fused)

    light = ClosedFormTeacher(exposure=exposure).rates(spikes)
    yield cache(partial(look, light))

    def filmed(step: int) -> list[int]:
        """List instants of the exposure, and one to either side: light there matters to its ends."""
        inside = exposure.evenly(step)
        around = {inside[0] - step, *inside, inside[-1] + step}
        return sorted(t for t in around if length // 2 <= t <= total - length + length // 2)

    def film(light: Tensor, instants: list[int]) -> Tensor:
        rough = look(light, step=FILM_STEP, wanted=instants)
        return torch.cat([at_spike_size(gray(rough.sharp(t).float().clamp(0, 1)), light) for t in instants], 1)

    fired = tfp(light, exposure.center, exposure.length).mean((1, 2, 3)).min()
    number = number or (LOOKS if fired < FEW else 1)
    few, many = filmed(2 * FILM_STEP), filmed(FILM_STEP)
    for turn in range(1, number if len(many) > 1 else 1):
        instants = few if turn < number - 1 and len(few) > 1 else many
        each = zip(spikes.cpu(), light.cpu(), film(light, instants).detach().cpu(), strict=True)
        light = torch.stack([refined_intensity(*one, instants) for one in each]).to(spikes.device)
        yield cache(partial(look, light))


def consistent(restore: Restorer, blur: Tensor, exposure: Exposure, *, length: int, total: int) -> Restorer:
    """Add to whatever is restored what the mean of instants over the exposure lacks of the picture.

    Where windows of `length` frames do not reach both ends of the exposure, its mean is not known: nothing is added.
    """
    step = max(min(OWN_STEP, (exposure.length - 1) // INSTANTS), 1)  # as many of a short exposure as of a usual one
    instants = exposure.evenly(step)
    if instants[0] < length // 2 or instants[-1] > total - length + length // 2:
        return restore
    kept = {instant: restore(instant).float() for instant in set(instants)}
    missing = data_consistency_residual(torch.stack([kept[instant] for instant in instants], 1), blur)
    return lambda instant: (kept[instant] if instant in kept else restore(instant).float()) + missing


def by_rates(teacher: ClosedFormTeacher, blur: Tensor, spikes: Tensor) -> Restorer:
    """Restore by the closed-form model on firing rates, fused or not."""
    light, mean = teacher.light(spikes)
    return lambda instant: teacher.sharpen(blur, intensity_ratios(light(instant).unsqueeze(1), mean))[:, 0]


def by_ratio(
    blur: Tensor,
    spikes: Tensor,
    *,
    exposure: Exposure,
    short: int,
    denoise: Callable[[Tensor], Tensor],
    enlarge: Callable[[Tensor], Tensor],
) -> Restorer:
    """Restore by the closed-form model; with BSN to denoise and EDSR to enlarge it is the teacher.

    The long TFP is a mean over the exposure, whatever its length: the ratio needs no other scale.
    """
    long = enlarge(tfp(spikes, exposure.center, exposure.length))
    return lambda instant: sdm(blur, long, enlarge(denoise(tfp(spikes, instant, short))))


def by_light(light: Callable[[int], Tensor], blur: Tensor, spikes: Tensor, *, exposure: Exposure) -> Restorer:
    """Show light [1,1,h,w] of spikes alone, gray, in one scale that makes the exposure as bright as the picture."""
    gain = gray(blur).mean() / tfp(spikes, exposure.center, exposure.length).mean().clamp(min=1e-6)
    return lambda instant: (upsample_bilinear(light(instant)) * gain).expand_as(blur)


def upsample_bilinear(light: Tensor) -> Tensor:
    """Enlarge [B,C,h,w] to the size of the picture, bilinear."""
    return F.interpolate(light, scale_factor=UPSCALE, mode="bilinear")
