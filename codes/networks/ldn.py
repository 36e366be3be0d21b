"""LDN: the lightweight deblurring network, distilled from BSN, EDSR and the closed-form model.

Source: SpikeReveal (arXiv 2403.09486), section 4.3; attention after Woo et al., "CBAM", ECCV 2018.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelAttention(nn.Module):
    def __init__(self, channels: int, ratio: int = 16):
        super().__init__()
        squeezed = channels // ratio
        self.fc = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1, bias=False), nn.ReLU(), nn.Conv2d(squeezed, channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)) + self.fc(x.amax((2, 3), keepdim=True)))


class SpatialAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.conv1(torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)))


class ResidualBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        # The published files number the layers 0 and 3: the identity keeps their names.
        self.conv_block = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Identity(),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 5, stride=2, padding=2), nn.ReLU(inplace=True))


def level(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True))


def up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1), nn.ReLU(inplace=True)
    )


class LDN(nn.Module):
    """Restore the picture at the time in the middle of a spike window.

    blur [B,3,4h,4w] BGR in [0,1], spikes [B*N,spike_frames,h,w] -> [B*N,3,4h,4w], not clipped: N target times of each
    picture, one picture after the other. The picture is encoded once for all of its target times.
    """

    def __init__(self, spike_frames: int = 21):
        super().__init__()
        self.blur_enc = down(3, 16)
        self.blur_enc2 = down(16, 32)
        self.spike_enc = level(spike_frames, 16)
        self.spike_enc2 = level(16, 32)
        self.resBlock1 = ResidualBlock(64)
        self.resBlock2 = ResidualBlock(64)
        self.ca = ChannelAttention(64)
        self.sa = SpatialAttention()
        self.decoder1 = up(64, 32)
        self.decoder2 = up(32, 16)
        self.pred = nn.Conv2d(19, 3, 1)

    def pass_blur_through(self) -> "LDN":
        """Set the last layer so that the network starts by returning the blurry picture; return the network."""
        nn.init.zeros_(self.pred.weight)
        nn.init.eye_(self.pred.weight.data[:, :3, 0, 0])
        nn.init.zeros_(self.pred.bias)
        return self

    def encode_blur(self, blur: Tensor) -> Tensor:
        """Return the features of the blurry picture, [B,32,h,w]: the same for all of its target times."""
        return self.blur_enc2(self.blur_enc(blur))

    def encode(self, blur_features: Tensor, spikes: Tensor) -> Tensor:
        """Join the features of the picture and of the spikes, [B*N,64,h,w], before channel attention pools them."""
        return torch.cat((each(blur_features, spikes), self.spike_enc2(self.spike_enc(spikes))), 1)

    def decode(self, start: Tensor, x: Tensor) -> Tensor:
        """Decode features [B*N,64,h,w] after channel attention; `start` is [B,3,4h,4w] or [B*N,3,4h,4w]."""
        x = x * self.sa(x)
        x = self.resBlock2(self.resBlock1(x))
        # The last layer is linear in both pictures: `start` is convolved once for all of its target times.
        of_start, of_decoded = self.pred.weight.split((3, self.pred.in_channels - 3), 1)
        decoded = F.conv2d(self.decoder2(self.decoder1(x)), of_decoded).unflatten(0, (start.shape[0], -1))
        return (decoded + F.conv2d(start, of_start, self.pred.bias).unsqueeze(1)).flatten(0, 1)

    def forward(self, blur: Tensor, spikes: Tensor, start: Tensor | None = None) -> Tensor:
        x = self.encode(self.encode_blur(blur), spikes)
        return self.decode(blur if start is None else start, x * self.ca(x))


def each(x: Tensor, at_times: Tensor) -> Tensor:
    """Repeat a tensor of each picture, [B,...], for its target times: [B*N,...], as long as `at_times`.

    The memory format is kept, which `flatten` alone would not do.
    """
    return x.unsqueeze(1).expand(-1, at_times.shape[0] // x.shape[0], -1, -1, -1).clone().flatten(0, 1)
