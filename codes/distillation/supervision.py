"""Losses of the student LDN: distillation from a teacher with a reblur loss, or the truth of re-simulated scenes.

Source: SpikeReveal (arXiv 2403.09486), section 4.3.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from codes.data.batches import Batch
from codes.data.spikes import Exposure
from codes.distillation.teachers import ClosedFormTeacher, NetworkTeacher
from codes.errors import InputError
from codes.evaluation.losses import Loss, dssim, mse
from codes.physics.data_consistency import mean_over_exposure

REBLUR = ("equal", "trapezoid", "random")


@dataclass(frozen=True)
class TeacherDistillation:
    """lambda_tea * distance(teacher, student) + lambda_reblur * MSE(blurry picture, mean of the student's frames)."""

    teacher: NetworkTeacher | ClosedFormTeacher | None  # None: lambda_tea is 0
    loss: Loss | None  # the distance; None: lambda_tea is 0
    lambda_tea: float
    lambda_reblur: float
    use_ssim: bool  # add lambda_tea * (1 - SSIM)
    reblur: str  # of REBLUR: "trapezoid" counts the first and the last frame half

    def terms(self, sharp: Tensor, batch: Batch, times: list[int]) -> dict[str, Tensor]:
        """Return the weighted loss terms of restored frames [B,N,3,H,W] at N target times."""
        terms = {}
        if self.lambda_tea:
            ratios = self.teacher.ratios(batch.spikes, times) if batch.ratios is None else batch.ratios
            labels, frames = self.teacher.sharpen(batch.blur, ratios).flatten(0, 1), sharp.flatten(0, 1)
            terms["teacher"] = self.lambda_tea * self.loss(frames, labels)
            if self.use_ssim:
                terms["ssim"] = self.lambda_tea * dssim(frames, labels)
        mean = mean_over_exposure(sharp) if self.reblur == "trapezoid" else sharp.mean(1)
        terms["reblur"] = self.lambda_reblur * mse(mean, batch.blur)
        return terms


@dataclass(frozen=True)
class ResimulatedTruth:
    """distance(truth of a re-simulated scene, student). The truth is exact: a reblur loss would add nothing."""

    loss: Loss

    def terms(self, sharp: Tensor, batch: Batch, times: list[int]) -> dict[str, Tensor]:
        """Return the loss of restored frames [B,7,3,H,W] at the times of the sequence.

        Raises: InputError if a sample has no sequence.
        """
        if batch.sequence is None:
            raise InputError(f"{', '.join(batch.names)}: no sharp_sequence; run scripts/resimulate.py again")
        return {"resim": self.loss(sharp.flatten(0, 1), batch.sequence.flatten(0, 1))}


def random_times(exposure: Exposure, number: int, *, seed: int, batch: int) -> list[int]:
    """Draw one target time in each of `number` equal parts of the exposure: a function of the seed and the batch."""
    share = np.random.default_rng((seed, batch)).random(number)
    return [exposure.margin + int(part) for part in (np.arange(number) + share) * exposure.length / number]
