"""One pass of LDN's restoration, from intensity and a blurry picture to sharp frames; called by `refinement`.

    intensity -> intensity at 4x resolution     codes.motion.super_resolution
              -> closed form                    codes.physics.sdm
              -> student LDN                    codes.networks.tiling
              -> data consistency               codes.physics.data_consistency

Weights of other recipes enlarge the intensity bicubic, or are fed spike counts alone. `codes.restoration.refinement`
computes the intensity.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor

from codes.data.spikes import Exposure
from codes.motion.super_resolution import STEP, super_resolved_intensity
from codes.motion.warping import Flows, dis_flows
from codes.networks import LDN, tiling
from codes.physics.data_consistency import consistency_times, data_consistency_residual
from codes.physics.sdm import bicubic_intensity, closed_form, match_picture_scale, windows
from codes.recipe import Recipe
from codes.restoration.view import View, to_quarter


class Student(NamedTuple):
    """LDN and what its weights were trained for."""

    net: LDN
    recipe: Recipe
    short: int = 9  # spike frames averaged for the closed form that it starts from on ISI intensity
    tile: int = 0  # side of the tiles that it is applied to, in spike pixels; 0: the whole picture
    flow: Flows = dis_flows  # that aligns the spike frames

    @property
    def length(self) -> int:
        """Spike frames of a window."""
        return self.net.spike_enc[0].in_channels

    def fits(self, time: int, total: int) -> bool:
        """Return whether the spike frames around a target time that are used lie inside a stream of `total`."""
        averages = self.recipe["input"] == "blurry" and self.recipe["spike_input"] == "isi"
        used = max(self.length, self.short) if averages else self.length
        return used // 2 <= time <= total - used + used // 2


class Frame(NamedTuple):
    """What was restored at one target time, each [B,3,H,W]."""

    closed_form: Tensor | None  # what LDN starts from; None where it is fed spike counts
    student: Tensor  # by LDN, not clipped
    sharp: Tensor  # the same after data consistency, where the recipe has it


def reconstruct(
    student: Student,
    blur: Tensor,
    intensity: Tensor,
    times: Sequence[int],
    *,
    exposure: Exposure,
    step: int = STEP,
    view: View | None = None,
) -> Iterator[Frame]:
    """Restore pictures [B,3,H,W] in [0,1] at target times, in their order, from intensity [B,T,h,w].

    step: spike frames between the samples of the super-resolution. view: of the picture on the spikes, if they do not
    show the same.
    """
    averaged = averaged_times(student, exposure, intensity.shape[1])
    distinct = [*averaged, *(time for time in times if time not in averaged)]
    starts = _closed_forms(student, blur, intensity, distinct, exposure=exposure, step=step, view=view)
    shown = _shown(student, blur, intensity, exposure=exposure, view=view)
    restored = _student_frames(student, blur, shown, distinct, starts=starts)
    kept = {time: next(restored) for time in averaged}  # frames of the other times are computed when asked for
    if averaged:
        residual = data_consistency_residual(torch.stack([kept[time][1] for time in averaged], 1), blur)
    for time in times:
        start, sharp = kept[time] if time in kept else next(restored)
        yield Frame(start, sharp, sharp + residual if averaged else sharp)


def averaged_times(student: Student, exposure: Exposure, total: int) -> list[int]:
    """List the times whose mean data consistency compares with the picture; empty: it is left out.

    It is left out where the recipe has none, and where the spike frames around both ends of the exposure do not fit
    into a stream of `total` spike frames: the mean over the exposure is unknown then.
    """
    times = consistency_times(exposure) if student.recipe["consistency"] == "picture" else []
    return times if all(student.fits(time, total) for time in times) else []


def _closed_forms(
    student: Student,
    blur: Tensor,
    intensity: Tensor,
    times: Sequence[int],
    *,
    exposure: Exposure,
    step: int,
    view: View | None,
) -> Iterator[Tensor | None]:
    """Return what LDN starts from at each time, one after the other: None where it is fed spike counts."""
    if student.recipe["spike_input"] == "counts":
        return repeat(None)
    if student.recipe["input"] == "mfsr":
        at_times, mean = super_resolved_intensity(intensity, times, exposure=exposure, step=step, flow=student.flow)
    else:
        scaled = match_picture_scale(intensity, blur, exposure)
        fine, mean = bicubic_intensity(scaled, times, exposure=exposure, short=student.short)
        at_times = iter(fine.unbind(1))
    if view:
        at_times, mean = map(view.to_picture, at_times), view.to_picture(mean)
    return (closed_form(blur, at_time, mean) for at_time in at_times)


def _shown(student: Student, blur: Tensor, intensity: Tensor, *, exposure: Exposure, view: View | None) -> Tensor:
    """Return the intensity that LDN's windows show: in the scale of the picture, unless it is fed spike counts."""
    shown = to_quarter(view, intensity)
    return shown if student.recipe["spike_input"] == "counts" else match_picture_scale(shown, blur, exposure)


def _student_frames(
    student: Student, blur: Tensor, intensity: Tensor, times: Sequence[int], *, starts: Iterator[Tensor | None]
) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Restore each target time by LDN: yield what it starts from and what it returns, float32."""
    is_shared = student.recipe["input"] == "blurry"  # the picture is encoded once for all times
    shared = tiling.tiled_ldn(student.net, blur, tile=student.tile) if is_shared else None
    for time, start in zip(times, starts, strict=False):
        shown = windows(intensity, [time], student.length)
        apply = shared or tiling.tiled_ldn(student.net, start, tile=student.tile)
        yield start, apply(shown, start).float()
