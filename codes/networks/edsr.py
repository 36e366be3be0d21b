"""EDSR: one gray picture in, the same picture four times larger out.

Source: Lim et al., "Enhanced deep residual networks for single image super-resolution", CVPRW 2017 (baseline size).
"""

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


class EDSR(nn.Module):
    """Enlarge one channel by 4: [B,1,h,w] in [0,1] -> [B,1,4h,4w], not clipped."""

    def __init__(self, blocks: int = 16, features: int = 64):
        super().__init__()
        self.sub_mean = MeanShift(-GRAY_MEAN)
        self.add_mean = MeanShift(GRAY_MEAN)
        self.head = nn.Sequential(conv(1, features))
        self.body = nn.Sequential(*(ResidualBlock(features) for _ in range(blocks)), conv(features, features))
        doubling = (conv(features, 4 * features), nn.PixelShuffle(2), conv(features, 4 * features), nn.PixelShuffle(2))
        self.tail = nn.Sequential(nn.Sequential(*doubling), conv(features, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.sub_mean(x))
        return self.add_mean(self.tail(x + self.body(x)))
