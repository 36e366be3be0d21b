"""Time psnr, ssim and ssim_paper of one output as in evaluation, alternating with scikit-image and with reading.

python scripts/dev/benchmark.py metrics
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from codes.cli import option
from codes.data.batches import Packed
from codes.data.dataset import SpikeDataset
from codes.errors import InputError
from codes.evaluation.metrics import measure
from codes.reporting.machine import seconds_in_turn
from scripts.dev.benchmarks.common import print_table, write_sample


@dataclass(frozen=True)
class Options:
    base_folder: str = option("", "data set whose first test sample is read [a synthetic sample of --size]")
    size: tuple[int, ...] = option((720, 1280), "height and width of the synthetic sample")
    repeats: int = option(30, "runs of each, in turn; the median is reported")
    threads: int = option(1, "threads")
    json: bool = option(False, "print one JSON object a line")


def main(o: Options) -> None:
    if o.base_folder and o.size != Options.size:
        raise InputError("--size is for the synthetic sample; leave it out with --base_folder")
    torch.set_num_threads(o.threads)
    cv2.setNumThreads(o.threads)
    with tempfile.TemporaryDirectory() as place:
        if not o.base_folder:
            write_sample(Path(place), *o.size)
        samples = SpikeDataset(o.base_folder or place, "test")
        batch = Packed.collate([samples[0]]).to(torch.device("cpu"))
        images = [x[0].permute(1, 2, 0).contiguous().numpy() for x in (batch.blur, batch.sharp)]
        seconds = seconds_in_turn(
            {
                "reading": lambda: samples[0],
                "metrics": lambda: measure(batch.blur, batch.sharp),
                "scikit-image": lambda: by_scikit_image(*images),
            },
            repeats=o.repeats,
        )
    print("{}x{}, {} thread(s), medians of {}".format(*samples.shape(0), o.threads, o.repeats), file=sys.stderr)
    rows = [
        {"measured": name, "ms": 1e3 * median(times), "fastest, ms": 1e3 * min(times)}
        for name, times in seconds.items()
    ]
    print_table([row | {"of reading": row["ms"] / rows[0]["ms"]} for row in rows], as_json=o.json)


def by_scikit_image(image: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Compute psnr, ssim and ssim_paper of pictures [H,W,3] float32 in [0,1]."""
    return (
        peak_signal_noise_ratio(truth, image, data_range=1),
        structural_similarity(image, truth, channel_axis=2, data_range=1),
        structural_similarity(2 * image - 1, 2 * truth - 1, channel_axis=2, data_range=2),
    )
