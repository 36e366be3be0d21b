"""Gaussian smoothing of pictures on their device, for the motion-compensated methods."""

import cv2
import torch
from torch import Tensor


def gaussian_blur(pictures: Tensor, sigma: float, *, is_zero_outside: bool = False) -> Tensor:
    """Smooth pictures [N,H,W] float32 by a Gaussian of standard deviation `sigma`, cut at about 4 sigma.

    Outside, pictures are mirrored at their border pixels, or zero.
    """
    if pictures.device.type != "cpu":
        return separable_blur(pictures, sigma, is_zero_outside=is_zero_outside)
    # OpenCV takes a fiftieth of the time of a convolution in PyTorch.
    border = cv2.BORDER_CONSTANT if is_zero_outside else cv2.BORDER_REFLECT_101
    smooth = torch.empty_like(pictures, memory_format=torch.contiguous_format)
    for picture, found in zip(pictures, smooth, strict=True):
        cv2.GaussianBlur(picture.numpy(), (0, 0), sigma, dst=found.numpy(), borderType=border)
    return smooth


def separable_blur(pictures: Tensor, sigma: float, *, is_zero_outside: bool) -> Tensor:
    """Do what `gaussian_blur` does by PyTorch alone: sums of shifted pictures, which TF32 and autocast do not round."""
    kernel = cv2.getGaussianKernel(round(8 * sigma + 1) | 1, sigma)[:, 0].tolist()
    reach = len(kernel) // 2
    for axis in (-2, -1):
        size = pictures.shape[axis]
        place = torch.arange(-reach, size + reach, device=pictures.device)
        last = size - 1
        mirrored = last - (last - place % max(2 * last, 1)).abs()
        padded = pictures.index_select(axis, mirrored)
        if is_zero_outside:
            padded *= ((place >= 0) & (place < size)).view(-1, *[1] * (-1 - axis))
        pictures = sum(weight * padded.narrow(axis, first, size) for first, weight in enumerate(kernel))
    return pictures
