"""How light is restored at an instant: by the student, by the closed-form model, or from spikes alone."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from codes import tiles
from codes.errors import InputError
from codes.networks import LDN
from codes.rates import ldn_input, light_of, over_mean
from codes.recipe import Recipe
from codes.sdm import gray, lacking, sdm, tfp
from codes.spikes import UPSCALE, Exposure
from codes.teacher import OWN_STEP, RateTeacher

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


def by_ldn(
    net: LDN, blur: Tensor, spikes: Tensor, *, exposure: Exposure, short: int, recipe: Recipe, tile: int
) -> Restorer:
    """Restore by the student, fed as its recipe says. tile: in spike pixels, 0: the whole at once."""
    light = light_of(spikes, recipe["spike_input"])
    length = net.spike_enc[0].in_channels
    given = {"length": length, "short": short, "exposure": exposure, "spike_input": recipe["spike_input"]}
    if recipe["picture"] == "fused":
        fuse = by_rates(RateTeacher(exposure=exposure), blur, spikes)

        def restore(instant: int) -> Tensor:
            picture, windows, _ = ldn_input(blur, light, [instant], **given, fused=fuse(instant).unsqueeze(1))
            return tiles.ldn(net, picture, tile=tile)(windows)
    else:
        look = tiles.ldn(net, blur, tile=tile)

        def restore(instant: int) -> Tensor:
            return look(*ldn_input(blur, light, [instant], **given)[1:])

    if recipe["consistency"] == "none":
        return restore
    return consistent(restore, blur, exposure, length=length, total=spikes.shape[1])


def consistent(restore: Restorer, blur: Tensor, exposure: Exposure, *, length: int, total: int) -> Restorer:
    """Add to whatever is restored what the mean of instants over the exposure lacks of the picture.

    Where windows of `length` frames do not reach both ends of the exposure, its mean is not known: nothing is added.
    """
    step = max(min(OWN_STEP, (exposure.length - 1) // INSTANTS), 1)  # as many of a short exposure as of a usual one
    instants = exposure.evenly(step)
    if instants[0] < length // 2 or instants[-1] > total - length + length // 2:
        return restore
    kept = {instant: restore(instant).float() for instant in set(instants)}
    missing = lacking(torch.stack([kept[instant] for instant in instants], 1), blur)
    return lambda instant: (kept[instant] if instant in kept else restore(instant).float()) + missing


def by_rates(teacher: RateTeacher, blur: Tensor, spikes: Tensor) -> Restorer:
    """Restore by the closed-form model on firing rates, fused or not."""
    light, mean = teacher.light(spikes)
    return lambda instant: teacher.sharpen(blur, over_mean(light(instant).unsqueeze(1), mean))[:, 0]


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
    return lambda instant: (enlarged(light(instant)) * gain).expand_as(blur)


def enlarged(light: Tensor) -> Tensor:
    """Enlarge [B,C,h,w] to the size of the picture, bilinear."""
    return F.interpolate(light, scale_factor=UPSCALE, mode="bilinear")
