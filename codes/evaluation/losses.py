"""Distances that training losses are made of: scalars of images [B,C,H,W] in float32, which are not clipped."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from codes.errors import InputError
from codes.evaluation.lpips import LPIPS
from codes.memory_format import memory_format

Loss = Callable[[Tensor, Tensor], Tensor]
SIDE, SIGMA = 11, 1.5  # of the window of SSIM


def full(x: Tensor) -> Tensor:
    """Convert what autocast lowered to the default dtype: float32, unless a comparison is made in float64."""
    return x.to(torch.get_default_dtype())


def mse(image: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error."""
    return F.mse_loss(full(image), full(truth))


def dssim(image: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - SSIM with the Gaussian window of Wang et al. 2004, averaged over all windows within the image.

    Raises: InputError for images smaller than the window.
    """
    if min(image.shape[-2:]) < SIDE:
        raise InputError(f"SSIM needs images of at least {SIDE}x{SIDE}, found {list(image.shape[-2:])}: --roi_size")
    # The variances are differences of squares: in bfloat16 or TF32 all their digits would be rounding error.
    with torch.autocast(image.device.type, enabled=False):
        image, truth = full(image), full(truth)
        s, d = image + truth, image - truth
        mean_s, mean_d, ss, dd = _blur(torch.cat((s, d, s * s, d * d), 1)).chunk(4, 1)
        square_s, square_d = mean_s * mean_s, mean_d * mean_d
        var_s, var_d = (ss - square_s).clamp_min(0), (dd - square_d).clamp_min(0)
        # Sums and differences: 2 E[x] E[y] = (E[s]^2 - E[d]^2) / 2, and likewise for the rest.
        c1, c2 = 2 * 0.01**2, 2 * 0.03**2
        luminance = (square_s - square_d + c1) / (square_s + square_d + c1)
        structure = (var_s - var_d + c2) / (var_s + var_d + c2)
        return 1 - (luminance * structure).mean()


def _blur(x: Tensor) -> Tensor:
    """Average [B,C,H,W] under the window, along columns, then along rows: a sixth of the time of the square window."""
    # TF32 must not round here. The backward pass runs after these flags are reset: there the contiguous layout selects
    # the native depthwise kernel, which has no TF32, where cuDNN would be selected for channels-last.
    place = torch.arange(SIDE, device=x.device) - SIDE // 2
    window = torch.exp(-place.square() / (2 * SIGMA**2))
    window, channels = window / window.sum(), x.shape[1]
    with torch.backends.cudnn.flags(enabled=False, allow_tf32=False):
        for shape in ((channels, 1, SIDE, 1), (channels, 1, 1, SIDE)):
            x = F.conv2d(x.contiguous(), window.view(shape[2:]).expand(shape), groups=channels)
    return x


def dssim_l1(image: Tensor, truth: Tensor) -> Tensor:
    """Return (1 - SSIM) + mean absolute error, a loss that needs no pretrained network."""
    return dssim(image, truth) + F.l1_loss(full(image), full(truth))


def perceptual(name: str, *, rescaled: bool = True) -> Loss:
    """Return the distillation loss: "lpips" (VGG, as published) or "ssim" (`dssim_l1`, needs no weights).

    rescaled: LPIPS is fed RGB in [-1,1]; else BGR in [0,1], as in the reference implementation.
    Raises: InputError if the weights of VGG are missing and cannot be downloaded.
    """
    if name == "ssim":
        return dssim_l1
    try:
        lpips = LPIPS("vgg")
    except InputError as error:
        raise InputError(f"{error}; or train with --tea_loss ssim, which needs none") from None

    def loss(image: Tensor, truth: Tensor) -> Tensor:
        lpips.to(image.device, memory_format=memory_format(image.device))
        return lpips(image, truth, rescaled=rescaled).mean()

    return loss
