"""How near a picture is to the truth: one value a picture, on the device where they are.

Predictions and truths are [B,C,H,W] in [0,1]; every function returns [B] float32.
"""

from functools import cache

import torch
from torch import Tensor

from codes.lpips import LPIPS

SIDE = 7  # of the windows of SSIM


def mse(image: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error."""
    return (image.float() - truth.float()).square().mean((1, 2, 3))


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB for a range of 1."""
    return -10 * mse(image, truth).log10()


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Return the structural similarity as scikit-image computes it: uniform 7x7 window, sample covariance, range 1.

    Raises: ValueError for pictures smaller than the window.
    Source: Wang et al., "Image quality assessment", TIP 2004.
    """
    return measure(image, truth)["ssim"]


def ssim_paper(image: Tensor, truth: Tensor) -> Tensor:
    """Return the SSIM of the published logs: on pictures mapped to [-1,1] with range 2. Not the usual SSIM."""
    return measure(image, truth)["ssim_paper"]


@torch.no_grad()
def measure(image: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Return psnr, ssim and ssim_paper from one pass over the pictures.

    Raises: ValueError for pictures smaller than the window of SSIM.
    """
    height, width = image.shape[-2:]
    if min(height, width) < SIDE:
        raise ValueError(f"SSIM needs pictures of at least {SIDE}x{SIDE}, found {[height, width]}")
    x, y = image.float(), truth.float()
    # Centred, the squares are small and float32 keeps the digits that their differences need.
    mean_x, mean_y = (picture.mean((1, 2, 3), keepdim=True) for picture in (x, y))
    rows = height - SIDE + 1
    step = 24 if x.device.type == "cpu" else rows  # blocks that stay in the cache: a processor is ten times as fast
    sums = torch.zeros(3, len(x), dtype=torch.float64, device=x.device)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        block = slice(first, last + SIDE - 1)
        square, ssim, ssim_paper = _similarities(x[:, :, block], y[:, :, block], mean_x, mean_y)
        own = square if last == rows else square[:, :, :step]  # the rows below belong to the next block too
        sums += torch.stack((own.sum((1, 2, 3)), ssim, ssim_paper))
    pixels, windows = x[0].numel(), len(x[0]) * rows * (width - SIDE + 1)
    error = sums[0] / pixels + (mean_x - mean_y).flatten().square()
    ssim, ssim_paper = (sums[1:] / windows).float()
    return {"psnr": -10 * error.log10().float(), "ssim": ssim, "ssim_paper": ssim_paper}


def _similarities(x: Tensor, y: Tensor, mean_x: Tensor, mean_y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x - y)^2 of centred pictures [B,C,H,W], and both SSIM summed over the windows, [B].

    With s = x + y and d = x - y the structure is 1 - 2 var(d) / (var(s) + var(d) + c2), and the luminance
    1 - 2 mean(d)^2 / (mean(s)^2 + mean(d)^2 + c1): four window sums do, and few passes over them.
    """
    pixels = SIDE**2
    light = torch.empty(4, *x.shape, device=x.device)
    s, d, ss, dd = light
    torch.add(x, y, out=s).sub_(mean_x + mean_y)
    torch.sub(x, y, out=d).sub_(mean_x - mean_y)
    torch.mul(s, s, out=ss)
    torch.mul(d, d, out=dd)
    sum_s, sum_d, sum_ss, sum_dd = _window_sums(light)
    var_s = sum_ss.addcmul_(sum_s, sum_s, value=-1 / pixels)  # times pixels - 1, as c2
    var_d = sum_dd.addcmul_(sum_d, sum_d, value=-1 / pixels)
    c1, c2 = 2 * (0.01 * pixels) ** 2, 2 * 0.03**2 * (pixels - 1)
    structure = torch.addcdiv(torch.ones((), device=x.device), var_d, var_s.add_(var_d).add_(c2), value=-2)
    mean_d = sum_d.add_(pixels * (mean_x - mean_y)).square_()
    both = []
    for offset in (0, 1):  # mapped to [-1,1] with range 2 only the means change: x + y becomes, halved, x + y - 1
        mean_s = sum_s + pixels * (mean_x + mean_y - offset)
        luminance = mean_d / torch.addcmul(mean_d + c1, mean_s, mean_s)
        both.append((structure - 2 * luminance.mul_(structure)).sum((1, 2, 3)))
    return dd, *both


def _window_sums(x: Tensor) -> Tensor:
    """Sum every 7x7 window of [...,H,W]: pairs, then pairs of pairs, down the columns and along the rows."""
    for axis in (-2, -1):
        length = x.shape[axis] - SIDE + 1
        pairs = x.narrow(axis, 0, length + 5) + x.narrow(axis, 1, length + 5)
        sums = pairs.narrow(axis, 0, length) + pairs.narrow(axis, 2, length)
        x = sums.add_(pairs.narrow(axis, 4, length)).add_(x.narrow(axis, 6, length))
    return x


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
