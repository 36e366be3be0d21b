"""LPIPS: the learned perceptual distance, as a loss (VGG) and as a metric (AlexNet).

Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018.
"""

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.hub import get_dir
from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

from codes.errors import InputError

# The classification networks under LPIPS, as torchvision names their files.
TRUNKS = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}
CHUNK = 4  # images in memory at a time while a gradient is computed
Distance = Callable[[Tensor, Tensor], Tensor]


def weights_file(trunk: str) -> Path:
    """Return where torchvision keeps the weights of a trunk, "vgg" or "alex"."""
    return Path(get_dir()) / "checkpoints" / TRUNKS[trunk]


class Trunk(nn.Module):
    """The features of a trunk in float32; with `lowered` they are computed in bfloat16 where autocast does so."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.lowered = net, False

    def forward(self, image: Tensor) -> list[Tensor]:
        with torch.autocast(image.device.type, enabled=self.lowered):
            return [features.to(torch.get_default_dtype()) for features in self.net(image)]


class ChunkedDistance(torch.autograd.Function):
    """LPIPS of a batch with the gradient of the images, computed CHUNK images at a time.

    Features of one chunk are in memory at a time. The distance of an image depends on that image alone and the weights
    are constant, so its gradient is computed in the forward pass: nothing is computed twice.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, truth: Tensor, distance: Distance) -> Tensor:
        distances, gradients = [], []
        with torch.enable_grad():
            for some, targets in zip(image.split(CHUNK), truth.split(CHUNK), strict=True):
                some = some.detach().requires_grad_()
                found = distance(some, targets.detach())
                gradients += torch.autograd.grad(found.sum(), some)
                distances.append(found.detach())
        ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(distances)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        return gradients * gradient.view(-1, 1, 1, 1), None, None


class LPIPS(nn.Module):
    """The learned perceptual distance of images [B,3,H,W] BGR around [0,1] from their truth: one value an image, [B].

    The trunk ("vgg" or "alex") is pretrained on ImageNet and downloaded by torchvision if its file is missing. Under
    autocast it computes in the lower precision; its features are compared in float32. The truth gets no gradient.
    Raises: InputError naming the file of the trunk and its folder, if the file is missing and cannot be downloaded.
    """

    def __init__(self, trunk: str):
        super().__init__()
        patience = socket.getdefaulttimeout()
        socket.setdefaulttimeout(20)  # of a download that a firewall swallows
        try:
            self.net = LearnedPerceptualImagePatchSimilarity(net_type=trunk).net.requires_grad_(False)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            raise InputError(
                f"{weights_file(trunk)}: LPIPS needs these weights and they cannot be had ({type(error).__name__}: "
                f"{error}). Fetch https://download.pytorch.org/models/{TRUNKS[trunk]} on a machine with a network "
                "and put it there"
            ) from None
        finally:
            socket.setdefaulttimeout(patience)
        self.net.net = self.trunk = Trunk(self.net.net)

    def forward(self, image: Tensor, truth: Tensor, *, rescaled: bool = True) -> Tensor:
        """Return the distance of each pair; not `rescaled`, BGR in [0,1] is fed as the reference does."""
        self.trunk.lowered = torch.is_autocast_enabled(image.device.type)
        if torch.is_grad_enabled() and image.requires_grad:
            return ChunkedDistance.apply(image, truth, partial(self.distance, rescaled=rescaled))
        return self.distance(image, truth, rescaled=rescaled)

    def distance(self, image: Tensor, truth: Tensor, *, rescaled: bool = True) -> Tensor:
        """Compute all images at once."""
        # The trunk was trained on RGB in [-1,1]. Values outside are not clipped: they need a gradient.
        with torch.autocast(image.device.type, enabled=False):
            image, truth = image.to(torch.get_default_dtype()), truth.to(torch.get_default_dtype())
            if rescaled:
                image, truth = image.flip(1) * 2 - 1, truth.flip(1) * 2 - 1
            return self.net(image, truth).flatten()
