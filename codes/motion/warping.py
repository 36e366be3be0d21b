"""Optical flow and warping of many pictures at once (PyTorch), on the device that they are on."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codes.data.spikes import UPSCALE
from codes.errors import InputError
from codes.motion.flow import dense_inverse_search, raft_from_file
from codes.parallel import in_threads
from codes.physics.sdm import upsample_bicubic

# N pairs of intensity [N,h,w] in [0,1], refinements= -> flow from one to the other [N,2,h,w] (x, y) float32, pixels.
Flows = Callable[..., Tensor]
FLOWS = ("dis", "raft")
SMALLEST_OF_RAFT = 128  # pixels along a side
CORRELATIONS = 2**28  # between pixels of RAFT's features that are in memory at the same time: 1 GiB


def dis_flows(before: Tensor, after: Tensor, *, refinements: int = 5) -> Tensor:
    """Compute `fine_flow` of N pairs of frames [N,h,w] in [0,1], on the CPU in threads: [N,2,h,w] (x, y), pixels."""
    pairs = ((255 * frames.clamp(0, 1)).round_().byte().cpu().numpy() for frames in (before, after))
    found = torch.empty(len(before), 2, *before.shape[1:])

    def search(flow: Tensor, *pair: np.ndarray) -> None:
        flow.copy_(torch.from_numpy(dense_inverse_search(*pair, refinements=refinements)).movedim(-1, 0))

    in_threads(search, found, *pairs, threads=torch.get_num_threads())
    return found.to(before.device)


def flow_by_name(name: str, *, raft_path: str | Path = "", device: torch.device) -> Flows:
    """Return one of FLOWS. raft_path: state dict of torchvision's raft_large or raft_small.

    Raises: InputError for RAFT without weights, or with others.
    """
    if name == "dis":
        return dis_flows
    if not raft_path:
        raise InputError("--flow raft: --raft_path is missing; a state dict of torchvision's raft_large is accepted")
    return partial(raft_flows, raft_from_file(raft_path).to(device).eval())


def raft_flows(network: nn.Module, before: Tensor, after: Tensor, *, refinements: int = 0) -> Tensor:
    """Compute the flow of N pairs of frames [N,h,w] in [0,1] by RAFT on their device: [N,2,h,w] (x, y), pixels.

    RAFT looks at an eighth of the resolution, so the frames are enlarged to the size of the picture. `refinements` are
    those of DIS and have no effect.
    """
    height, width = (UPSCALE * length for length in before.shape[1:])
    below, right = (max(SMALLEST_OF_RAFT, -(-length // 8) * 8) - length for length in (height, width))

    def prepared(frames: Tensor) -> Tensor:
        large = upsample_bicubic(frames.clamp(0, 1).unsqueeze(1)).clamp_(0, 1)
        return F.pad(2 * large - 1, (0, right, 0, below), mode="replicate").expand(-1, 3, -1, -1)

    # The correlation of all pairs of pixels takes most of the memory.
    pixels = (height + below) * (width + right) // 64
    at_once = max(CORRELATIONS // pixels**2, 1)
    found = []
    with torch.inference_mode(), torch.autocast(before.device.type, enabled=False):
        for pair in zip(before.split(at_once), after.split(at_once), strict=True):
            flow = network(*map(prepared, pair))[-1][..., :height, :width]
            found.append(F.avg_pool2d(flow, UPSCALE) / UPSCALE)
    return torch.cat(found)


def pixel_positions(height: int, width: int, *, device: torch.device) -> Tensor:
    """Return the position (x, y) of every pixel: [2,H,W] float32."""
    axes = (torch.arange(length, dtype=torch.float32, device=device) for length in (width, height))
    return torch.stack(torch.meshgrid(*axes, indexing="xy"))


def warp(pictures: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Look up pictures [N,H,W] at positions [N,h,w] between their pixels, bilinear: [N,h,w]; borders repeat."""
    return warp_channels(pictures.unsqueeze(1), x, y).squeeze(1)


def warp_channels(pictures: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Look up pictures [N,C,H,W] at positions [N,h,w] as `warp` does: [N,C,h,w]."""
    height, width = pictures.shape[2:]
    grid = torch.stack((x * (2 / width) + (1 / width - 1), y * (2 / height) + (1 / height - 1)), -1)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def combine(values: Sequence[Tensor], weights: np.ndarray) -> Tensor:
    """Add up K tensors by K weights; those of weight 0 are not touched."""
    first, *others = weights.nonzero()[0].tolist()
    total = values[first] * float(weights[first])
    for other in others:
        total.add_(values[other], alpha=float(weights[other]))
    return total
