"""The methods of restoration without LDN, one function each; `restorers` chooses one by its name.

Each function ..._frames restores a blurry picture [B,3,H,W] in [0,1] from spikes [B,T,h,w] at target times, and yields
[B,3,H,W] for each. view: of the picture on the spikes, None if both show the same.
"""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from codes.data.spikes import Exposure
from codes.distillation.teachers import NetworkTeacher
from codes.motion.compensation import intensity_along_motion
from codes.motion.super_resolution import super_resolved_intensity
from codes.motion.warping import Flows, dis_flows
from codes.physics.baselines import tfi
from codes.physics.intensity import estimate_intensity, isi_intensity
from codes.physics.sdm import bicubic_intensity, closed_form, gray, sdm, tfp, upsample_bilinear
from codes.restoration.view import View, gain_of, to_picture, without_gain

Restore = Callable[..., Iterator[Tensor]]  # (blur, spikes, times, exposure=, view=) -> frames [B,3,H,W]
MOTION_REACH = 128  # spike frames beyond the exposure that ISI intensity and its motion compensation use
TFI_REACH = 1000  # spike frames to either side in which TFI searches for the spikes around a time


def mfsr_frames(
    blur: Tensor,
    spikes: Tensor,
    times: Sequence[int],
    *,
    exposure: Exposure,
    flow: Flows = dis_flows,
    view: View | None = None,
) -> Iterator[Tensor]:
    """Restore by the closed form on super-resolved intensity; clipped to [0,1]."""
    intensity = intensity_along_motion(spikes, measured=exposure.frames, gain=gain_of(view), flow=flow)
    fine, mean = super_resolved_intensity(intensity, times, exposure=exposure, flow=flow)
    mean = to_picture(view, mean)
    for at_time in fine:
        yield closed_form(blur, to_picture(view, at_time), mean)


def sdm_frames(
    blur: Tensor, spikes: Tensor, times: Sequence[int], *, exposure: Exposure, short: int, view: View | None = None
) -> Iterator[Tensor]:
    """Restore by the closed form on ISI intensity, averaged over `short` spike frames; clipped to [0,1]."""
    fine, mean = bicubic_intensity(without_gain(view, isi_intensity(spikes)), times, exposure=exposure, short=short)
    mean = to_picture(view, mean)
    for at_time in fine.unbind(1):
        yield closed_form(blur, to_picture(view, at_time), mean)


def sdm_count_frames(
    blur: Tensor, spikes: Tensor, times: Sequence[int], *, exposure: Exposure, short: int, view: View | None = None
) -> Iterator[Tensor]:
    """Restore by the closed form as published, on spike counts, without a network; not clipped."""
    spikes = without_gain(view, spikes)
    long = to_picture(view, upsample_bilinear(tfp(spikes, exposure.center, exposure.length)))
    for time in times:
        yield sdm(blur, long, to_picture(view, upsample_bilinear(tfp(spikes, time, short))))


def teacher_frames(
    teacher: NetworkTeacher,
    blur: Tensor,
    spikes: Tensor,
    times: Sequence[int],
    *,
    exposure: Exposure,
    view: View | None = None,
) -> Iterator[Tensor]:
    """Restore by the published teacher, BSN and EDSR; not clipped."""
    intensity = without_gain(view, estimate_intensity(spikes, teacher.spike_input))
    fine, mean = teacher.fine_intensity(intensity, times, exposure=exposure)
    mean = to_picture(view, mean)
    for at_time in fine:
        yield sdm(blur, mean, to_picture(view, at_time))


def tfp_frames(
    blur: Tensor, spikes: Tensor, times: Sequence[int], *, exposure: Exposure, short: int, view: View | None = None
) -> Iterator[Tensor]:
    """Show the spikes alone, averaged over `short` spike frames (texture from playback): gray, not clipped."""
    spikes = without_gain(view, spikes)
    gain = _gain(blur, spikes, exposure)
    for time in times:
        yield (to_picture(view, upsample_bilinear(tfp(spikes, time, short))) * gain).expand_as(blur)


def tfi_frames(
    blur: Tensor, spikes: Tensor, times: Sequence[int], *, exposure: Exposure, view: View | None = None
) -> Iterator[Tensor]:
    """Show the spikes alone, by the interval at each time (texture from inter-spike interval): gray, not clipped."""
    gain = _gain(blur, spikes, exposure)
    for time in times:
        yield (to_picture(view, upsample_bilinear(without_gain(view, tfi(spikes, time)))) * gain).expand_as(blur)


def _gain(blur: Tensor, spikes: Tensor, exposure: Exposure) -> Tensor:
    """Return the factor that makes the mean of spikes over the exposure as bright as the picture."""
    return gray(blur).mean() / tfp(spikes, exposure.center, exposure.length).mean().clamp(min=1e-6)
