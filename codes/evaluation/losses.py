"""What training minimises: scalars in float32 over pictures [B,C,H,W], never clipped."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from codes.errors import InputError
from codes.evaluation.lpips import LPIPS

Loss = Callable[[Tensor, Tensor], Tensor]
SIDE, SIGMA = 11, 1.5  # of the window of SSIM


def mse(image: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error."""
    return F.mse_loss(image.float(), truth.float())


def dssim(image: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - SSIM with the Gaussian window of Wang et al. 2004, the mean over the windows that lie inside.

    Raises: InputError for pictures smaller than the window.
    """
    if min(image.shape[-2:]) < SIDE:
        raise InputError(f"SSIM needs pictures of at least {SIDE}x{SIDE}, found {list(image.shape[-2:])}: --roi_size")
    # The variances are differences of squares: in bfloat16 or TF32 their digits would cancel.
    with torch.autocast(image.device.type, enabled=False):
        image, truth = image.float(), truth.float()
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
    """Average [B,C,H,W] under the window, along columns, then along rows: a sixth of the time of the square window.

    Contiguous: channels-last input would be given to cuDNN, which may round to TF32.
    """
    place = torch.arange(SIDE, device=x.device) - SIDE // 2
    window = torch.exp(-place.square() / (2 * SIGMA**2))
    window, channels = window / window.sum(), x.shape[1]
    for shape in ((channels, 1, SIDE, 1), (channels, 1, 1, SIDE)):
        x = F.conv2d(x.contiguous(), window.view(shape[2:]).expand(shape), groups=channels)
    return x


def dssim_l1(image: Tensor, truth: Tensor) -> Tensor:
    """Return (1 - SSIM) + mean absolute error: a perceptual loss that needs no pretrained network."""
    return dssim(image, truth) + F.l1_loss(image.float(), truth.float())


def perceptual(name: str) -> Loss:
    """Return the loss between the student and its teacher: "lpips" (VGG, as published) or "ssim" (needs no weights)."""
    if name == "ssim":
        return dssim_l1
    try:
        lpips = LPIPS("vgg")
    except InputError as error:
        raise InputError(f"{error}; or train with --tea_loss ssim, which needs none") from None
    # Channels last, as the networks and their outputs are.
    return lambda image, truth: lpips.to(image.device, memory_format=torch.channels_last)(image, truth).mean()
