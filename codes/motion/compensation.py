"""Intensity of a spike stream: ISI intensity, where spikes are few compensated for motion.

Compensation applies `prediction` and `spike_labelling` in turn.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from codes.motion.prediction import DARKEST, predict_along_motion, predict_from_restored
from codes.motion.spike_labelling import label_spikes, redistribute_charge
from codes.motion.warping import Flows, dis_flows
from codes.physics.intensity import isi_intensity

MANY_SPIKES = 0.35  # a spike frame, in the mean: with more, compensation gains 0.04 dB and takes a quarter of the time
PASSES = 2  # each predicts from the labels of the pass before
RESTORED_ERROR = 0.25  # standard deviation of the logarithm of a charge that restored frames predict


def intensity_along_motion(
    spikes: Tensor, *, measured: slice = slice(None), gain: Tensor | None = None, flow: Flows = dis_flows
) -> Tensor:
    """Estimate the intensity of spikes [B,T,h,w]: the same float32, relative to the gain of each pixel [h,w].

    It is motion-compensated intensity for a stream with at most MANY_SPIKES in the spike frames `measured`, which are
    those of the exposure, and ISI intensity for any other.
    """
    intensity = isi_intensity(spikes)
    if gain is not None:
        intensity = intensity / gain.to(intensity.device)
    for number in _with_few_spikes(intensity[:, measured]):
        one = slice(number, number + 1)
        intensity[one] = motion_compensated_intensity(spikes[one], intensity[one], gain=gain, flow=flow)
    return intensity


def _with_few_spikes(intensity: Tensor) -> list[int]:
    """List the streams of intensity [B,T,h,w] that are compensated for motion. Waits for the device."""
    return [number for number, mean in enumerate(intensity.mean((1, 2, 3)).tolist()) if mean <= MANY_SPIKES]


def motion_compensated_intensity(
    spikes: Tensor,
    intensity: Tensor,
    restored: Tensor | None = None,
    times: Sequence[int] = (),
    *,
    gain: Tensor | None = None,
    flow: Flows = dis_flows,
) -> Tensor:
    """Remove noise spikes and redistribute the charge of the others along motion: [B,T,h,w] float32.

    spikes: [B,T,h,w] of 0 and 1; intensity: [B,T,h,w], an estimate of each pixel alone or of an earlier refinement
    iteration, which predicts itself along motion. restored: frames [B,N,h,w] in any scale that were restored from it at
    ascending `times`; they then predict the intensity between the first and the last of these times. gain: relative, of
    each pixel [h,w]; the intensity given and returned is without it.
    The charge of the result over every interval between two signal spikes is that of one spike, divided by the gain.
    """
    gain = torch.ones((), device=spikes.device) if gain is None else gain.to(spikes.device)
    found = []
    for index, (one, of_pixels) in enumerate(zip(spikes, intensity, strict=True)):
        if restored is None:
            found.append(_compensate(one, of_pixels, gain=gain, flow=flow))
        else:
            found.append(_refine(one, of_pixels, restored[index].detach(), times, gain=gain, flow=flow))
    return torch.stack(found)


def _compensate(spikes: Tensor, intensity: Tensor, *, gain: Tensor, flow: Flows) -> Tensor:
    """Label spikes and redistribute their charge by what intensity [T,h,w] predicts along motion, PASSES times."""
    for _ in range(PASSES):
        predicted = predict_along_motion(intensity, flow=flow) * gain
        intensity = redistribute_charge(label_spikes(spikes, predicted), predicted) / gain
    return intensity


def _refine(
    spikes: Tensor, intensity: Tensor, restored: Tensor, times: Sequence[int], *, gain: Tensor, flow: Flows
) -> Tensor:
    """Label spikes and redistribute their charge by what restored frames [N,h,w] predict.

    Before the first of their times and after the last, intensity [T,h,w] predicts itself. The result is averaged along
    motion, and the mean of both predictions is used once more.
    """
    predicted = predict_from_restored(intensity, restored, times, flow=flow)
    once = _labelled(spikes, predicted, gain)
    return _labelled(spikes, (predicted + predict_along_motion(once, flow=flow)) / 2, gain)


def _labelled(spikes: Tensor, predicted: Tensor, gain: Tensor) -> Tensor:
    predicted = predicted.clamp(min=DARKEST) * gain
    return redistribute_charge(label_spikes(spikes, predicted, charge_error=RESTORED_ERROR), predicted) / gain
