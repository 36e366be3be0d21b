"""Time reading a training sample of each stage, alternating with cv2.imread of its picture; files are in memory.

python scripts/dev/benchmark.py load
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import torch

from codes.cli import option
from codes.data.batches import Packed
from codes.data.cache import read_into_memory
from codes.data.dataset import SpikeDataset
from codes.data.spikes import Exposure
from codes.engine import distributed
from codes.errors import InputError
from codes.reporting.machine import seconds_of, spread
from scripts.dev.benchmarks.common import print_table, write_sample

WARM_UP = 2  # epochs
# Fields that each stage reads, and the spike frames.
STAGES = {
    "BSN": (("spikes",), Exposure(margin=4)),
    "SR": (("spikes", "blur"), Exposure(margin=0)),
    "LDN": (("spikes", "blur"), Exposure()),
}


@dataclass(frozen=True)
class Options:
    base_folder: str = option("", "data set whose training samples are read [a synthetic one of --size]")
    size: tuple[int, ...] = option((720, 1280), "height and width of the synthetic pictures")
    samples: int = option(8, "number of samples")
    roi_size: int = option(512, "side of the crops")
    repeats: int = option(15, "epochs; the median is reported")
    device: str = option("cpu", "device of --cache device")
    json: bool = option(False, "print one JSON object a line")


def main(o: Options) -> None:
    if o.base_folder and o.size != Options.size:
        raise InputError("--size is for synthetic pictures; leave it out with --base_folder")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    device = distributed.initialize(o.device)
    with tempfile.TemporaryDirectory() as place:
        for sample in range(0 if o.base_folder else o.samples):
            write_sample(Path(place), *o.size, split="train", name=f"{sample:06d}")
        times, (height, width) = time_reading(o, o.base_folder or place, device)
    print(f"samples of {height}x{width}, crops of {o.roi_size}, one thread", file=sys.stderr)
    rows = [{"reading": name, "ms": 1e3 * median(found), "spread": spread(found)} for name, found in times.items()]
    print_table([row | {"of cv2.imread": row["ms"] / rows[0]["ms"]} for row in rows], as_json=o.json)


def time_reading(o: Options, folder: str, device: torch.device) -> tuple[dict[str, list[float]], tuple[int, int]]:
    """Return the seconds of every read of a sample, by stage and cache, and the size of a picture."""
    calls: dict[str, Callable[[tuple[int, int]], object]] = {}
    for stage, (fields, exposure) in STAGES.items():
        for cache in ("none", "ram") if device.type == "cpu" else ("none", "ram", "device"):
            crop = (o.roi_size, o.roi_size)
            samples = SpikeDataset(folder, "train", fields=fields, exposure=exposure, crop=crop)
            if len(samples) < o.samples:
                raise InputError(f"--samples {o.samples}: {folder} has {len(samples)}")
            samples.names, samples.sizes = samples.names[: o.samples], samples.sizes[: o.samples]
            if cache != "none":
                read_into_memory(samples, device if cache == "device" else None)
            calls[f"{stage}, --cache {cache}"] = lambda key, samples=samples: Packed.collate([samples[key]])
    pictures = [str(samples.split.picture("blur", name)) for name in samples.names]
    calls = {"cv2.imread": lambda key: cv2.imread(pictures[key[1]])} | calls
    times: dict[str, list[float]] = {name: [] for name in calls}
    for epoch in range(-WARM_UP, o.repeats):
        for index in range(len(pictures)):
            for name, call in calls.items():
                seconds = seconds_of(partial(call, (abs(epoch), index)), device)
                if epoch >= 0:
                    times[name].append(seconds)
    return times, samples.sizes[0]
