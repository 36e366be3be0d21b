"""Time psnr, ssim and ssim_paper of one output, against copying the two pictures that they read.

python scripts/dev/benchmark.py eval
"""

from dataclasses import dataclass
from statistics import median

import torch

from codes.cli import option
from codes.evaluation.metrics import measure
from codes.reporting.machine import copy_rate, spread, timed
from scripts.dev.benchmarks.common import print_table


@dataclass(frozen=True)
class Options:
    size: tuple[int, ...] = option((720, 1280), "height and width of the pictures")
    repeats: int = option(15, "runs; the median is reported")
    device: str = option("cpu", "device")
    json: bool = option(False, "print one JSON object a line")


def main(o: Options) -> None:
    image, truth = (torch.rand(1, 3, *o.size, device=o.device) for _ in range(2))
    seconds = timed(lambda: measure(image, truth), repeats=o.repeats, device=o.device)
    copied = (image.nbytes + truth.nbytes) / (copy_rate(o.device) / 2)
    row = {
        "measured": "psnr, ssim, ssim_paper",
        "pictures/s": 1 / median(seconds),
        "ms": 1e3 * median(seconds),
        "spread": spread(seconds),
        "ms to copy both": 1e3 * copied,
        "of copying": median(seconds) / copied,
    }
    print_table([row], as_json=o.json)
