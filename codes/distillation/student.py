"""Inputs of the student LDN: what it starts from and the windows of spikes around the target times."""

from torch import Tensor

from codes.data.spikes import Exposure
from codes.motion.super_resolution import bicubic_intensity
from codes.physics.sdm import apply_ratios, gray, intensity_ratios, tfp, windows


def ldn_input(
    blur: Tensor,
    intensity: Tensor,
    times: list[int],
    *,
    length: int,
    short: int,
    exposure: Exposure,
    spike_input: str,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return what LDN that looks at the blurry picture is fed at N target times: picture, windows, and its start.

    blur: pictures [B,3,H,W]; intensity: [B,T,h,w] by `estimate_intensity`. Spike counts are fed as they are,
    [B*N,length,h,w], and LDN starts at the blurry picture (None). ISI intensity is scaled to the picture, so that
    threshold and gain cancel, and LDN starts at the closed form, [B*N,3,H,W]: it learns the remaining error.
    """
    if spike_input == "counts":
        return blur, windows(intensity, times, length), None
    intensity = match_picture_scale(intensity, blur, exposure)
    ratios = intensity_ratios(*bicubic_intensity(intensity, times, exposure=exposure, short=short))
    return blur, windows(intensity, times, length), apply_ratios(blur, ratios).flatten(0, 1)


def match_picture_scale(intensity: Tensor, blur: Tensor, exposure: Exposure) -> Tensor:
    """Scale intensity [B,T,h,w] so that its mean over the exposure is that of the picture [B,3,H,W] in gray."""
    mean = tfp(intensity, exposure.center, exposure.length).mean((1, 2, 3))
    return intensity * (gray(blur).mean((1, 2, 3)) / mean).view(-1, 1, 1, 1)
