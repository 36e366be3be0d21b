"""Interpolation of many pairs of gray frames at once (PyTorch), on the device that they are on.

The method is that of `codes.motion.interpolation`, which interpolates colour frames one by one on the CPU.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from codes.motion.warping import Flows, pixel_positions, warp_channels


def interpolate_pairs(before: Tensor, after: Tensor, times: Sequence[float], *, flow: Flows) -> Tensor:
    """Interpolate N pairs of frames [N,h,w] in [0,1] at K times between them (0: `before`, 1: `after`): [N,K,h,w]."""
    if not times:
        return before.new_empty(len(before), 0, *before.shape[1:])
    size, half = before.shape[1:], [(length + 1) // 2 for length in before.shape[1:]]
    scale = before.new_tensor([size[1] / half[1], size[0] / half[0]]).view(2, 1, 1)
    # Flow is smooth: it is blended at half the size, and the frames are looked up at their own.
    forward, backward = (
        F.interpolate(flow(*pair), half, mode="area") / scale for pair in ((before, after), (after, before))
    )
    consistent_forward, consistent_backward = _consistency(forward, backward), _consistency(backward, forward)
    grid, small = pixel_positions(*size, device=before.device), pixel_positions(*half, device=before.device)
    found = []
    for time in times:
        onward, weight_onward = _intermediate_flow(forward, consistent_forward, time)
        back, weight_back = _intermediate_flow(backward, consistent_backward, 1 - time)
        motion = onward - weight_back / (weight_onward + weight_back) * (onward + back)
        visible_before = (1 - time) * _visibility(forward, motion, small - time * motion)
        visible_after = time * _visibility(backward, -motion, small + (1 - time) * motion)
        motion, visible_before, visible_after = (
            F.interpolate(field, size, mode="bilinear") for field in (motion, visible_before, visible_after)
        )
        motion *= scale
        first = _look_up(before.unsqueeze(1), grid - time * motion) * visible_before
        second = _look_up(after.unsqueeze(1), grid + (1 - time) * motion) * visible_after
        found.append(first.add_(second).div_(visible_before.add_(visible_after)))
    return torch.cat(found, 1)


def _look_up(fields: Tensor, positions: Tensor) -> Tensor:
    return warp_channels(fields, *positions.unbind(1))


def _consistency(forward: Tensor, backward: Tensor) -> Tensor:
    """Return the forward-backward consistency of each pixel's flow [N,2,h,w]: [N,1,h,w] in [0,1]."""
    return _similarity(
        forward, -_look_up(backward, pixel_positions(*forward.shape[2:], device=forward.device) + forward)
    )


def _intermediate_flow(flow: Tensor, consistency: Tensor, time: float) -> tuple[Tensor, Tensor]:
    """Find the flow of the pixel that passes each position at `time`, and its weight."""
    here = pixel_positions(*flow.shape[2:], device=flow.device)
    start = here - time * flow
    start = here - time * _look_up(flow, start)  # one fixed-point step towards start + time * flow(start) = position
    found = _look_up(flow, start)
    return found, _look_up(consistency, start) * _similarity(time * found, here - start) + 0.01


def _visibility(flow: Tensor, motion: Tensor, positions: Tensor) -> Tensor:
    """Return the weight of a frame at `positions`: small where what moves so is occluded in it, or outside."""
    height, width = flow.shape[2:]
    x, y = positions.split(1, 1)
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return _similarity(_look_up(flow, positions), motion) * inside + 0.05


def _similarity(flow: Tensor, other: Tensor) -> Tensor:
    """Compare two flow fields at half size: 1 where they are equal, 0.6 at a difference of one pixel."""
    return (flow - other).square().sum(1, keepdim=True).mul_(-0.5).exp_()
