"""PSNR of nine frames of ISI intensity at the middle of the exposure, and of the closed form on it, with BSN or not."""

import statistics
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from codes.cli import option
from codes.data.batches import Packed
from codes.data.dataset import SpikeDataset
from codes.data.spikes import Exposure
from codes.errors import InputError
from codes.evaluation.metrics import psnr
from codes.files import short_hash
from codes.motion.compensation import motion_compensated_intensity
from codes.networks import BSN, load, read_recipe
from codes.physics.intensity import firing_rate, interval_ends, isi_intensity, remove_noise_spikes
from codes.physics.sdm import apply_ratios, at_spike_size, gray, intensity_ratios, tfp, upsample_bicubic
from codes.recipe import ISI
from codes.reporting.table import Table
from scripts.dev.ablations.common import data_label, provenance, written

WEIGHTS = (0.25, 0.5, 0.75)  # of the measured intensity, against the output of BSN
NOTE = (
    "PSNR in dB at the middle: intensity at the size of the spikes, in the scale of the picture; the closed form, mean "
    "of multiplicative and additive SDM, with the mean of the measured ISI intensity, bicubic"
)


@dataclass(frozen=True)
class Options:
    base_folder: tuple[str, ...] = option(("data/demo",), "data sets, each two columns")
    bsn_path: str = option("", "weights of BSN, trained on ISI intensity")
    output: str = option("log/ablation", "folder of the table")


@torch.inference_mode()
def main(o: Options) -> Table:
    """Make the table."""
    if not o.bsn_path or read_recipe(o.bsn_path)["spike_input"] != ISI["spike_input"]:
        raise InputError(
            f"--bsn_path {o.bsn_path or 'is missing'}: weights of BSN trained with --spike_input "
            f"{ISI['spike_input']} are needed"
        )
    bsn, columns, cells = load(BSN(), o.bsn_path).eval(), ["intensity"], {}
    for folder in o.base_folder:
        columns += [f"{what}, {data_label(folder)}" for what in ("intensity", "closed form")]
        for name, pair in means(bsn, folder).items():
            cells.setdefault(name, []).extend(pair)
    weights = f"weights of BSN: {o.bsn_path}, sha256 {short_hash(o.bsn_path)}"
    rows = [[name, *line] for name, line in cells.items()]
    table = Table("denoise", "What BSN adds to ISI intensity", columns, rows, [NOTE, weights, provenance()])
    return written(table, o.output)


def means(bsn: BSN, folder: str) -> dict[str, tuple[float, float]]:
    """Return the mean PSNR of intensity and of the closed form on it over a test split, for each way."""
    samples = SpikeDataset(folder, "test", fields=("spikes", "blur", "sharp"))
    values: dict[str, list[tuple[float, float]]] = {}
    for index in tqdm(range(len(samples)), folder):
        batch = Packed.collate([samples[index]]).to(torch.device("cpu"))
        mean, ways = denoised(bsn, batch.blur, batch.spikes)
        truth = at_spike_size(gray(batch.sharp), mean)
        for name, intensity in ways.items():
            ratios = intensity_ratios(upsample_bicubic(intensity).unsqueeze(1), upsample_bicubic(mean))
            sharp = apply_ratios(batch.blur, ratios)[:, 0]
            found = psnr(intensity.clamp(0, 1), truth).item(), psnr(sharp, batch.sharp).item()
            values.setdefault(name, []).append(found)
    return {name: tuple(map(statistics.mean, zip(*found, strict=True))) for name, found in values.items()}


def denoised(bsn: BSN, blur: Tensor, spikes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean intensity of the exposure and, of each way, that at its middle, in picture scale: [1,1,h,w]."""
    exposure, short, signal = Exposure(), 9, remove_noise_spikes(spikes)
    isi, compensated = firing_rate(signal), motion_compensated_intensity(spikes, isi_intensity(spikes))
    mean = tfp(isi, exposure.center, exposure.length)
    gain = gray(blur).mean() / mean.mean()
    first, last = exposure.center - short // 2, exposure.center + short // 2
    before, after = interval_ends(signal)
    duration = (after[:, last] - before[:, first]).unsqueeze(1).float()  # of the intervals that the window meets
    noisy, measured, moved = (
        gain * tfp(stream, exposure.center, short) for stream in (firing_rate(spikes), isi, compensated)
    )
    blind = bsn(measured).clamp(0, 1)
    ways = {
        "ISI intensity, 9 frames": noisy,
        "ISI intensity without noise spikes": measured,
        "BSN on the latter, a blind-spot estimate": blind,
    }
    ways |= {f"BSN, measured intensity weighted {one:g}": torch.lerp(blind, measured, one) for one in WEIGHTS}
    ways["posterior mean of BSN and measured intensity"] = posterior_mean(blind, measured, duration)
    ways["motion-compensated intensity, nothing trained"] = moved
    posterior = posterior_mean(bsn(moved).clamp(0, 1), moved, duration)
    ways["posterior mean of BSN and motion-compensated intensity"] = posterior
    return gain * mean, ways


def posterior_mean(blind: Tensor, measured: Tensor, duration: Tensor) -> Tensor:
    """Weigh two independent estimates of intensity [1,1,h,w] by their variances.

    The measured one is charge by time, `duration` in spike frames; both of its ends lie within one spike frame, which
    gives a variance of 1/6. The variance of the blind-spot estimate is that of its difference around the pixel, minus
    this one. Source: Laine et al. 2019, section 3.
    """
    own = measured.square() / (6 * duration.square())
    difference = F.avg_pool2d((blind - measured).square(), 5, 1, 2, count_include_pad=False)
    return torch.lerp(blind, measured, 1 - (own / difference.clamp(min=1e-12)).clamp(max=1))
