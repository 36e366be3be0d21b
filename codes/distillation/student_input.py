"""Inputs of the student LDN: the picture that it corrects, and windows of spikes around the target times."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codes.data.batches import Batch
from codes.data.spikes import Exposure
from codes.distillation.teachers import ClosedFormTeacher
from codes.physics.intensity import estimate_intensity
from codes.physics.sdm import apply_ratios, bicubic_intensity, intensity_ratios, match_picture_scale, windows
from codes.recipe import Recipe


@dataclass(frozen=True)
class StudentInput:
    """Prepare what LDN is fed in training, as its recipe says, and restore with it.

    In training, the windows hold the ISI intensity of each pixel on its own, which is fast enough for every step. At
    inference (`codes.restoration.refinement`) it is compensated for motion where spikes are few, which is closer to
    the truth.
    """

    recipe: Recipe
    length: int  # spike frames of a window
    short: int  # spike frames averaged for the closed form
    exposure: Exposure
    mfsr: ClosedFormTeacher  # makes the image input of the recipe resim

    def __call__(self, net: nn.Module, batch: Batch, times: list[int]) -> Tensor:
        """Restore a batch at N target times in one pass: [B,N,3,H,W], not clipped."""
        sharp = net(*self.prepare(batch, times))
        return sharp.to(torch.promote_types(sharp.dtype, torch.float32)).unflatten(0, (-1, len(times)))

    def prepare(self, batch: Batch, times: list[int]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the image input, the windows [B*N,length,h,w], and the picture that LDN corrects, if another."""
        intensity = estimate_intensity(batch.spikes, self.recipe["spike_input"])
        if self.recipe["input"] == "mfsr":
            ratios = self.mfsr.ratios(batch.spikes, times) if batch.ratios is None else batch.ratios
            image = self.mfsr.sharpen(batch.blur, ratios).flatten(0, 1)
            scaled = match_picture_scale(intensity, batch.blur, self.exposure)
            return image, windows(scaled, times, self.length), None
        if self.recipe["spike_input"] == "counts":
            return batch.blur, windows(intensity, times, self.length), None
        return closed_form_input(
            batch.blur, intensity, times, length=self.length, short=self.short, exposure=self.exposure
        )


def closed_form_input(
    blur: Tensor, intensity: Tensor, times: list[int], *, length: int, short: int, exposure: Exposure
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the input of LDN on ISI intensity: the picture, windows [B*N,length,h,w] and the closed form [B*N,3,H,W].

    blur: pictures [B,3,H,W]; intensity: [B,T,h,w]; N target times. Intensity is scaled to the picture, so that
    threshold and gain cancel. LDN adds a correction to the closed form.
    """
    intensity = match_picture_scale(intensity, blur, exposure)
    ratios = intensity_ratios(*bicubic_intensity(intensity, times, exposure=exposure, short=short))
    return blur, windows(intensity, times, length), apply_ratios(blur, ratios).flatten(0, 1)
