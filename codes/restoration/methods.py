"""Methods of restoration: the student, its teacher, the closed form with and without motion, and the spikes alone.

Each function ..._frames restores a blurry picture [B,3,H,W] in [0,1] from spikes [B,T,h,w] at target times, and yields
[B,3,H,W] for each.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from codes.data.spikes import Exposure
from codes.distillation.teachers import NetworkTeacher
from codes.errors import InputError
from codes.memory_format import memory_format
from codes.motion.spike_labelling import motion_compensated_intensity
from codes.motion.super_resolution import bicubic_intensity, super_resolved_intensity
from codes.networks import BSN, EDSR, LDN, load, read_recipe
from codes.networks.tiling import TiledBSN, TiledEDSR
from codes.physics.baselines import tfi
from codes.physics.intensity import estimate_intensity, isi_intensity
from codes.physics.sdm import closed_form, gray, sdm, tfp, upsample_bilinear
from codes.recipe import PUBLISHED, check_bsn_len, in_model, no_weights, settle
from codes.restoration.pipeline import Student

Restore = Callable[..., Iterator[Tensor]]  # (blur, spikes, times, exposure=) -> frames [B,3,H,W]
SHORT = 9  # spike frames averaged by default
METHODS = ("ldn", "mfsr", "teacher", "sdm", "tfi", "tfp")
# Flags of scripts/deblur.py that only some methods use; all methods use the others.
USED_BY = {
    "deblur_path": ("ldn",),
    "consistency": ("ldn",),
    "iterations": ("ldn",),
    "spike_deblur_len": ("ldn",),
    "compile": ("ldn",),
    "bsn_path": ("teacher",),
    "sr_path": ("teacher",),
    "center_weight": ("teacher",),
    "spike_input": ("ldn", "teacher", "sdm"),
    "bsn_len": ("ldn", "teacher", "sdm", "tfp"),
    "tile": ("ldn", "teacher"),
    "precision": ("ldn", "teacher"),
}
MOTION_REACH = 128  # spike frames beyond the exposure that ISI intensity and its motion compensation use
TFI_REACH = 1000  # spike frames to either side in which TFI searches for the spikes around a time


def window_and_reach(method: str, *, short: int, spike_deblur_len: int) -> tuple[int, int]:
    """Return the spike frames that a method needs around a target time, and those that it uses beyond the exposure."""
    window = {"ldn": max(spike_deblur_len, short), "tfi": 1, "mfsr": 1}.get(method, short)
    return window, {"tfi": TFI_REACH, "tfp": window, "teacher": window}.get(method, max(window, MOTION_REACH))


def mfsr_frames(blur: Tensor, spikes: Tensor, times: Sequence[int], *, exposure: Exposure) -> Iterator[Tensor]:
    """Restore by the closed form on motion-compensated, super-resolved intensity; clipped to [0,1]."""
    intensity = motion_compensated_intensity(spikes, isi_intensity(spikes))
    fine, mean = super_resolved_intensity(intensity, times, exposure=exposure)
    for at_time in fine.unbind(1):
        yield closed_form(blur, at_time, mean)


def sdm_frames(
    blur: Tensor, spikes: Tensor, times: Sequence[int], *, exposure: Exposure, short: int
) -> Iterator[Tensor]:
    """Restore by the closed form on ISI intensity, averaged over `short` spike frames; clipped to [0,1]."""
    fine, mean = bicubic_intensity(isi_intensity(spikes), times, exposure=exposure, short=short)
    for at_time in fine.unbind(1):
        yield closed_form(blur, at_time, mean)


def sdm_count_frames(
    blur: Tensor, spikes: Tensor, times: Sequence[int], *, exposure: Exposure, short: int
) -> Iterator[Tensor]:
    """Restore by the closed form as published, on spike counts, without a network; not clipped."""
    long = upsample_bilinear(tfp(spikes, exposure.center, exposure.length))
    for time in times:
        yield sdm(blur, long, upsample_bilinear(tfp(spikes, time, short)))


def teacher_frames(
    teacher: NetworkTeacher, blur: Tensor, spikes: Tensor, times: Sequence[int], *, exposure: Exposure
) -> Iterator[Tensor]:
    """Restore by the published teacher, BSN and EDSR; not clipped."""
    spikes = estimate_intensity(spikes, teacher.spike_input)
    long = teacher.enlarge(tfp(spikes, exposure.center, exposure.length))
    for time in times:
        yield sdm(blur, long, teacher.enlarge(teacher.denoise(tfp(spikes, time, teacher.short))))


def tfp_frames(
    blur: Tensor, spikes: Tensor, times: Sequence[int], *, exposure: Exposure, short: int
) -> Iterator[Tensor]:
    """Show the spikes alone, averaged over `short` spike frames (texture from playback): gray, not clipped."""
    gain = _gain(blur, spikes, exposure)
    for time in times:
        yield (upsample_bilinear(tfp(spikes, time, short)) * gain).expand_as(blur)


def tfi_frames(blur: Tensor, spikes: Tensor, times: Sequence[int], *, exposure: Exposure) -> Iterator[Tensor]:
    """Show the spikes alone, by the interval at each time (texture from inter-spike interval): gray, not clipped."""
    gain = _gain(blur, spikes, exposure)
    for time in times:
        yield (upsample_bilinear(tfi(spikes, time)) * gain).expand_as(blur)


def _gain(blur: Tensor, spikes: Tensor, exposure: Exposure) -> Tensor:
    """Return the factor that makes the mean of spikes over the exposure as bright as the picture."""
    return gray(blur).mean() / tfp(spikes, exposure.center, exposure.length).mean().clamp(min=1e-6)


def load_student(
    path: str,
    *,
    device: torch.device,
    spike_deblur_len: int,
    short: int,
    spike_input: str,
    consistency: str,
    iterations: int,
    tile: int,
) -> Student:
    """Load LDN with its recipe, for pictures in tiles of a side in spike pixels.

    Raises: InputError for arguments that its weights do not fit or do not use.
    """
    path = weight_file("deblur_path", path)
    net = load(LDN(spike_deblur_len), path)
    recipe = settle({"spike_input": spike_input}, {path: read_recipe(path)}, PUBLISHED)
    check_bsn_len(recipe, short, path=path)
    if short != SHORT and (recipe["spike_input"] == "counts" or recipe["input"] == "mfsr"):
        raise InputError(f"--bsn_len {short}: {path} averages no spike frames; leave it out")
    if iterations and recipe["input"] != "mfsr":
        raise InputError(f"--iterations {iterations}: {path} is not fed super-resolved input, it has one iteration")
    net = net.to(device, memory_format=memory_format(device)).eval()
    return Student(net, recipe | ({"consistency": consistency} if consistency else {}), short, tile)


def load_teacher(
    bsn_path: str,
    sr_path: str,
    *,
    device: torch.device,
    short: int,
    spike_input: str,
    center_weight: float,
    tile: int,
) -> NetworkTeacher:
    """Load the published teacher, BSN and EDSR, for pictures in tiles of a side in spike pixels."""
    bsn_path, sr_path = weight_file("bsn_path", bsn_path), weight_file("sr_path", sr_path)
    recipes = {path: read_recipe(path) for path in (bsn_path, sr_path)}
    return NetworkTeacher(
        TiledBSN(load(BSN(), bsn_path).to(device, memory_format=memory_format(device)).eval(), tile=tile),
        TiledEDSR(load(EDSR(), sr_path).to(device, memory_format=memory_format(device)).eval(), tile=tile),
        short=short,
        center_weight=center_weight,
        spike_input=settle({"spike_input": spike_input}, recipes, PUBLISHED)["spike_input"],
    )


def weight_file(flag: str, path: str) -> str:
    """Return the weight file that a flag names, or else the one in model/."""
    if found := path or in_model(flag):
        return found
    raise no_weights(flag)
