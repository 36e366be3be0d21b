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
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from codes.data.spikes import GRAY_WEIGHTS
from codes.motion.flow import fine_flow
from codes.physics.data_consistency import data_consistency_residual, mean_over_exposure
from codes.physics.sdm import gray

ITERATIONS = 20  # of conjugate gradients
VARIANCE = 0.002  # of the picture's chroma, relative to the prior variance of a reference frame's
OCCLUDED = 30.0  # times as much more where no reference frame shows what the picture does
WINDOW, EDGE = 5, 1e-3  # pixels along a side, and variance of luminance that is an edge: of the guided filter
CONSISTENT = 1.5  # pixels between forward and backward flow at which the weight of a reference frame is 1/e
NEAR = 0.1  # of the exposure: frames as close to its middle show hardly anything that the middle does not
TINY = 1e-20  # below it the solution is exact
SATURATED = 0.995  # of the picture: what is brighter was cut off
# Flow and linear system are of pictures of half the size.


class ReferenceWarp(NamedTuple):
    """Where a frame finds its chroma in one of the three reference frames, and how much of it."""

    reference: int
    positions: Tensor  # [1,h,w,2], from -1 at the left and upper to 1 at the right and lower edge
    weight: Tensor  # [1,1,h,w]; those of a frame sum up to 1 at most

    def look_up(self, chroma: Tensor) -> Tensor:
        """Warp the chroma [3,2,h,w] of the reference frames to the frame, and weigh it: [1,2,h,w]."""
        used = chroma[self.reference : self.reference + 1]
        warped = F.grid_sample(used, self.positions, padding_mode="border", align_corners=False)
        return warped.mul_(self.weight)

    def adjoint(self, frame: Tensor) -> Tensor:
        """Apply the adjoint of `look_up`: [1,2,h,w] of a frame to [2,h,w] of its reference frame."""
        weighted = self.weight * frame
        arguments = weighted, weighted, self.positions, 0, 1, False, (True, False)  # bilinear, borders repeat
        return torch.ops.aten.grid_sampler_2d_backward(*arguments)[0][0]

    def enlarged(self, height: int, width: int) -> "ReferenceWarp":
        """Return the same at the size of the picture."""
        flow = self.positions - _grid(*self.positions.shape[1:3], like=self.positions)
        flow, weight = (F.interpolate(x, (height, width), mode="bilinear") for x in (flow.movedim(-1, 1), self.weight))
        return ReferenceWarp(self.reference, _grid(height, width, like=flow) + flow.movedim(1, -1), weight)


class ReferenceColours(NamedTuple):
    """Chroma of the frames in the middle and at both ends of an exposure, and their luminance to align others with."""

    luminance: Tensor  # [3,h,w], at half the size of the picture
    chroma: Tensor  # [3,2,H,W]
    residual: Tensor  # [2,H,W], chroma of the picture minus the mean over the exposure; added to every frame

    def correct(self, frame: Tensor, position: float) -> Tensor:
        """Replace the chroma of a frame [3,H,W] at a position in the exposure, 0 its first frame and 1 its last."""
        return self.recolour(frame, align(_half_luminance(frame), self.luminance, position))

    def recolour(self, frame: Tensor, links: list[ReferenceWarp]) -> Tensor:
        enlarged = [link.enlarged(*frame.shape[-2:]) for link in links]
        chroma = mix(enlarged, self.chroma, chroma_of(frame)) + self.residual
        return with_chroma(frame, chroma)


def correct_colour(frames: Tensor, blur: Tensor) -> tuple[Tensor, ReferenceColours]:
    """Reconstruct the chroma of frames [N,3,H,W], evenly over the exposure from end to end, from its picture [3,H,W].

    Returns the frames with this chroma, whose mean over the exposure is the picture's, and the colours that frames at
    other times are corrected with. Frames need not be clipped; H and W are even.
    """
    references = reference_frames(len(frames))
    luminance = torch.stack([_half_luminance(frame) for frame in frames])
    links = [align(one, luminance[references], n / (len(frames) - 1)) for n, one in enumerate(luminance)]
    is_valid = blur.amax(0) < SATURATED
    correction = solve(
        links,
        chroma_of(F.avg_pool2d(frames, 2)),
        chroma_of(F.avg_pool2d(blur, 2)),
        luminance[references],
        is_valid=~F.max_pool2d((~is_valid).float().unsqueeze(0), 2).bool()[0],
    )
    chroma = chroma_of(frames[references]) + F.interpolate(correction, frames.shape[-2:], mode="bilinear")
    colours = ReferenceColours(luminance[references], chroma, torch.zeros_like(chroma[0]))
    corrected = torch.stack([colours.recolour(*pair) for pair in zip(frames, links, strict=True)])
    residual = is_valid * chroma_of(data_consistency_residual(corrected.unsqueeze(0), blur)[0])
    return with_chroma(corrected, chroma_of(corrected) + residual), colours._replace(residual=residual)


def reference_frames(count: int) -> list[int]:
    """Return the numbers of the frames in the middle and at both ends."""
    return [count // 2, 0, count - 1]


def chroma_of(bgr: Tensor) -> Tensor:
    """Subtract the luminance from the blue and red of [...,3,H,W]: [...,2,H,W]."""
    return bgr[..., ::2, :, :] - gray(bgr)


def with_chroma(bgr: Tensor, chroma: Tensor) -> Tensor:
    """Give frames [...,3,H,W] another chroma [...,2,H,W], at the same luminance."""
    blue, red = chroma.split(1, -3)
    b, g, r = GRAY_WEIGHTS
    return gray(bgr) + torch.cat((blue, -(b * blue + r * red) / g, red), -3)


def align(luminance: Tensor, references: Tensor, position: float) -> list[ReferenceWarp]:
    """Align a frame [h,w] with the middle reference frame and with the nearer end of the exposure, of [3,h,w].

    The end is used where the middle does not show what the frame does.
    """
    to_middle, seen = _positions_and_weight(luminance, references[0])
    if abs(position - 0.5) < NEAR:
        return [ReferenceWarp(0, to_middle, seen)]
    end = 1 if position < 0.5 else 2
    to_end, seen_at_end = _positions_and_weight(luminance, references[end])
    return [ReferenceWarp(0, to_middle, seen), ReferenceWarp(end, to_end, (1 - seen) * seen_at_end)]


def mix(links: list[ReferenceWarp], chroma: Tensor, own: Tensor) -> Tensor:
    """Look up the chroma of a frame in the reference frames, [3,2,h,w]; where none shows it, its own [2,h,w] stays."""
    return sum(link.look_up(chroma)[0] for link in links) + (1 - visibility(links)) * own


def visibility(links: list[ReferenceWarp]) -> Tensor:
    """Return how far the reference frames show what a frame does: [1,h,w], in [0,1]."""
    return sum(link.weight[0] for link in links)


def solve(
    links: Sequence[list[ReferenceWarp]],
    chroma: Tensor,
    blur: Tensor,
    luminance: Tensor,
    *,
    is_valid: Tensor,
    iterations: int = ITERATIONS,
) -> Tensor:
    """Solve for the correction [3,2,h,w] of the chroma of the reference frames, of luminance [3,h,w].

    links and chroma [N,2,h,w]: of the frames. blur: chroma of the picture, [2,h,w]. is_valid: where it is not
    saturated, [h,w].
    """
    average = mean_over_exposure(torch.eye(len(chroma)).unsqueeze(0))[0].tolist()
    frames = list(zip(average, links, chroma, strict=True))
    initial, prior = chroma[reference_frames(len(chroma))], guided_filter(luminance.unsqueeze(1))
    # Rows of A: each frame with its weight in the mean, saturated pixels left out.
    system = [
        link._replace(weight=share * is_valid * link.weight) for share, of_frame, _ in frames for link in of_frame
    ]

    def project(references: Tensor) -> Tensor:
        return sum(link.look_up(references) for link in system)[0]

    def back_project(picture: Tensor) -> Tensor:
        total = torch.zeros_like(initial)
        for link in system:
            total[link.reference] += link.adjoint(picture)
        return total

    expected = sum(share * mix(of_frame, initial, own) for share, of_frame, own in frames)
    occluded = sum(share * (1 - visibility(of_frame)) for share, of_frame, _ in frames)
    variance = VARIANCE * (1 + OCCLUDED * occluded)
    residual = is_valid * (blur - expected)
    correction, direction, power = torch.zeros_like(initial), residual, residual.square().sum()
    for _ in range(iterations):  # conjugate gradients
        spread = prior(back_project(direction))
        image = project(spread) + variance * direction
        step = power / (direction * image).sum().clamp(min=TINY)
        correction, residual = correction + step * spread, residual - step * image
        previous, power = power, residual.square().sum()
        direction = residual + power / previous.clamp(min=TINY) * direction
    return correction


def guided_filter(guide: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the guided filter along the edges of guides [K,1,h,w], as a function of [K,C,h,w]; it is self-adjoint.

    Source: He et al., "Guided image filtering", ECCV 2010.
    """
    inside = _box_filter(torch.ones_like(guide))
    mean_guide, mean_square = (_box_filter(x) / inside for x in (guide, guide.square()))
    variance = mean_square - mean_guide.square()

    def smooth(x: Tensor) -> Tensor:
        mean = _box_filter(x)
        slope = (_box_filter(guide * x) - mean_guide * mean) / (variance + EDGE)
        return _box_filter(slope) * guide + _box_filter(mean - slope * mean_guide)

    return smooth


def _box_filter(x: Tensor) -> Tensor:
    """Average [...,h,w] over windows, zero beyond the edges; several times as fast as F.avg_pool2d on a CPU."""
    reach = WINDOW // 2
    x = F.pad(x, (reach, reach, reach, reach))
    for axis in (-2, -1):
        length = x.shape[axis] - 2 * reach
        pairs = x.narrow(axis, 0, length + 3) + x.narrow(axis, 1, length + 3)  # two pairs and one: WINDOW is 5
        x = pairs.narrow(axis, 0, length) + pairs.narrow(axis, 2, length) + x.narrow(axis, 4, length)
    return x / WINDOW**2


def _half_luminance(frame: Tensor) -> Tensor:
    return F.avg_pool2d(gray(frame), 2)[0]


def _positions_and_weight(frame: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Compute where the pixels of one luminance [h,w] lie in another, [1,h,w,2], and the weight of that, [1,1,h,w].

    The weight is the consistency of forward and backward flow.
    """
    height, width = frame.shape
    if torch.equal(frame, reference):
        return _grid(height, width, like=frame), torch.ones_like(frame)[None, None]
    pair = [x.float().cpu().numpy() for x in (frame, reference)]
    forward, backward = (
        torch.from_numpy(fine_flow(a, b, refinements=1)).to(frame).unsqueeze(0) for a, b in (pair, pair[::-1])
    )
    positions = _grid(height, width, like=frame) + forward * forward.new_tensor((2 / width, 2 / height))
    returned = F.grid_sample(backward.movedim(-1, 1), positions, padding_mode="border", align_corners=False)
    distance = (forward.movedim(-1, 1) + returned).square().sum(1, keepdim=True)
    is_inside = (positions.abs() <= 1).all(-1).unsqueeze(1)
    return positions, torch.exp(-distance / CONSISTENT**2) * is_inside


def _grid(height: int, width: int, *, like: Tensor) -> Tensor:
    """Return the position of every pixel, [1,h,w,2], as F.grid_sample counts."""
    # F.affine_grid multiplies matrices, which autocast and TF32 round.
    axes = ((2 * torch.arange(n, dtype=like.dtype, device=like.device) + 1) / n - 1 for n in (width, height))
    return torch.stack(torch.meshgrid(*axes, indexing="xy"), -1).unsqueeze(0)
