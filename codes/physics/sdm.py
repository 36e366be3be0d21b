"""The closed-form spike-guided deblurring model: what the spikes say about the light at one instant.

Source: Chen et al., "SpikeReveal", NeurIPS 2024 (arXiv 2403.09486), section 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


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
    """Cut a window around each of N instants out of spikes or light [B,T,h,w]: [B*N,length,h,w] float32."""
    return torch.stack([window(spikes, center, length) for center in centers], 1).float().flatten(0, 1)


def tfp(spikes: Tensor, center: int, length: int) -> Tensor:
    """Average the spikes [B,T,h,w] over a window: light [B,1,h,w] float in [0,1] ("texture from playback").

    Source: Zhu et al., "A retina-inspired sampling method for visual texture reconstruction", ICME 2019.
    """
    return window(spikes, center, length).mean(1, keepdim=True, dtype=torch.float32)


def sdm(blur: Tensor, long: Tensor, short: Tensor) -> Tensor:
    """Sharpen a blurry picture by the ratio of light at the instant to light over the exposure; 0 where that is 0.

    blur [B,3,H,W]; long and short [B,1,H,W], over the exposure and around the instant -> [B,3,H,W], not clipped.
    Source: SpikeReveal, eq. 7.
    """
    ratio = torch.where(long > 0, short / long.where(long > 0, 1), 0)
    return blur * ratio


def sharpen(blur: Tensor, ratio: Tensor, mean: Tensor) -> Tensor:
    """Sharpen a blurry picture half by the ratio of light (`sdm`), half by its difference to the mean.

    The ratio is right where one thing is lit and shaded, the difference where one colour gives way to another; the mean
    of both is B + (B + M)(ratio - 1)/2. blur [B,3,H,W]; ratio, light at the instant over `mean`, and mean [B,1,H,W],
    in any scale: it is brought to that of the picture -> [B,3,H,W], not clipped.
    """
    mean = mean * (gray(blur).mean((1, 2, 3), keepdim=True) / mean.mean((1, 2, 3), keepdim=True).clamp(min=1e-6))
    return torch.addcmul(blur, blur + mean, ratio - 1, value=0.5)


def mean_over_exposure(sharp: Tensor) -> Tensor:
    """Average instants [B,N,3,H,W], evenly over the exposure from end to end, into its picture: trapezoid rule."""
    return (sharp.sum(1) - (sharp[:, 0] + sharp[:, -1]) / 2) / (sharp.shape[1] - 1)


def data_consistency_residual(sharp: Tensor, blur: Tensor) -> Tensor:
    """Return what the mean of instants [B,N,3,H,W] lacks of the picture [B,3,H,W] that they are the parts of.

    Added to all of them it makes them agree with it: the data consistency of iterative reconstruction.
    """
    return blur - mean_over_exposure(sharp)


def gray(bgr: Tensor) -> Tensor:
    """Weigh [B,3,H,W] BGR into one channel [B,1,H,W] by 0.11 B + 0.59 G + 0.30 R, as the spike camera sees it."""
    blue, green, red = bgr.split(1, -3)
    return 0.11 * blue + 0.59 * green + 0.30 * red  # numbers, not a tensor: nothing is sent to the device


def at_spike_size(image: Tensor, like: Tensor) -> Tensor:
    """Shrink [B,C,H,W] to the size of `like` [B,C,h,w]: bilinear without antialiasing, as the simulator sees it."""
    return F.interpolate(image, like.shape[-2:], mode="bilinear", antialias=False)
