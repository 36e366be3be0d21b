"""LPIPS: the learned perceptual distance, as a loss (VGG) and as a metric (AlexNet).

Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018.
"""

import socket
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from torch.hub import get_dir
from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

from codes.errors import InputError

# The classification networks under LPIPS, as torchvision names their files.
TRUNKS = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}


class Trunk(nn.Module):
    """The features of a trunk in float32, computed in the precision of autocast if it is to be `lowered`."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.lowered = net, False

    def forward(self, image: Tensor) -> list[Tensor]:
        with torch.autocast(image.device.type, enabled=self.lowered):
            return [features.float() for features in self.net(image)]


class LPIPS(nn.Module):
    """The learned perceptual distance of pictures [B,3,H,W] BGR around [0,1]: one value a picture, [B].

    The trunk ("vgg" or "alex") is pretrained on ImageNet and downloaded by torchvision unless it is there. Under
    autocast it computes in the lower precision; its features are compared in float32.
    Raises: InputError naming the file of the trunk and where it belongs, if it is not there and cannot be downloaded.
    """

    def __init__(self, trunk: str):
        super().__init__()
        patience = socket.getdefaulttimeout()
        socket.setdefaulttimeout(20)  # of a download that a firewall swallows
        try:
            self.net = LearnedPerceptualImagePatchSimilarity(net_type=trunk).net.requires_grad_(False)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            place = Path(get_dir()) / "checkpoints" / TRUNKS[trunk]
            raise InputError(
                f"{place}: LPIPS needs these weights and they cannot be had ({type(error).__name__}: {error}). Fetch "
                f"https://download.pytorch.org/models/{TRUNKS[trunk]} on a machine with a network and put it there"
            ) from None
        finally:
            socket.setdefaulttimeout(patience)
        self.net.net = self.trunk = Trunk(self.net.net)

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        # RGB in [-1,1] is what the trunk was trained on; values outside are taken as they are, so gradients live.
        self.trunk.lowered = torch.is_autocast_enabled(image.device.type)
        with torch.autocast(image.device.type, enabled=False):
            image, truth = (x.float().flip(1) * 2 - 1 for x in (image, truth))
            return self.net(image, truth).flatten()
