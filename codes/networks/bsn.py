"""BSN: a denoiser that never sees the pixel it predicts.

A U-Net whose convolutions see only the rows above runs on four rotations of the picture; a shift by one row hides the
pixel itself; 1x1 convolutions join the four half planes.
Source: Laine et al., "High-quality self-supervised deep image denoising", NeurIPS 2019; names and sizes as in S-SDM.
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from codes.memory_format import concatenate


def shift_down(x: Tensor) -> Tensor:
    """Move all rows one down: a zero row enters, the last one leaves."""
    return F.pad(x, (0, 0, 1, -1))


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


class UpwardPadding(torch.autograd.Function):
    """Pad by two zero rows above and by the outermost column on either side, in the memory format of the input.

    On a GPU the replicating pad of PyTorch returns the contiguous format, and its gradient is summed in any order.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 2, 0))
        padded[..., 2:, 0], padded[..., 2:, -1] = x[..., 0], x[..., -1]
        return padded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient[..., 2:, :]
        inner = gradient[..., 1:-1].clone()
        inner[..., 0] += gradient[..., 0]
        inner[..., -1] += gradient[..., -1]
        return inner


class UpwardConv(nn.Module):
    """A 3x3 convolution over a pixel's row and the two above, zeros beyond the top, columns replicated."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.conv(UpwardPadding.apply(x)))


class Encoder(nn.Module):
    def __init__(self, inputs: int, middle: int, outputs: int):
        super().__init__()
        self.conv1 = UpwardConv(inputs, middle)
        self.conv2 = UpwardConv(middle, middle)
        self.conv3 = UpwardConv(middle, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.conv2(self.conv1(x)))


class Decoder(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = UpwardConv(inputs, outputs)
        self.conv2 = UpwardConv(outputs, outputs)
        self.conv3 = UpwardConv(outputs, outputs)
        self.conv4 = UpwardConv(outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        # Copies are exact, and autocast would make them float32. The meta device, which counts operations, has none.
        with nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        rows, columns = skip.shape[-2] - x.shape[-2], skip.shape[-1] - x.shape[-1]
        x = F.pad(x, (0, columns, 0, rows))
        return self.conv4(self.conv3(self.conv2(self.conv1(concatenate(x, skip.to(x.dtype))))))


class HalfPlaneUNet(nn.Module):
    """A U-Net of two levels in which no pixel sees below its own row."""

    def __init__(self) -> None:
        super().__init__()
        self.enc1 = Encoder(1, 48, 48)
        self.enc2 = Encoder(48, 48, 48)
        self.enc3 = Encoder(48, 96, 48)
        self.dec2 = Decoder(96, 96)
        self.dec1 = Decoder(97, 96)

    def forward(self, x: Tensor) -> Tensor:
        half = F.max_pool2d(shift_down(self.enc1(x)), 2)
        quarter = F.max_pool2d(shift_down(self.enc2(half)), 2)
        return self.dec1(self.dec2(self.enc3(quarter), half), x)


def mirror(size: int, side: int, device: torch.device) -> Tensor:
    """Index `size` places, reflected at both ends as often as needed, to fill `side` of them around the middle."""
    places = torch.arange(side, device=device) - (side - size) // 2
    period = max(2 * (size - 1), 1)
    return (places + size - 1).remainder(period).sub(size - 1).abs()


def into_square(x: Tensor) -> tuple[Tensor, int, int]:
    """Reflect a picture into the square around it; return the square and where (top, left) the picture lies in it."""
    height, width = x.shape[-2:]
    if height == width:
        return x, 0, 0
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = x[..., mirror(height, side, x.device), :][..., mirror(width, side, x.device)]
    return square, top, left


class BSN(nn.Module):
    """Denoise one picture channel without seeing the pixel that is predicted: [B,1,h,w] -> [B,1,h,w].

    Any size is accepted. A non-square picture is reflected into the square around it and the result is cut back.
    A square picture: no pixel has any influence on its own output. A non-square picture: the reflection repeats pixels,
    so a pixel influences its own output through its mirror image, as in the published network. Train on square crops.
    Without `kaiming`, PyTorch's default initialisation, as in the reference implementation.
    """

    def __init__(self, *, kaiming: bool = True) -> None:
        super().__init__()
        self.unet = HalfPlaneUNet()
        self.nin_A = nn.Conv2d(384, 384, 1, bias=False)
        self.nin_B = nn.Conv2d(384, 96, 1, bias=False)
        self.nin_C = nn.Conv2d(96, 1, 1, bias=False)
        if kaiming:
            self._initialize()

    def _initialize(self) -> None:
        """Initialise as Laine et al. do: PyTorch's default shrinks the signal layer by layer and learns far slower."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=0.1)
        nn.init.kaiming_normal_(self.nin_C.weight, nonlinearity="linear")

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        square, top, left = into_square(x)
        planes = torch.cat([torch.rot90(square, -turn, (-2, -1)) for turn in range(4)])
        first, *others = shift_down(self.unet(planes)).chunk(4)
        x = concatenate(first, *(torch.rot90(plane, turn, (-2, -1)) for turn, plane in enumerate(others, 1)))
        x = self.nin_C(activate(self.nin_B(activate(self.nin_A(x)))))
        return x[..., top : top + height, left : left + width]
