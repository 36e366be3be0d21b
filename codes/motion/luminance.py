"""Average of the luminance of restored frames along motion: errors of frames at different times are not the same.

Each frame is averaged with its neighbours in time where they show the same. The flow to the second neighbour is
composed of those between neighbouring frames. Chroma is not changed, neither is the mean over the exposure.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from codes.motion.smoothing import gaussian_blur
from codes.motion.warping import dis_flows, pixel_positions, warp_channels
from codes.physics.data_consistency import mean_over_exposure
from codes.physics.sdm import gray

REACH = 2  # frames to either side that a frame is averaged with
DIFFERENT = 0.05  # difference of luminance, of 1, at which the weight of a neighbour that shows another thing is 1/e
SMOOTH = 1.0  # pixels, standard deviation of the filter of this difference
# Flow is of pictures of half the size.


class ExposureLuminance(NamedTuple):
    """Luminance of frames evenly over an exposure, before they are averaged, and the flow between neighbours."""

    luminance: Tensor  # [N,H,W]
    later: Tensor  # flow from each to the next, [N-1,2,H/2,W/2] in pixels of half the size
    earlier: Tensor  # flow from each, but for the first, to the one before, likewise
    residual: Tensor  # [H,W], what the mean over the exposure was before minus what it is after averaging

    def average(self, frame: Tensor, position: float) -> Tensor:
        """Average the luminance of a frame [3,H,W] at a position in the exposure, 0 its first frame and 1 its last."""
        last, own = len(self.luminance) - 1, gray(frame)
        before, after = min(math.ceil(position * last) - 1, last), max(math.floor(position * last) + 1, 0)
        neighbours = self.luminance[[max(before, 0), min(after, last)]]
        to_before, to_after = dis_flows(_half(own).expand(2, -1, -1), _half(neighbours), refinements=1)
        return frame + self._averaged(own[0], before, to_before, after, to_after) - own

    def averaged(self, number: int) -> Tensor:
        """Average the luminance of one of the frames of the exposure: [H,W]."""
        to_before, to_after = self.earlier[max(number - 1, 0)], self.later[min(number, len(self.later) - 1)]
        return self._averaged(self.luminance[number], number - 1, to_before, number + 1, to_after)

    def _averaged(self, own: Tensor, before: int, to_before: Tensor, after: int, to_after: Tensor) -> Tensor:
        total, weights = own.clone(), torch.ones_like(own)
        for moved in (*self._moved(before, -1, to_before), *self._moved(after, 1, to_after)):
            difference = gaussian_blur((moved - own)[None], SMOOTH)[0] / DIFFERENT
            weight = difference.square().neg().exp()
            total.addcmul_(weight, moved)
            weights += weight
        return total / weights + self.residual

    def _moved(self, first: int, step: int, flow: Tensor) -> Iterator[Tensor]:
        """Look up REACH frames from the first on, every `step`-th, along a flow [2,h,w] to the first: each [H,W]."""
        for number in range(first, first + REACH * step, step):
            if not 0 <= number < len(self.luminance):
                return
            if number != first:
                between = self.later[number - 1] if step > 0 else self.earlier[number]
                x, y = pixel_positions(*flow.shape[1:], device=flow.device) + flow
                flow = flow + warp_channels(between[None], x[None], y[None])[0]
            yield _look_up(self.luminance[number], flow)


def average_luminance(frames: Tensor) -> tuple[Tensor, ExposureLuminance]:
    """Average the luminance of frames [N,3,H,W], evenly over an exposure from end to end, along motion.

    Returns the frames with this luminance, and what frames at other times are averaged with. H and W are even.
    """
    own = gray(frames)
    half = _half(own[:, 0])
    later, earlier = (dis_flows(*pair, refinements=1) for pair in ((half[:-1], half[1:]), (half[1:], half[:-1])))
    exposure = ExposureLuminance(own[:, 0], later, earlier, torch.zeros_like(own[0, 0]))
    change = torch.stack([exposure.averaged(number) for number in range(len(frames))]).unsqueeze(1) - own
    residual = -mean_over_exposure(change.unsqueeze(0))[0]
    return frames + change + residual, exposure._replace(residual=residual[0])


def _half(luminance: Tensor) -> Tensor:
    return F.avg_pool2d(luminance, 2)


def _look_up(luminance: Tensor, flow: Tensor) -> Tensor:
    """Look up a luminance [H,W] along a flow [2,H/2,W/2] in pixels of half the size, bicubic; borders repeat."""
    height, width = luminance.shape
    flow = 2 * F.interpolate(flow[None], (height, width), mode="bilinear")[0]
    x, y = pixel_positions(height, width, device=flow.device) + flow
    grid = torch.stack((x * (2 / width) + (1 / width - 1), y * (2 / height) + (1 / height - 1)), -1)
    return F.grid_sample(luminance[None, None], grid[None], mode="bicubic", padding_mode="border", align_corners=False)[
        0, 0
    ]
