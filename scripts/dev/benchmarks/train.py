"""Train each stage for some steps, and compare a step with plain PyTorch and with matrix products.

    python scripts/make_demo.py --output data/large --size 512
    python scripts/dev/benchmark.py train --base_folder data/large --roi_size 256 512

First table: steps of the training scripts on real data. `share` is the part of the rate of matrix products that the
network reaches; the hours are those of the published length, closest with --roi_size 512 --bs 4 --tea_loss lpips.
Second table: a step of each network as the stages train it, against a plain network: contiguous memory format,
PyTorch's default Adam, no autocast, no compilation. Exit code 1 if a step of ours is slower.
"""

import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from statistics import mean, median

import torch

from codes.cli import option, parse
from codes.data.dataset import SpikeDataset
from codes.engine import distributed
from codes.errors import InputError
from codes.networks import BSN, EDSR
from codes.reporting.cost import step_flops, training_step
from codes.reporting.machine import matmul_rate, seconds_in_turn, spread
from codes.reporting.run_results import Curves, read_curves, read_options
from scripts.dev.benchmarks.common import Row, print_table

STAGES = ("BSN", "SR", "LDN", "LDN live", "LDN alone")  # LDN: cached labels; alone: without a teacher
FOLDERS = {"BSN": "bsn", "SR": "sr"}  # of the runs; else deblur
# Steps of the published trainings: epochs times batches of 4 crops of 512; BSN takes five steps a batch.
PUBLISHED_STEPS = {"BSN": 1001 * 420 * 5} | dict.fromkeys(STAGES[1:], 101 * 420)
NOISE = 0.05  # of the ratio of two step times


@dataclass(frozen=True)
class Options:
    base_folder: str = option("data/demo", "data set to train on; its pictures must hold the crops")
    stages: tuple[str, ...] = option(STAGES, "stages to train", choices=STAGES)
    roi_size: tuple[int, ...] = option((256,), "sides of the crops, measured one after the other")
    bs: int = option(1, "batch size")
    steps: int = option(60, "training steps of each stage, at least 20")
    repeats: int = option(5, "steps of the comparison with plain PyTorch; the median is reported")
    tea_loss: str = option("ssim", "loss of LDN; published: lpips, which may download VGG", choices=("lpips", "ssim"))
    precision: str = option("auto", "as in the stages")
    compile: bool = option(False, "as in the stages")
    cache: str = option("none", "as in the stages")
    workers: int = option(2, "as in the stages")
    device: str = option("", "as in the stages")
    json: bool = option(False, "print one JSON object a line")


def main(o: Options) -> None:
    check(o)
    device, ceilings = distributed.chosen(o.device), {}
    rows: list[Row] = []
    comparisons: list[Row] = []
    for side in o.roi_size:
        for stage in o.stages:
            steps, waiting, precision = train(o, stage, side, device)
            if precision not in ceilings:
                ceilings[precision] = matmul_rate(device, precision)
            rate = step_flops(network_of(stage), side=side, batch=o.bs) / median(steps)
            rows.append(
                {
                    "stage": stage,
                    "crop": side,
                    "teacher loss": o.tea_loss if stage in ("LDN", "LDN live") else "none",
                    "precision": precision,
                    "ms a step": 1e3 * median(steps),
                    "spread": spread(steps),
                    "GFLOP/s": rate / 1e9,
                    "matrix product, GFLOP/s": ceilings[precision] / 1e9,
                    "share": rate / ceilings[precision],
                    "waiting for data": mean(waiting),
                    "hours of published length": published_hours(stage, rate),
                }
            )
        for network in dict.fromkeys(map(network_of, o.stages)):
            comparisons.append(compare_with_plain(o, network, side, device, precision))
    if any(row["teacher loss"] == "ssim" for row in rows):
        print("hours of LDN are with SSIM, not with the published loss (--tea_loss lpips)", file=sys.stderr)
    print_table(rows, as_json=o.json)
    print_table(comparisons, as_json=o.json)
    refuse_slower(comparisons)


def check(o: Options) -> None:
    """Raise InputError for crops that the pictures do not hold: they would be cut smaller than what is reported."""
    height, width = min(SpikeDataset(o.base_folder, "train", fields=("spikes",)).sizes, key=min)
    for side in o.roi_size:
        if not 0 < side <= min(height, width):
            raise InputError(
                f"--roi_size {side}: {o.base_folder} has pictures of {height}x{width}, crops of 4 to "
                f"{min(height, width)} fit. Larger pictures: python scripts/make_demo.py --output data/large --size "
                f"{max(512, -(-side // 16) * 16)}, then --base_folder data/large"
            )
    if o.tea_loss != Options.tea_loss and not {"LDN", "LDN live"} & set(o.stages):
        raise InputError(f"--tea_loss {o.tea_loss}: no stage with a teacher is among --stages {' '.join(o.stages)}")
    if o.workers != Options.workers and o.cache != "none":
        raise InputError(f"--workers {o.workers}: with --cache {o.cache} no process reads data; leave it out")
    if o.steps < 20:
        raise InputError(f"--steps {o.steps}: at least 20; speed is recorded every 10 steps, the first 10 are warm-up")


def network_of(stage: str) -> str:
    return stage.split()[0]


def published_hours(stage: str, rate: float) -> float:
    """Return the hours of the published training at `rate` operations a second."""
    return PUBLISHED_STEPS[stage] * step_flops(network_of(stage), side=512, batch=4) / rate / 3600


def train(o: Options, stage: str, side: int, device: str) -> tuple[list[float], list[float], str]:
    """Train a stage; return its seconds a step, its shares of waiting for data, and its precision."""
    with tempfile.TemporaryDirectory() as place:
        torch.save(BSN().state_dict(), f"{place}/bsn.pth")
        torch.save(EDSR().state_dict(), f"{place}/sr.pth")
        script = import_module({"BSN": "train_bsn", "SR": "train_sr"}.get(stage, "train_deblur"))
        arguments = ["--base_folder", o.base_folder, "--save_folder", place, "--exp_name", "benchmark"]
        arguments += ["--roi_size", str(side), "--bs", str(o.bs), "--steps", str(o.steps), "--epochs", str(10**6)]
        arguments += ["--evaluate_every", "0", "--device", device, "--precision", o.precision]
        arguments += ["--cache", o.cache, "--workers", str(o.workers), *["--compile"] * o.compile]
        if network_of(stage) == "LDN":
            arguments += ["--bsn_path", f"{place}/bsn.pth", "--sr_path", f"{place}/sr.pth", "--tea_loss", o.tea_loss]
        arguments += {"LDN": ["--teacher_cache", "ram"], "LDN alone": ["--lambda_tea", "0"]}.get(stage, [])
        script.main(parse(script.Options, "", arguments))
        run = f"{place}/{FOLDERS.get(stage, 'deblur')}/benchmark"
        curves = read_curves(run)
        return recorded(curves, "seconds"), recorded(curves, "waiting"), read_options(run)["options"]["precision"]


def recorded(curves: Curves, word: str) -> list[float]:
    """Return the values of the curve speed/WORD... without the first, which contains the warm-up."""
    name = next(name for name in curves if name.startswith(f"speed/{word}"))
    return [value for _, value in curves[name][1:]]


def compare_with_plain(o: Options, network: str, side: int, device: str, precision: str) -> Row:
    """Time a step of ours and of plain PyTorch, in turn."""
    calls = {
        "ours": training_step(network, side=side, batch=o.bs, device=device, precision=precision, compiled=o.compile),
        "plain": training_step(network, side=side, batch=o.bs, device=device, plain=True),
    }
    seconds = seconds_in_turn(calls, repeats=o.repeats, device=device)
    ratios = [plain / ours for ours, plain in zip(seconds["ours"], seconds["plain"], strict=True)]
    return {
        "network": network,
        "crop": side,
        "precision": precision,
        "ours, ms": 1e3 * median(seconds["ours"]),
        "plain, ms": 1e3 * median(seconds["plain"]),
        "speed-up": median(ratios),
        "spread": spread(ratios),
    }


def refuse_slower(comparisons: list[Row]) -> None:
    """End the program with code 1 if a step of ours is slower than a plain one by more than NOISE."""
    slower = [row for row in comparisons if row["speed-up"] < 1 - NOISE]
    if slower:
        listed = ", ".join(f"{row['network']} at crops of {row['crop']}: {row['speed-up']:.2f}" for row in slower)
        sys.exit(f"failed: steps slower than those of plain contiguous networks ({listed} of their speed)")
