"""Restoration of sharp frames from a blurry picture and spikes, one stage after the other.

    spikes -> intensity                     codes.physics.intensity
           -> noise spikes removed,
              charge redistributed          codes.motion.spike_labelling
           -> intensity at 4x resolution    codes.motion.super_resolution
           -> closed form                   codes.physics.sdm
           -> student LDN                   codes.networks.tiling
           -> data consistency              codes.physics.data_consistency

Weights of other recipes leave out the second stage, and the third is a bicubic enlargement or nothing. Where spikes are
few, the restored frames predict the intensity of the next of several refinement iterations.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from codes.data.spikes import Exposure
from codes.distillation.student_input import match_picture_scale
from codes.motion.spike_labelling import motion_compensated_intensity
from codes.motion.super_resolution import STEP, bicubic_intensity, super_resolved_intensity
from codes.networks import LDN, tiling
from codes.physics.data_consistency import consistency_times, data_consistency_residual
from codes.physics.intensity import estimate_intensity, isi_intensity
from codes.physics.sdm import at_spike_size, closed_form, gray, tfp, windows
from codes.recipe import Recipe

FEW_SPIKES = 0.2  # a spike frame, in the mean of an exposure: with more, another iteration gains little
ITERATIONS = 3  # where spikes are few
# Spike frames between the restored frames that predict intensity in the last iteration, and between the samples of
# their super-resolution; for an iteration before it half as many frames suffice.
FILM_STEP = 4


class Student(NamedTuple):
    """LDN and what its weights were trained for."""

    net: LDN
    recipe: Recipe
    short: int = 9  # spike frames averaged for the closed form that it starts from on ISI intensity
    tile: int = 0  # side of the tiles that it is applied to, in spike pixels; 0: the whole picture

    @property
    def length(self) -> int:
        """Spike frames of a window."""
        return self.net.spike_enc[0].in_channels


class Frame(NamedTuple):
    """What was restored at one target time, each [B,3,H,W]."""

    closed_form: Tensor | None  # what LDN starts from; None where it is fed spike counts
    student: Tensor  # by LDN, not clipped
    sharp: Tensor  # the same after data consistency, where the recipe has it


def restore(
    student: Student, blur: Tensor, spikes: Tensor, times: Sequence[int], *, exposure: Exposure, iterations: int = 0
) -> Iterator[Tensor]:
    """Restore blurry pictures [B,3,H,W] in [0,1] from spikes [B,T,h,w] at target times: yield [B,3,H,W], not clipped.

    iterations: of refinement; 0: as many as pay, see `refine`.
    """
    *_, intensity = refine(student, blur, spikes, exposure=exposure, iterations=iterations)
    for frame in reconstruct(student, blur, intensity, times, exposure=exposure):
        yield frame.sharp


def refine(
    student: Student, blur: Tensor, spikes: Tensor, *, exposure: Exposure, iterations: int = 0
) -> Iterator[Tensor]:
    """Yield the intensity [B,T,h,w] of each refinement iteration; only LDN on super-resolved input has more than one.

    iterations: 0: ITERATIONS where any sample of the batch has few spikes, else one. Where LDN's windows fit into the
    stream at one time only, no frames can predict the intensity between them, and there is one iteration.
    """
    if student.recipe["input"] != "mfsr":
        yield estimate_intensity(spikes, student.recipe["spike_input"])
        return
    intensity, film, film_times = isi_intensity(spikes), None, []
    for iteration in count(1):
        intensity = motion_compensated_intensity(spikes, intensity, film, film_times)
        yield intensity
        iterations = iterations or _iterations_that_pay(intensity, exposure)
        few, many = (
            _film_times(exposure, step, student.length, spikes.shape[1]) for step in (2 * FILM_STEP, FILM_STEP)
        )
        if iteration >= iterations or len(many) < 2:
            return
        film_times = few if iteration < iterations - 1 and len(few) > 1 else many
        frames = reconstruct(student, blur, intensity, film_times, exposure=exposure, step=FILM_STEP)
        film = torch.cat([at_spike_size(gray(frame.sharp.float().clamp(0, 1)), intensity) for frame in frames], 1)


def reconstruct(
    student: Student, blur: Tensor, intensity: Tensor, times: Sequence[int], *, exposure: Exposure, step: int = STEP
) -> Iterator[Frame]:
    """Restore frames at target times, in their order, from an intensity [B,T,h,w] that `refine` yields.

    step: spike frames between the samples of the super-resolution.
    """
    averaged = averaged_times(student, exposure, intensity.shape[1])
    order = list(dict.fromkeys([*averaged, *times]))
    scaled, fine, ldn = intensity, None, None
    if student.recipe["spike_input"] != "counts":
        scaled = match_picture_scale(intensity, blur, exposure)
    if student.recipe["input"] == "mfsr":
        fine, mean = super_resolved_intensity(intensity, order, exposure=exposure, step=step)
    else:
        ldn = tiling.ldn(student.net, blur, tile=student.tile)  # looks at the picture once for all times
        if student.recipe["spike_input"] != "counts":
            fine, mean = bicubic_intensity(scaled, order, exposure=exposure, short=student.short)

    def start_at(time: int) -> Tensor | None:
        return None if fine is None else closed_form(blur, fine[:, order.index(time)], mean)

    def student_at(time: int, start: Tensor | None) -> Tensor:
        apply = ldn or tiling.ldn(student.net, start, tile=student.tile)
        return apply(windows(scaled, [time], student.length), start)

    kept = {time: student_at(time, start_at(time)).float() for time in averaged}
    if averaged:
        residual = data_consistency_residual(torch.stack([kept[time] for time in averaged], 1), blur)
    for time in times:
        start = start_at(time)
        sharp = kept[time] if time in kept else student_at(time, start)
        yield Frame(start, sharp, sharp.float() + residual if averaged else sharp)


def averaged_times(student: Student, exposure: Exposure, total: int) -> list[int]:
    """List the times whose mean data consistency compares with the picture; empty: it is left out.

    It is left out where the recipe has none, and where the windows of LDN around both ends of the exposure do not fit
    into a stream of `total` spike frames: the mean over the exposure is unknown then.
    """
    times = consistency_times(exposure) if student.recipe["consistency"] == "picture" else []
    return times if all(_fits(time, student.length, total) for time in times) else []


def _iterations_that_pay(intensity: Tensor, exposure: Exposure) -> int:
    spikes_a_frame = tfp(intensity, exposure.center, exposure.length).mean((1, 2, 3)).min()
    return ITERATIONS if spikes_a_frame < FEW_SPIKES else 1


def _film_times(exposure: Exposure, step: int, length: int, total: int) -> list[int]:
    """List times of the exposure, and one to either side: the intensity there matters to both ends."""
    inside = exposure.evenly(step)
    return sorted(t for t in {inside[0] - step, *inside, inside[-1] + step} if _fits(t, length, total))


def _fits(time: int, length: int, total: int) -> bool:
    """Return whether a window of `length` spike frames around a time lies inside a stream of `total`."""
    return length // 2 <= time <= total - length + length // 2
