"""What training minimises: scalars in float32 over pictures [B,C,H,W], never clipped."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from codes.errors import InputError
from codes.lpips import LPIPS

Loss = Callable[[Tensor, Tensor], Tensor]


def mse(image: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error."""
    return F.mse_loss(image.float(), truth.float())


def dssim(image: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - SSIM with the Gaussian window of Wang et al. 2004."""
    # A difference of squares: in bfloat16 its digits would cancel.
    with torch.autocast(image.device.type, enabled=False):
        return 1 - structural_similarity_index_measure(image.float(), truth.float(), data_range=1.0)


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
    return lambda image, truth: lpips.to(image.device)(image, truth).mean()
