"""Image quality metrics: PSNR, SSIM and MSE, one value a picture.

Predictions and truths are [B,C,H,W] in [0,1]; every function returns [B] float32. The values are those of
scikit-image, in a seventh to a tenth of its time (`scripts/dev/benchmark.py metrics`), on any device.
"""

from functools import cache

import torch
from torch import Tensor

from codes.evaluation.lpips import LPIPS

SIDE = 7  # of the windows of SSIM
ROWS = 24  # at a time on a processor, whose cache they stay in


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
    middle = float(x.mean() + y.mean())  # around it the squares are small: float32 keeps the digits of differences
    rows = height - SIDE + 1
    step = ROWS if x.device.type == "cpu" else rows
    sums = torch.zeros(3, len(x), dtype=torch.float64, device=x.device)
    for first in range(0, rows, step):
        last = min(first + step, rows)
        block = slice(first, last + SIDE - 1)
        square, ssim, ssim_paper = _similarities(x[:, :, block], y[:, :, block], middle)
        own = square if last == rows else square[:, :, :step]  # the rows below belong to the next block too
        sums += torch.stack((own.sum((1, 2, 3)), ssim, ssim_paper))
    pixels, windows = x[0].numel(), len(x[0]) * rows * (width - SIDE + 1)
    ssim, ssim_paper = (sums[1:] / windows).float()
    return {"psnr": -10 * (sums[0] / pixels).log10().float(), "ssim": ssim, "ssim_paper": ssim_paper}


def _similarities(x: Tensor, y: Tensor, middle: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x - y)^2 of pictures [B,C,H,W], and both SSIM summed over the windows, [B].

    With s = x + y and d = x - y the structure is 1 - 2 var(d) / (var(s) + var(d) + c2), and the luminance
    1 - 2 mean(d)^2 / (mean(s)^2 + mean(d)^2 + c1): four window sums do, and few passes over them.
    """
    pixels = SIDE**2
    c1, c2 = 2 * (0.01 * pixels) ** 2, 2 * 0.03**2 * (pixels - 1)  # as of sums: of means 49 times, of variances 48
    planes = torch.empty(4, *x.shape, device=x.device)
    s, d, both, square = planes
    torch.add(x, y, out=s).sub_(middle)
    torch.sub(x, y, out=d)
    torch.mul(d, d, out=square)
    torch.addcmul(square, s, s, out=both)
    sum_s, sum_d, var_both, var_d = _window_sums(planes)
    mean_d = sum_d.square_()
    mean_both = torch.addcmul(mean_d, sum_s, sum_s)
    var_d.sub_(mean_d, alpha=1 / pixels)
    var_both.sub_(mean_both, alpha=1 / pixels)
    structure = var_d.div_(var_both.add_(c2)).mul_(-2).add_(1)
    total, found = structure.sum((1, 2, 3)), []
    for offset in (middle, middle - 1):  # mapped to [-1,1] with range 2 only the means change: s, halved, is s - 1
        mean = torch.add(mean_both, sum_s, alpha=2 * pixels * offset).add_((pixels * offset) ** 2 + c1)
        found.append(total - 2 * torch.div(mean_d, mean, out=mean).mul_(structure).sum((1, 2, 3)))
    return square, *found


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
