"""EDSR: one gray picture in, the same picture four times larger out.

Source: Lim et al., "Enhanced deep residual networks for single image super-resolution", CVPRW 2017 (baseline size).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRAY_MEAN = 0.446


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class MeanShift(nn.Conv2d):
    """A fixed 1x1 convolution that adds `offset`; a layer, because published files hold its two numbers."""

    def __init__(self, offset: float):
        super().__init__(1, 1, 1)
        nn.init.ones_(self.weight)
        nn.init.constant_(self.bias, offset)
        self.requires_grad_(False)


class ResidualBlock(nn.Module):
    def __init__(self, features: int):
        super().__init__()
        self.body = nn.Sequential(conv(features, features), nn.ReLU(inplace=True), conv(features, features))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class PixelShuffle(nn.Module):
    """Move channels into space, [B,4C,h,w] -> [B,C,2h,2w], in the memory format of the input."""

    def forward(self, x: Tensor) -> Tensor:
        # On a GPU PyTorch's own returns the contiguous format, which the next convolution would convert.
        is_converted = x.is_cuda and x.is_contiguous(memory_format=torch.channels_last)
        return shuffle_channels_last(x) if is_converted else F.pixel_shuffle(x, 2)


def shuffle_channels_last(x: Tensor) -> Tensor:
    """Do what `F.pixel_shuffle(x, 2)` does by one copy in the order of channels-last."""
    x = x.permute(0, 2, 3, 1).unflatten(-1, (-1, 2, 2)).permute(0, 1, 4, 2, 5, 3)  # [B,h,2,w,2,C]
    return x.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class EDSR(nn.Module):
    """Enlarge one channel by 4: [B,1,h,w] in [0,1] -> [B,1,4h,4w], not clipped."""

    def __init__(self, blocks: int = 16, features: int = 64):
        super().__init__()
        self.sub_mean = MeanShift(-GRAY_MEAN)
        self.add_mean = MeanShift(GRAY_MEAN)
        self.head = nn.Sequential(conv(1, features))
        self.body = nn.Sequential(*(ResidualBlock(features) for _ in range(blocks)), conv(features, features))
        doubling = (conv(features, 4 * features), PixelShuffle(), conv(features, 4 * features), PixelShuffle())
        self.tail = nn.Sequential(nn.Sequential(*doubling), conv(features, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.sub_mean(x))
        return self.add_mean(self.tail(x + self.body(x)))
