"""Optical flow and warping of many pictures at once, on the device that they are on."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from codes.motion.flow import dense_inverse_search
from codes.parallel import in_threads

# N pairs of intensity [N,h,w] in [0,1], refinements= -> flow from one to the other [N,2,h,w] (x, y) float32, pixels.
Flows = Callable[..., Tensor]


def dis_flows(before: Tensor, after: Tensor, *, refinements: int = 5) -> Tensor:
    """Compute `fine_flow` of N pairs of frames [N,h,w] in [0,1], on the CPU in threads: [N,2,h,w] (x, y), pixels."""
    pairs = ((255 * frames.clamp(0, 1)).round_().byte().cpu().numpy() for frames in (before, after))
    found = torch.empty(len(before), 2, *before.shape[1:])

    def search(flow: Tensor, *pair: np.ndarray) -> None:
        flow.copy_(torch.from_numpy(dense_inverse_search(*pair, refinements=refinements)).movedim(-1, 0))

    in_threads(search, found, *pairs, threads=torch.get_num_threads())
    return found.to(before.device)


def pixel_positions(height: int, width: int, *, device: torch.device) -> Tensor:
    """Return the position (x, y) of every pixel: [2,H,W] float32."""
    axes = (torch.arange(length, dtype=torch.float32, device=device) for length in (width, height))
    return torch.stack(torch.meshgrid(*axes, indexing="xy"))


def warp(pictures: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Look up pictures [N,H,W] at positions [N,h,w] between their pixels, bilinear: [N,h,w]; borders repeat."""
    height, width = pictures.shape[1:]
    grid = torch.stack((x * (2 / width) + (1 / width - 1), y * (2 / height) + (1 / height - 1)), -1)
    return F.grid_sample(pictures.unsqueeze(1), grid, padding_mode="border", align_corners=False).squeeze(1)


def combine(values: Sequence[Tensor], weights: np.ndarray) -> Tensor:
    """Add up K tensors by K weights; those of weight 0 are not touched."""
    first, *others = weights.nonzero()[0].tolist()
    total = values[first] * float(weights[first])
    for other in others:
        total.add_(values[other], alpha=float(weights[other]))
    return total
