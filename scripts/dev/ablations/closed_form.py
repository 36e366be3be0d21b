"""PSNR of the closed form on seven frames of every test sample, from spike counts to multi-frame super-resolution."""

import statistics
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from codes.cli import option
from codes.data.batches import Packed
from codes.data.dataset import SpikeDataset
from codes.data.spikes import SEQUENCE_STEP, Exposure
from codes.distillation.teachers import ClosedFormTeacher
from codes.evaluation.metrics import psnr
from codes.physics.intensity import firing_rate, remove_noise_spikes
from codes.physics.sdm import gray, sdm, tfp, upsample_bilinear
from codes.reporting.table import Table
from scripts.dev.ablations.common import data_label, provenance, written


@dataclass(frozen=True)
class Options:
    base_folder: tuple[str, ...] = option(("data/demo",), "data sets, each a column")
    output: str = option("log/ablation", "folder of the table")


def main(o: Options) -> Table:
    """Make the table."""
    columns, cells = ["closed form, nothing trained"], {}
    for folder in o.base_folder:
        columns.append(data_label(folder))
        for name, value in means(folder).items():
            cells.setdefault(name, []).append(value)
    note = "PSNR in dB, mean over the seven frames (the middle one where a sample has no sequence) of all samples"
    rows = [[name, *line] for name, line in cells.items()]
    return written(Table("closed_form", "Closed form, by its intensity", columns, rows, [note, provenance()]), o.output)


def means(folder: str) -> dict[str, float]:
    """Return the mean PSNR of each closed form over a test split."""
    samples = SpikeDataset(folder, "test", fields=("spikes", "blur", "sharp", "sequence"))
    values: dict[str, list[float]] = {}
    for index in tqdm(range(len(samples)), folder):
        batch = Packed.collate([samples[index]]).to(torch.device("cpu"))
        has_sequence = batch.sequence is not None
        times = Exposure().centers(SEQUENCE_STEP) if has_sequence else [Exposure().center]
        truth = batch.sequence if has_sequence else batch.sharp.unsqueeze(1)
        for name, frames in closed_forms(batch.blur, batch.spikes, times):
            values.setdefault(name, []).append(psnr(frames[0].clamp(0, 1), truth[0]).mean().item())
    return {name: statistics.mean(found) for name, found in values.items()}


def closed_forms(blur: Tensor, spikes: Tensor, times: list[int]) -> list[tuple[str, Tensor]]:
    """Restore [B,3,H,W] at N times in every way: names and frames [B,N,3,H,W], the better ones last."""
    exposure, short = Exposure(), 9
    intensities = {
        "spike counts, as published": spikes.float(),
        "ISI intensity": firing_rate(spikes),
        "ISI intensity without noise spikes": firing_rate(remove_noise_spikes(spikes)),
    }
    found = [("blurry picture", blur.unsqueeze(1).expand(-1, len(times), -1, -1, -1))]
    for name, intensity in intensities.items():
        long = upsample_bilinear(tfp(intensity, exposure.center, exposure.length))
        frames = [sdm(blur, long, upsample_bilinear(tfp(intensity, time, short))) for time in times]
        found.append((f"{name}: multiplicative SDM", torch.stack(frames, 1)))
    mfsr, plain = ClosedFormTeacher(short=short), ClosedFormTeacher(short=short, mfsr=False)
    for name, teacher in (("ISI intensity without noise spikes, bicubic", plain), ("MFSR", mfsr)):
        ratios = teacher.ratios(spikes, times)
        ratio, mean = ratios[:, :-1], ratios[:, -1:]
        scaled = mean * (gray(blur).mean() / mean.mean())
        found += [
            (f"{name}: multiplicative SDM", blur.unsqueeze(1) * ratio),
            (f"{name}: additive SDM", blur.unsqueeze(1) + scaled * (ratio - 1)),
            (f"{name}: mean of both", teacher.sharpen(blur, ratios)),
        ]
    return found
