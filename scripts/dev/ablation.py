"""Say what each step beyond the published recipe brings: the closed form without training, and LDN over three seeds.

    python scripts/dev/ablation.py light --base_folder data/demo                        # nothing is trained
    python scripts/dev/ablation.py real --streams one.dat other.dat                     # beside one.png and other.png
    python scripts/dev/ablation.py denoise --base_folder data/demo --bsn_path BSN.pth   # trained on rates
    python scripts/dev/ablation.py train --base_folder data/demo --refilmed data/refilmed \\
        --test_folder data/demo data/demo_4 --bsn_path BSN.pth --sr_path SR.pth --steps 1000

Each column of the first, each two of the third are another set (V_th, by its folder's note); each row of the last is
trained on the same data for the same steps with every seed, --refilmed being what scripts/resimulate.py made of
--base_folder; mean and spread are of the seeds. Runs are kept in OUTPUT/runs and not made again.
"""

import hashlib
import shlex
import statistics
import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import train_deblur
from codes.cli import option, program
from codes.data import manifest
from codes.data.batches import Packed
from codes.data.dataset import SpikeDataset
from codes.data.images import read_image, write_image
from codes.data.spikes import SEQUENCE_STEP, Exposure
from codes.distillation.teachers import LABELS, ClosedFormTeacher
from codes.engine.journal import versions
from codes.errors import InputError
from codes.evaluation.metrics import psnr
from codes.motion.spike_labelling import motion_compensated_intensity
from codes.motion.super_resolution import WindowMeans, super_resolve
from codes.networks import BSN, load, read_recipe
from codes.physics.intensity import (
    apply_ratios,
    firing_rate,
    intensity_ratios,
    interval_ends,
    remove_noise_spikes,
    upsample_bicubic,
)
from codes.physics.sdm import at_spike_size, gray, sdm, tfp
from codes.recipe import RECIPES
from codes.reporting.tables import Table
from codes.restoration.file_format import guess, read
from codes.restoration.restorers import LOOKS, upsample_bilinear

CONSISTENT = {"recipe": "rates", "teacher": "consistent"}
# What is changed, one thing at a time, from the recipe that the row before stands for.
VARIANTS: dict[str, dict[str, object]] = {
    "published recipe": {"recipe": "published"},
    "published, rate swings every 202 steps": {"recipe": "published", "lr_swings": 202},
    "published, clipped before the loss": {"recipe": "published", "clip": True},
    "published, random start": {"recipe": "published", "init": "random"},
    "published, ends of the exposure counted half": {"recipe": "published", "reblur": "trapezoid"},
    "published, random instants": {"recipe": "published", "reblur": "random"},
    "published, without reblur loss": {"recipe": "published", "lambda_reblur": 0.0},
    "published, flips and turns": {"recipe": "published", "augment": True},
    "published, BSN and its centre pixel half and half": {"recipe": "published", "center_weight": 0.5},
    "published, BSN left out": {"recipe": "published", "center_weight": 1.0},
    "published, data consistency": {"recipe": "published", "consistency": "picture"},
    "published, on what was filmed again (V_th 1 to 4)": {"recipe": "published", "base_folder": "refilmed"},
    # Its labels are what it starts from: there is nothing but the reblur loss to learn.
    "rates, consistent teacher": CONSISTENT,
    "rates, consistent teacher, random start": CONSISTENT | {"init": "random"},
    # Super-resolution from the picture alone: it is the mean of thirteen instants, in colour.
    "rates, reblur of 13 instants alone": CONSISTENT | {"lambda_tea": 0.0, "blur_step": 8},
    "rates, fused teacher (recipe rates)": {"recipe": "rates"},
    "rates, taught by what was filmed again": {"recipe": "rates", "teacher": "refilmed"},
    "fused picture, taught by what was filmed again": {"recipe": "fused", "consistency": "none"},
    "the same, data consistency (recipe fused)": {"recipe": "fused"},
    "recipe fused, flips and turns": {"recipe": "fused", "augment": True},
    "recipe fused, random start": {"recipe": "fused", "init": "random"},
    "recipe fused, bf16": {"recipe": "fused", "precision": "bf16"},
}
FIRST_LOOK = "recipe fused, one look at the spikes"  # measured with the recipe itself

PARTS = ("light", "real", "denoise", "train")
SHARES = (0.25, 0.5, 0.75)  # of the measured light, beside BSN's


@dataclass(frozen=True)
class Options:
    part: str = option(
        MISSING,
        "light: the closed form; real: streams of a camera; denoise: BSN on rates; train: LDN",
        positional=True,
        choices=PARTS,
    )
    base_folder: tuple[str, ...] = option(("data/demo",), "data sets; train takes one")
    streams: tuple[str, ...] = option((), "real: spike files with a sharp picture of their middle beside, NAME.png")
    output: str = option("log/ablation", "where tables and runs go")
    refilmed: str = option("", "train: what scripts/resimulate.py made of the data set, for the recipe fused")
    test_folder: tuple[str, ...] = option((), "train: data sets to measure on [the one that is trained on]")
    bsn_path: str = option("", "weights of BSN, for the published recipe; denoise: of rates")
    sr_path: str = option("", "weights of EDSR, for the published recipe")
    steps: int = option(1000, "optimiser steps of each LDN")
    seeds: int = option(3, "trainings of each row")
    bs: int = option(2, "pictures a batch")
    roi_size: int = option(128, "side of the crops, in picture pixels")
    only: tuple[str, ...] = option(
        (), "rows to train, by their beginning; those that were measured are shown too [all]"
    )
    device: str = option("", "cpu, cuda, cuda:1 [cuda where there is one]")


def main(o: Options) -> Table:
    table = {"light": light_table, "real": real_table, "denoise": denoise_table, "train": train_table}[o.part](o)
    table.write(o.output)
    print(table.markdown())
    return table


def made() -> str:
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"made by `{shlex.join(sys.argv)}`, {found}"


def light_table(o: Options) -> Table:
    """PSNR of the closed form on seven instants of every test sample, from plain counts to fused rates."""
    columns, cells = ["closed form, nothing trained"], {}
    for folder in o.base_folder:
        samples = SpikeDataset(folder, "test", parts=("spikes", "blur", "sharp", "sequence"))
        values: dict[str, list[float]] = {}
        for index in tqdm(range(len(samples)), folder):
            batch = Packed.collate([samples[index]]).to(torch.device("cpu"))
            instants = Exposure().centers(SEQUENCE_STEP)
            truth = batch.sharp.unsqueeze(1) if batch.sequence is None else batch.sequence
            instants = [Exposure().center] if batch.sequence is None else instants
            for name, frames in closed_forms(batch.blur, batch.spikes, instants):
                values.setdefault(name, []).append(psnr(frames[0].clamp(0, 1), truth[0]).mean().item())
        columns.append(f"V_th {threshold(folder)}, {Path(folder).name}")
        for name, found in values.items():
            cells.setdefault(name, []).append(statistics.mean(found))
    notes = ["PSNR in dB, mean over the seven instants (the middle one where a sample has no sequence) of all samples"]
    return Table(
        "light", "What light is made of", columns, [[name, *line] for name, line in cells.items()], [*notes, made()]
    )


def threshold(folder: str) -> str:
    return " to ".join(f"{value:g}" for value in manifest.thresholds(folder)) or "?"


def closed_forms(blur: Tensor, spikes: Tensor, instants: list[int]) -> "list[tuple[str, Tensor]]":
    """Return each way's pictures, [B,N,3,H,W], the better ones last."""
    exposure, short = Exposure(), 9
    kinds = {"counts": spikes.float(), "rates": firing_rate(spikes)}
    kinds["rates of true spikes"] = firing_rate(remove_noise_spikes(spikes))

    found = [("blurry picture", blur.unsqueeze(1).expand(-1, len(instants), -1, -1, -1))]
    for kind, light in kinds.items():
        long = upsample_bilinear(tfp(light, exposure.center, exposure.length))
        frames = [sdm(blur, long, upsample_bilinear(tfp(light, instant, short))) for instant in instants]
        found.append((f"{kind}: ratio, as published", torch.stack(frames, 1)))
    fused, plain = ClosedFormTeacher(short=short), ClosedFormTeacher(short=short, fused=False)
    for name, teacher in (("bicubic", plain), ("fused along motion", fused)):
        ratios = teacher.ratios(spikes, instants)
        ratio, mean = ratios[:, :-1], ratios[:, -1:]
        scaled = mean * (gray(blur).mean() / mean.mean())
        found += [
            (f"true rates, {name}: ratio", blur.unsqueeze(1) * ratio),
            (f"true rates, {name}: difference", blur.unsqueeze(1) + scaled * (ratio - 1)),
            (f"true rates, {name}: half of each", teacher.sharpen(blur, ratios)),
        ]
    return found


def real_table(o: Options) -> Table:
    """Light around the middle of real streams against their sharp pictures, gray, gain and offset matched.

    Each stream is drawn, also one without a picture: OUTPUT/NAME.png, the ways from left to right.
    """
    if not o.streams:
        raise InputError("--streams is missing: spike files; those with a sharp picture NAME.png beside are measured")
    ways, rows = ("TFP of 9 counts", "9 rates", "9 rates of true spikes", "fused, at the size of the spikes"), []
    for path in map(Path, o.streams):
        beside = path.with_suffix(".png")
        picture = read_image(beside) if beside.is_file() else None
        reading = guess(path, picture=picture)[0]
        spikes = torch.from_numpy(np.ascontiguousarray(read(path, reading)))[None]
        height, width = spikes.shape[-2:]
        center, rates = spikes.shape[1] // 2 + 1, firing_rate(remove_noise_spikes(spikes))
        light = [tfp(one, center, 9)[0, 0].numpy() for one in (spikes, firing_rate(spikes), rates)]
        along = motion_compensated_intensity(spikes[0])
        fine = super_resolve(WindowMeans((along / along.mean(0).quantile(0.999)).numpy()), center)
        light.append(cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR))
        write_image(Path(o.output, f"{path.stem}.png"), drawn(light))
        if picture is not None:
            gray_picture = picture @ np.array((0.11, 0.59, 0.30)) / 255
            truth = cv2.resize(gray_picture, (width, height), interpolation=cv2.INTER_AREA)
            rows.append([path.stem, *(matched_psnr(one, truth) for one in light)])
    note = "PSNR in dB after matching gain and offset by least squares; light around the tick after the middle"
    return Table("real", "Real streams", ["stream", *ways], rows, [note, made()])


@torch.inference_mode()
def denoise_table(o: Options) -> Table:
    """Light of nine rates at the middle of the exposure, and the closed form on it, with BSN's help and without."""
    if not o.bsn_path or read_recipe(o.bsn_path)["spike_input"] != "rates":
        raise InputError(
            f"--bsn_path {o.bsn_path or 'is missing'}: weights of BSN trained with --spike_input rates are needed"
        )
    bsn, columns, cells = load(BSN(), o.bsn_path).eval(), ["light at the instant"], {}
    for folder in o.base_folder:
        samples = SpikeDataset(folder, "test", parts=("spikes", "blur", "sharp"))
        values: dict[str, list[tuple[float, float]]] = {}
        for index in tqdm(range(len(samples)), folder):
            batch = Packed.collate([samples[index]]).to(torch.device("cpu"))
            mean, ways = denoised(bsn, batch.blur, batch.spikes)
            truth = at_spike_size(gray(batch.sharp), mean)
            for name, light in ways.items():
                sharp = apply_ratios(
                    batch.blur, intensity_ratios(upsample_bicubic(light).unsqueeze(1), upsample_bicubic(mean))
                )[:, 0]
                found = psnr(light.clamp(0, 1), truth).item(), psnr(sharp, batch.sharp).item()
                values.setdefault(name, []).append(found)
        columns += [f"{what}, V_th {threshold(folder)}, {Path(folder).name}" for what in ("light", "closed form")]
        for name, found in values.items():
            cells.setdefault(name, []).extend(map(statistics.mean, zip(*found, strict=True)))
    notes = [
        "PSNR in dB of the middle: light at the size of the spikes, in the scale of the picture; the closed form, half "
        "ratio and half difference, over the mean of the measured rates, bicubic",
        f"weights of BSN: {o.bsn_path}, sha256 {hashlib.sha256(Path(o.bsn_path).read_bytes()).hexdigest()[:16]}",
    ]
    rows = [[name, *line] for name, line in cells.items()]
    return Table("denoise", "What BSN brings to rates", columns, rows, [*notes, made()])


def denoised(bsn: BSN, blur: Tensor, spikes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return light over the exposure and, of each way, in the middle, all in the scale of the picture: [1,1,h,w]."""
    exposure, short, true = Exposure(), 9, remove_noise_spikes(spikes)
    rates, along = firing_rate(true), motion_compensated_intensity(spikes[0])[None]
    mean = tfp(rates, exposure.center, exposure.length)
    gain = gray(blur).mean() / mean.mean()
    first, last = exposure.center - short // 2, exposure.center + short // 2
    before, after = interval_ends(true)
    ticks = (after[:, last] - before[:, first]).unsqueeze(1).float()  # of the intervals that the window cuts
    noisy, measured, moved = (
        gain * tfp(light, exposure.center, short) for light in (firing_rate(spikes), rates, along)
    )
    blind = bsn(measured).clamp(0, 1)
    ways = {"9 rates": noisy, "9 rates of true spikes": measured, "BSN on these: blind to its own pixel": blind}
    ways |= {f"{share:g} of the measured light beside it": torch.lerp(blind, measured, share) for share in SHARES}
    ways["posterior mean, noise known from the interval"] = posterior_mean(blind, measured, ticks)
    ways["light along motion, nothing trained"] = moved
    ways["posterior mean of that and of BSN on it"] = posterior_mean(bsn(moved).clamp(0, 1), moved, ticks)
    return gain * mean, ways


def posterior_mean(blind: Tensor, measured: Tensor, ticks: Tensor) -> Tensor:
    """Weigh two independent guesses of light [1,1,h,w] by how sure each is (Laine et al. 2019, section 3).

    The measured one is charge by time, which both end within a tick that is not known closer: `ticks` with the variance
    of two uniform errors, 1/6. What the blind one lies apart from it beyond that, around the pixel, is its own error.
    """
    own = measured.square() / (6 * ticks.square())
    apart = F.avg_pool2d((blind - measured).square(), 5, 1, 2, count_include_pad=False)
    return torch.lerp(blind, measured, 1 - (own / apart.clamp(min=1e-12)).clamp(max=1))


def drawn(light: list[np.ndarray]) -> np.ndarray:
    """Draw pictures of light [h,w] side by side, each in a scale of its own, as bright as a screen shows it."""
    shown = [(one / max(np.quantile(one, 0.995), 1e-6)).clip(0, 1) ** (1 / 1.8) for one in light]
    return np.rint(255 * np.hstack(shown)).astype(np.uint8)


def matched_psnr(light: np.ndarray, truth: np.ndarray) -> float:
    known = np.stack((light.ravel(), np.ones(light.size)), 1)
    fitted = known @ np.linalg.lstsq(known, truth.ravel(), rcond=None)[0]
    return float(-10 * np.log10(np.mean((fitted.clip(0, 1) - truth.ravel()) ** 2)))


def train_table(o: Options) -> Table:
    """PSNR of LDN, middle frame and sequence, over the seeds, on each set that is measured on."""
    if o.only and not any(name.startswith(o.only) for name in VARIANTS):
        raise InputError(f"--only {' '.join(o.only)}: no row begins so; there are {', '.join(map(repr, VARIANTS))}")
    columns, rows = ["LDN"], []
    for folder in o.test_folder or o.base_folder[:1]:
        of = f"V_th {threshold(folder)}, {Path(folder).name}"
        columns += [f"middle, {of}", "spread", f"sequence, {of}", "spread"]
    for name, change in VARIANTS.items():
        found = [trained(o, name, change, seed) for seed in range(o.seeds)]
        if None in found:
            continue
        lines = {name: "LDN"} | ({FIRST_LOOK: "LDN, 1 iteration"} if change == {"recipe": "fused"} else {})
        for title, measured in lines.items():
            cells = []
            for place in range(len(columns) // 4):
                for row in (measured, f"{measured} sequence"):
                    values = [one[place][row]["psnr"] for one in found if row in one[place]]
                    cells += [statistics.mean(values), max(values) - min(values)] if values else [None, None]
            rows.append([title, *cells])
    notes = [
        f"PSNR in dB; {o.steps} steps of {o.bs} crops of {o.roi_size}, {o.seeds} seeds; spread: largest - smallest",
        "rows that earlier calls measured stand beside: what each is of is in values/*.json",
    ]
    return Table("train", "What LDN learns", columns, rows, [*notes, made()])


def trained(o: Options, name: str, change: dict[str, object], seed: int) -> list[dict] | None:
    """Train one LDN and measure it on each set, or read what an earlier call measured; None if it is not asked for."""
    safe = "".join(letter if letter.isalnum() else "_" for letter in name)
    teacher = str(change.get("teacher", RECIPES[str(change["recipe"])]["teacher"]))
    is_filmed, is_published = "refilmed" in (teacher, change.get("base_folder")), change["recipe"] == "published"
    kept, is_asked = Path(o.output, "values", f"{safe}-{seed}.json"), not o.only or name.startswith(o.only)
    if not is_asked and not kept.exists():
        return None
    known = manifest.read(kept) if kept.exists() else {}
    if is_asked and is_filmed and not o.refilmed:
        raise InputError(
            f"--refilmed is missing: {name} is trained on what scripts/resimulate.py makes of --base_folder"
        )
    folder, tests = o.refilmed if is_filmed else o.base_folder[0], list(o.test_folder or o.base_folder[:1])
    folder = folder or known["of"]["data"]  # of a row that is shown alone
    key = {"steps": o.steps, "bs": o.bs, "roi_size": o.roi_size, "seed": seed, "data": folder, **change}
    # Fused pictures, given, taught or filmed again, are others with every version of them.
    version = f"-{LABELS}" if change["recipe"] == "fused" or teacher == "fused" or is_filmed else ""
    key |= {"labels": LABELS} if version else {}
    key |= {"looks": f"{LOOKS} where spikes are few"} if change["recipe"] == "fused" else {}
    key |= {"warm_up": train_deblur.WARM_UP} if change["recipe"] == "rates" else {}
    networks = {"bsn_path": o.bsn_path, "sr_path": o.sr_path} if is_published else {}
    if is_asked and is_published and not all(networks.values()):
        raise InputError(f"--bsn_path and --sr_path are needed: {name} is taught by these networks")
    if is_published:
        hashes = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in networks.values() if path]
        key["networks"] = hashes or known["of"].get("networks")
    rows = known["rows"] if known.get("of") == key else {}
    if all(test in rows for test in tests):
        return [rows[test] for test in tests]
    if not is_asked:
        return None
    differs = [f"-{change[name]}" for name in ("base_folder", "center_weight") if name in change]
    unkept = change.get("reblur") == "random" or change.get("lambda_tea") == 0.0
    labels = "" if unkept else f"{o.output}/labels/{teacher}{''.join(differs)}{version}"
    options = {
        "save_folder": f"{o.output}/runs", "exp_name": f"{safe}-{seed}-{o.steps}{version}", "seed": seed,
        "device": o.device, "workers": 1, **networks,
    }  # fmt: skip
    training = {"bs": o.bs, "roi_size": (o.roi_size,), "tea_loss": "ssim", "evaluate_every": 0}
    training |= {"teacher_cache": labels} | change | {"base_folder": folder}
    if "lr_swings" in change:
        training["lr_swings"] = o.steps / change["lr_swings"]
    epochs = -(-o.steps // -(-len(SpikeDataset(folder, "train", parts=("spikes",))) // o.bs))
    train_deblur.main(train_deblur.Options(**options | training | {"epochs": epochs}))
    weights = f"{o.output}/runs/deblur/{options['exp_name']}/checkpoints/LDN_{epochs:04d}.pth"
    testing = options | {"test_mode": True, "deblur_path": weights}
    for test in tests:
        if test not in rows:
            rows[test] = train_deblur.main(train_deblur.Options(**testing | {"base_folder": test}))
            manifest.write(kept, {"of": key, "rows": rows})
    return [rows[test] for test in tests]


if __name__ == "__main__":
    program(main, Options, __doc__)
