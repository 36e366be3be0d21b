"""LDN's restoration from a spike stream: one pass, or several refinement iterations where spikes are few.

    spikes -> intensity                                                codes.physics.intensity
           -> noise spikes removed, charge redistributed               codes.motion.compensation, unless spikes are many
           -> super-resolution, closed form, LDN, data consistency     codes.restoration.reconstruction

The restored frames predict the intensity of the next iteration. Weights of other recipes than resim leave out the
second stage, and have one iteration.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from codes.data.spikes import Exposure
from codes.motion.compensation import intensity_along_motion, motion_compensated_intensity
from codes.motion.prediction import seen_by_spikes
from codes.physics.intensity import estimate_intensity
from codes.physics.sdm import gray, match_picture_scale, tfp
from codes.restoration.reconstruction import Student, reconstruct
from codes.restoration.view import View, gain_of, without_gain

FEW_SPIKES = 0.2  # a spike frame, in the mean of an exposure: with more, another iteration gains little
ITERATIONS = 3  # where spikes are few
# Spike frames between the restored frames that predict intensity in the last iteration, and between the samples of
# their super-resolution; for an iteration before it half as many frames suffice.
RESTORED_STEP = 4
AVERAGED = 5  # spike frames that stand for a restored frame where the picture does not show what the spikes show


def restore(
    student: Student,
    blur: Tensor,
    spikes: Tensor,
    times: Sequence[int],
    *,
    exposure: Exposure,
    iterations: int = 0,
    view: View | None = None,
) -> Iterator[Tensor]:
    """Restore blurry pictures [B,3,H,W] in [0,1] from spikes [B,T,h,w] at target times: yield [B,3,H,W], not clipped.

    iterations: of refinement; 0: as many as pay, see `refine`. view: of the picture on the spikes, if they do not show
    the same.
    """
    *_, intensity = refine(student, blur, spikes, exposure=exposure, iterations=iterations, view=view)
    for frame in reconstruct(student, blur, intensity, times, exposure=exposure, view=view):
        yield frame.sharp


def refine(
    student: Student,
    blur: Tensor,
    spikes: Tensor,
    *,
    exposure: Exposure,
    iterations: int = 0,
    view: View | None = None,
) -> Iterator[Tensor]:
    """Yield the intensity [B,T,h,w] of each refinement iteration; only LDN on super-resolved input has more than one.

    iterations: 0: ITERATIONS where any sample of the batch has few spikes, else one. Where LDN's windows fit into the
    stream at one time only, no frames can predict the intensity between them, and there is one iteration.
    """
    if student.recipe["input"] != "mfsr":
        yield without_gain(view, estimate_intensity(spikes, student.recipe["spike_input"]))
        return
    gain, flow = gain_of(view), student.flow
    intensity = intensity_along_motion(spikes, measured=exposure.frames, gain=gain, flow=flow)
    yield intensity
    iterations = iterations or (ITERATIONS if _fewest_spikes(intensity, exposure) < FEW_SPIKES else 1)
    for remaining in reversed(range(iterations - 1)):
        times = _restored_times(student, exposure, spikes.shape[1], is_last=remaining == 0)
        if not times:
            return
        frames = reconstruct(student, blur, intensity, times, exposure=exposure, step=RESTORED_STEP, view=view)
        if view:
            scaled = match_picture_scale(intensity, blur, exposure)
            seen = [
                view.to_spikes(gray(frame.sharp.clamp(0, 1)), tfp(scaled, time, AVERAGED))
                for time, frame in zip(times, frames, strict=True)
            ]
        else:
            seen = [seen_by_spikes(frame.sharp, intensity) for frame in frames]
        intensity = motion_compensated_intensity(spikes, intensity, torch.cat(seen, 1), times, gain=gain, flow=flow)
        yield intensity


def _fewest_spikes(intensity: Tensor, exposure: Exposure) -> float:
    """Return the mean number of spikes a spike frame over the exposure, of the sample of the batch with the fewest."""
    return intensity[:, exposure.frames].mean((1, 2, 3)).min().item()


def _restored_times(student: Student, exposure: Exposure, total: int, *, is_last: bool) -> list[int]:
    """List the times whose frames predict the next intensity, in the last iteration or before it; too few: empty."""
    for step in (RESTORED_STEP,) if is_last else (2 * RESTORED_STEP, RESTORED_STEP):
        inside = exposure.evenly(step)
        # One time to either side: the intensity there matters to both ends of the exposure.
        times = {inside[0] - step, *inside, inside[-1] + step}
        if len(fitting := sorted(time for time in times if student.fits(time, total))) > 1:
            return fitting
    return []
