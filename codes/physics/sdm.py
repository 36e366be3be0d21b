"""Spike-guided deblurring model (SDM), in closed form: a blurry picture times a ratio of two intensities.

Source: Chen et al., "SpikeReveal", NeurIPS 2024 (arXiv 2403.09486), section 3.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from codes.data.spikes import GRAY_WEIGHTS, UPSCALE, Exposure

DARKEST = 1e-3  # lower bound of the denominator, relative to the mean intensity
LARGEST_RATIO = 255.0  # beyond it a ratio changes no 8-bit picture


def window(spikes: Tensor, center: int, length: int) -> Tensor:
    """Cut `length` spike frames around `center` out of spikes [B,T,h,w]: [B,length,h,w], center at index length // 2.

    Raises: ValueError if the window does not fit into the stream.
    """
    first, total = center - length // 2, spikes.shape[1]
    if length < 1 or first < 0 or first + length > total:
        raise ValueError(
            f"a window of {length} frames around {center} needs frames {first}..{first + length - 1}, "
            f"the stream has 0..{total - 1}"
        )
    return spikes[:, first : first + length]


def windows(spikes: Tensor, centers: list[int], length: int) -> Tensor:
    """Cut a window around each of N times out of spikes or intensity [B,T,h,w]: [B*N,length,h,w] float."""
    return (
        torch.stack([window(spikes, center, length) for center in centers], 1)
        .to(torch.get_default_dtype())
        .flatten(0, 1)
    )


def tfp(spikes: Tensor, center: int, length: int) -> Tensor:
    """Average spikes or intensity [B,T,h,w] over a window: [B,1,h,w] float in [0,1] ("texture from playback").

    Source: Zhu et al., "A retina-inspired sampling method for visual texture reconstruction", ICME 2019.
    """
    return window(spikes, center, length).mean(1, keepdim=True, dtype=torch.get_default_dtype())


def sdm(blur: Tensor, long: Tensor, short: Tensor) -> Tensor:
    """Multiply a blurry picture by the ratio of two intensities (multiplicative SDM); 0 where the denominator is 0.

    blur [B,3,H,W]; long and short [B,1,H,W], over the exposure and around the target time -> [B,3,H,W], not clipped.
    Source: SpikeReveal, eq. 7.
    """
    ratio = torch.where(long > 0, short / long.where(long > 0, 1), 0)
    return blur * ratio


def sharpen(blur: Tensor, ratio: Tensor, mean: Tensor) -> Tensor:
    """Return the mean of the multiplicative and the additive SDM.

    The ratio is right where one surface is lit and shaded, the difference where one colour replaces another; the mean
    of both is B + (B + M)(ratio - 1)/2. blur [B,3,H,W]; ratio, intensity at the target time over `mean`, and mean
    [B,1,H,W], in any scale: it is scaled to the picture -> [B,3,H,W], not clipped.
    """
    mean = mean * (gray(blur).mean((1, 2, 3), keepdim=True) / mean.mean((1, 2, 3), keepdim=True).clamp(min=1e-6))
    return torch.addcmul(blur, blur + mean, ratio - 1, value=0.5)


def intensity_ratios(intensity: Tensor, mean: Tensor) -> Tensor:
    """Divide intensity [B,N,1,H,W] by its mean over the exposure [B,1,H,W] and append that: [B,N+1,1,H,W]."""
    darkest = DARKEST * mean.mean((1, 2, 3), keepdim=True)
    mean, intensity = torch.maximum(mean, darkest).unsqueeze(1), torch.maximum(intensity, darkest.unsqueeze(1))
    return torch.cat(((intensity / mean).clamp(max=LARGEST_RATIO), mean), 1)


def apply_ratios(blur: Tensor, ratios: Tensor) -> Tensor:
    """Apply `intensity_ratios` [B,N+1,1,H,W] to a blurry picture [B,3,H,W]: [B,N,3,H,W], clipped to [0,1]."""
    return torch.stack([sharpen(blur, ratio, ratios[:, -1]) for ratio in ratios[:, :-1].unbind(1)], 1).clamp_(0, 1)


def closed_form(blur: Tensor, intensity: Tensor, mean: Tensor) -> Tensor:
    """Sharpen a blurry picture [B,3,H,W] by intensity at a target time and its mean over the exposure, [B,1,H,W] each.

    Returns [B,3,H,W], clipped to [0,1].
    """
    return apply_ratios(blur, intensity_ratios(intensity.unsqueeze(1), mean))[:, 0]


def gray(bgr: Tensor) -> Tensor:
    """Weigh [B,3,H,W] BGR into one channel [B,1,H,W] by GRAY_WEIGHTS, as the spike camera sees it."""
    blue, green, red = bgr.split(1, -3)
    b, g, r = GRAY_WEIGHTS
    return b * blue + g * green + r * red  # numbers, not a tensor: nothing is sent to the device


def match_picture_scale(intensity: Tensor, blur: Tensor, exposure: Exposure) -> Tensor:
    """Scale intensity [B,T,h,w] so that its mean over the exposure is that of the picture [B,3,H,W] in gray."""
    mean = tfp(intensity, exposure.center, exposure.length).mean((1, 2, 3))
    return intensity * (gray(blur).mean((1, 2, 3)) / mean).view(-1, 1, 1, 1)


def at_spike_size(image: Tensor, like: Tensor) -> Tensor:
    """Shrink [B,C,H,W] to the size of `like` [B,C,h,w]: bilinear without antialiasing, as the simulator sees it."""
    return F.interpolate(image, like.shape[-2:], mode="bilinear", antialias=False)


def upsample_bilinear(intensity: Tensor) -> Tensor:
    """Enlarge [B,C,h,w] to the size of the picture, [B,C,4h,4w]."""
    return F.interpolate(intensity, scale_factor=UPSCALE, mode="bilinear")


def upsample_bicubic(intensity: Tensor) -> Tensor:
    """Enlarge [B,C,h,w] to the size of the picture, [B,C,4h,4w]."""
    return F.interpolate(intensity, scale_factor=UPSCALE, mode="bicubic")


def bicubic_intensity(
    intensity: Tensor, times: Sequence[int], *, exposure: Exposure, short: int
) -> tuple[Tensor, Tensor]:
    """Enlarge short averages of intensity [B,T,h,w] at N target times, [B,N,1,4h,4w], and its mean over the exposure.

    `short`: spike frames averaged around each time.
    """
    mean = upsample_bicubic(tfp(intensity, exposure.center, exposure.length))
    return torch.stack([upsample_bicubic(tfp(intensity, time, short)) for time in times], 1), mean
