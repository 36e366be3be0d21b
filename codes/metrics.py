"""How near a picture is to the truth: one value a picture, on the device where they are.

Predictions and truths are [B,C,H,W] in [0,1]; every function returns [B] float32.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from codes.lpips import LPIPS


def mse(image: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error."""
    return (image.float() - truth.float()).square().mean((1, 2, 3))


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB for a range of 1."""
    return -10 * mse(image, truth).log10()


def ssim(image: Tensor, truth: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Return the structural similarity as scikit-image computes it: uniform 7x7 window, sample covariance.

    Raises: ValueError for pictures smaller than the window.
    Source: Wang et al., "Image quality assessment", TIP 2004.
    """
    side = 7
    if min(image.shape[-2:]) < side:
        raise ValueError(f"SSIM needs pictures of at least {side}x{side}, found {list(image.shape[-2:])}")
    # Centred, the squares are small and float32 keeps the digits that their differences need.
    center = truth.float().mean((1, 2, 3), keepdim=True)
    x, y = image.float() - center, truth.float() - center
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = F.avg_pool2d(
        torch.cat((x, y, x * x, y * y, x * y), 1), side, stride=1
    ).chunk(5, 1)
    unbiased = side**2 / (side**2 - 1)
    var_x, var_y = unbiased * (mean_xx - mean_x**2), unbiased * (mean_yy - mean_y**2)
    covariance = unbiased * (mean_xy - mean_x * mean_y)
    mean_x, mean_y = mean_x + center, mean_y + center
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * (2 * covariance + c2) / (var_x + var_y + c2)).mean((1, 2, 3))


def ssim_paper(image: Tensor, truth: Tensor) -> Tensor:
    """Return the SSIM of the published logs: on pictures mapped to [-1,1] with range 2. Not the usual SSIM."""
    return ssim(2 * image.float() - 1, 2 * truth.float() - 1, data_range=2.0)


def lpips(image: Tensor, truth: Tensor) -> Tensor:
    """Return the learned perceptual distance (AlexNet) of colour or gray pictures.

    Raises: InputError if the weights of AlexNet are not there and cannot be downloaded.
    """
    if image.shape[1] == 1:
        image, truth = image.expand(-1, 3, -1, -1), truth.expand(-1, 3, -1, -1)
    return _alex().to(image.device)(image, truth)


@cache
def _alex() -> LPIPS:
    return LPIPS("alex")
