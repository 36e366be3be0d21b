"""Keep a data set in memory, and refuse what does not fit there."""

import os
from pathlib import Path

import numpy as np
import torch

from codes.data.dataset import SpikeDataset
from codes.errors import InputError


def read_into_memory(samples: SpikeDataset, device: torch.device | None = None, *, reserved: int = 0) -> None:
    """Read all samples whole, once, into memory or onto a GPU; from now on crops are cut there.

    reserved: bytes that have to stay free there for a training step.
    Raises: InputError saying what is needed and what there is, if they do not fit.
    """
    place = device if device and device.type == "cuda" else None
    refuse_what_does_not_fit(memory_needed(samples), f"--cache {'device' if place else 'ram'}", place, reserved)
    for index in range(len(samples)):
        whole = {field: np.array(array, order="C") for field, array in samples.whole(index).items()}
        if place:
            whole = {field: torch.from_numpy(array).to(place) for field, array in whole.items()}
        samples.cached.append(whole)


def memory_needed(samples: SpikeDataset) -> int:
    """Return the bytes that `read_into_memory` takes."""
    total, fields = 0, samples.split.fields
    for index, (height, width) in enumerate(samples.sizes):
        h, w = samples.spike_size(index)
        total += samples.exposure.total * h * -(-w // 8)
        total += 3 * height * width * len({"blur", "sharp"} & set(fields))
        if "sequence" in fields:
            total += 3 * height * width * len(samples.split.sequence(samples.names[index]))
        if "ratios" in fields:
            total += samples.label(samples.names[index]).nbytes
    return total


def refuse_what_does_not_fit(size: int, flag: str, device: torch.device | None = None, reserved: int = 0) -> None:
    """Raise InputError if `size` bytes, beside those reserved for a training step, would fill this machine or a GPU.

    Every process of the run keeps its own. A tenth is left to what else the run needs.
    """
    free = _free_bytes(device)
    if size + reserved > 0.9 * free:
        step = f" and {reserved / 1e9:.2f} GB for a step" if reserved else ""
        raise InputError(
            f"{flag}: {size / 1e9:.2f} GB{step} are needed a process, {free / 1e9:.2f} GB are free for each on "
            f"{device or 'this machine'}; leave it out"
        )


def _free_bytes(device: torch.device | None) -> int:
    """Return the free memory of a GPU or of this machine, divided by the processes of this run that share it."""
    if device:
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return free // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
