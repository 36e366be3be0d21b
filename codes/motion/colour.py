"""Motion-compensated colour correction: the colour of restored frames, reconstructed along motion from the picture.

Spikes measure intensity only, so restored frames take their colour from the blurry picture, where colours that moved
are mixed. The picture is the mean over the exposure of colours that move with the scene. With the flow between the
restored frames, this is a linear system for the chroma of three reference frames, in the middle and at both ends of
the exposure: the chroma of every frame is that of the reference frames, looked up along motion. The solution is the
posterior mean of a Gaussian prior around the chroma of the restored frames, computed by conjugate gradients:

    c = c0 + G A' (A G A' + V)^-1 (picture - A c0)

A averages chroma along motion over the exposure, G is the prior covariance (smooth but for edges of the luminance), V
is the variance of the picture, large where the exposure shows what no reference frame does. Luminance is not changed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from codes.motion.flow import fine_flow
from codes.physics.data_consistency import mean_over_exposure
from codes.physics.sdm import gray

ITERATIONS = 20  # of conjugate gradients
VARIANCE = 0.002  # of the picture's chroma, relative to the prior variance of a reference frame's
OCCLUDED = 30.0  # times as much more where no reference frame shows what the picture does
WINDOW, EDGE = 5, 1e-3  # pixels along a side, and variance of luminance that is an edge: of the guided filter
CONSISTENT = 1.5  # pixels between forward and backward flow at which the weight of a reference frame is 1/e
TINY = 1e-20  # below it the solution is exact
SATURATED = 0.995  # of the picture: what is brighter was cut off
# Flow and linear system are of pictures of half the size.


class Alignment(NamedTuple):
    """Where a frame finds its chroma: two of the reference frames, at half the size of the picture."""

    references: list[int]
    flow: Tensor  # [2,2,h,w], in halves of the width and of the height
    weight: Tensor  # [2,1,h,w], their sum is at most 1

    def __call__(self, chroma: Tensor, own: Tensor) -> Tensor:
        """Look up the chroma [3,2,H,W] of the references, and the frame's own [2,H,W] where they do not show it."""
        flow, weight = self.flow, self.weight
        if own.shape[-2:] != flow.shape[-2:]:
            flow, weight = (F.interpolate(x, own.shape[-2:], mode="bilinear") for x in (flow, weight))
        return self.transport(chroma, flow, weight) + (1 - weight.sum(0)) * own

    def transport(self, chroma: Tensor, flow: Tensor, weight: Tensor) -> Tensor:
        warped = F.grid_sample(chroma[self.references], _positions(flow), padding_mode="border", align_corners=False)
        return (weight * warped).sum(0)


class ReferenceColours(NamedTuple):
    """Chroma of the frames in the middle and at both ends of an exposure, and their luminance to align others with."""

    luminance: Tensor  # [3,h,w], at half the size of the picture
    chroma: Tensor  # [3,2,H,W]

    def correct(self, frame: Tensor, position: float) -> Tensor:
        """Replace the chroma of a frame [3,H,W] at a position in the exposure, 0 its first frame and 1 its last."""
        return _recolour(frame, align(_half_luminance(frame), self.luminance, position), self.chroma)


def correct_colour(frames: Tensor, blur: Tensor, *, iterations: int = ITERATIONS) -> tuple[Tensor, ReferenceColours]:
    """Reconstruct the chroma of frames [N,3,H,W], evenly over the exposure from end to end, from its picture [3,H,W].

    Frames need not be clipped; H and W are even. The colours are those for the frames at other times.
    """
    count = len(frames)
    references = [count // 2, 0, count - 1]
    luminance = torch.stack([_half_luminance(frame) for frame in frames])
    alignments = [align(luminance[n], luminance[references], n / (count - 1)) for n in range(count)]
    correction = solve(
        alignments,
        chroma_of(F.avg_pool2d(frames, 2)),
        F.avg_pool2d(blur, 2),
        luminance[references],
        is_valid=F.max_pool2d(blur.amax(0, keepdim=True), 2) < SATURATED,
        iterations=iterations,
    )
    chroma = chroma_of(frames[references]) + F.interpolate(correction, frames.shape[-2:], mode="bilinear")
    corrected = [_recolour(frame, alignment, chroma) for frame, alignment in zip(frames, alignments, strict=True)]
    return torch.stack(corrected), ReferenceColours(luminance[references], chroma)


def chroma_of(bgr: Tensor) -> Tensor:
    """Subtract the luminance from the blue and red of [N,3,H,W]: [N,2,H,W]."""
    return bgr[:, ::2] - gray(bgr)


def with_chroma(bgr: Tensor, chroma: Tensor) -> Tensor:
    """Give a frame [3,H,W] another chroma [2,H,W], at the same luminance."""
    luminance = gray(bgr)
    blue, red = chroma.split(1)
    return luminance + torch.cat((blue, -(0.11 * blue + 0.30 * red) / 0.59, red))


def align(luminance: Tensor, references: Tensor, position: float) -> Alignment:
    """Align a frame [h,w] with the middle reference frame and with the nearer end of the exposure, of [3,h,w].

    The end is used where the middle does not show what the frame does.
    """
    used = [0, 1 if position < 0.5 else 2]
    flows, weights = zip(*(_flow_and_weight(luminance, references[k]) for k in used), strict=True)
    weight = torch.stack((weights[0], (1 - weights[0]) * weights[1])).unsqueeze(1)
    return Alignment(used, torch.stack(flows), weight)


def solve(
    alignments: Sequence[Alignment],
    chroma: Tensor,
    blur: Tensor,
    luminance: Tensor,
    *,
    is_valid: Tensor,
    iterations: int,
) -> Tensor:
    """Solve for the correction [3,2,h,w] of the chroma of the reference frames, of luminance [3,h,w].

    chroma: of the frames, [N,2,h,w]. blur: the picture [3,h,w]. is_valid: where it is not saturated, [1,h,w].
    """
    count = len(alignments)
    references = [count // 2, 0, count - 1]
    shares = mean_over_exposure(torch.eye(count, device=blur.device).unsqueeze(0))[0]  # of each frame in the picture
    prior = guided_filter(luminance.unsqueeze(1))

    def project(x: Tensor) -> Tensor:
        total = sum(s * a.transport(x, a.flow, a.weight) for s, a in zip(shares, alignments, strict=True))
        return is_valid * total

    def back_project(picture: Tensor) -> Tensor:
        total = chroma.new_zeros(3, *chroma.shape[1:])
        for share, (used, flow, weight) in zip(shares, alignments, strict=True):
            total[used] += warp_adjoint(share * is_valid * weight * picture, flow)
        return total

    expected = [a(chroma[references], own) for a, own in zip(alignments, chroma, strict=True)]
    occluded = mean_over_exposure(torch.stack([1 - a.weight.sum(0) for a in alignments]).unsqueeze(0))[0]
    variance = VARIANCE * (1 + OCCLUDED * occluded)
    residual = is_valid * (chroma_of(blur.unsqueeze(0))[0] - mean_over_exposure(torch.stack(expected).unsqueeze(0))[0])
    correction, direction, power = torch.zeros_like(chroma[:3]), residual, residual.square().sum()
    for _ in range(iterations):
        spread = prior(back_project(direction))
        image = project(spread) + variance * direction
        step = power / (direction * image).sum().clamp(min=TINY)
        correction, residual = correction + step * spread, residual - step * image
        previous, power = power, residual.square().sum()
        direction = residual + power / previous.clamp(min=TINY) * direction
    return correction


def warp_adjoint(warped: Tensor, flow: Tensor) -> Tensor:
    """Apply the adjoint of the bilinear warp by grid_sample along flow [K,2,h,w] to [K,C,h,w]."""
    picture = torch.empty_like(warped)  # only its shape matters
    gradient = torch.ops.aten.grid_sampler_2d_backward(
        warped.contiguous(), picture, _positions(flow), 0, 1, False, (True, False)
    )
    return gradient[0]


def guided_filter(guide: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the guided filter along the edges of guides [K,1,h,w], as a function of [K,C,h,w]; it is self-adjoint.

    Source: He et al., "Guided image filtering", ECCV 2010.
    """

    box = partial(F.avg_pool2d, kernel_size=WINDOW, stride=1, padding=WINDOW // 2)
    mean_guide, mean_square = (box(x, count_include_pad=False) for x in (guide, guide.square()))
    variance = mean_square - mean_guide.square()

    def smooth(x: Tensor) -> Tensor:
        mean = box(x)
        slope = (box(guide * x) - mean_guide * mean) / (variance + EDGE)
        return box(slope) * guide + box(mean - slope * mean_guide)

    return smooth


def _recolour(frame: Tensor, alignment: Alignment, chroma: Tensor) -> Tensor:
    return with_chroma(frame, alignment(chroma, chroma_of(frame.unsqueeze(0))[0]))


def _half_luminance(frame: Tensor) -> Tensor:
    return F.avg_pool2d(gray(frame), 2)[0]


def _flow_and_weight(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the flow from one luminance [h,w] to another, [2,h,w], and its forward-backward consistency [h,w]."""
    pair = [x.float().cpu().numpy() for x in (before, after)]
    forward, backward = (
        torch.from_numpy(fine_flow(a, b, refinements=1)).to(before).movedim(2, 0) for a, b in (pair, pair[::-1])
    )
    height, width = before.shape
    scale = forward.new_tensor((2 / width, 2 / height)).view(2, 1, 1)
    positions = _positions(forward.unsqueeze(0) * scale)
    returned = F.grid_sample(backward.unsqueeze(0), positions, padding_mode="border", align_corners=False)[0]
    distance = (forward + returned).square().sum(0)
    return forward * scale, torch.exp(-distance / CONSISTENT**2) * (positions[0].abs() <= 1).all(-1)


def _positions(flow: Tensor) -> Tensor:
    """Return where flow [K,2,h,w] points, [K,h,w,2]: from -1 at the left and upper to 1 at the right and lower edge."""
    still = torch.eye(2, 3, dtype=flow.dtype, device=flow.device).expand(len(flow), 2, 3)
    return F.affine_grid(still, [len(flow), 1, *flow.shape[-2:]], align_corners=False) + flow.movedim(1, -1)
