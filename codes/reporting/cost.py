"""What networks and data cost: parameters, and multiply-adds, time and memory for a picture, a step, a data set."""

import ctypes
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from codes.data.batches import Packed
from codes.data.dataset import SpikeDataset
from codes.data.spikes import UPSCALE, Exposure
from codes.distillation.teachers import NetworkTeacher
from codes.engine import distributed
from codes.networks import BSN, EDSR, LDN
from codes.reporting.machine import seconds_of, timed

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "BSN": BSN,
    "SR": EDSR,
    "teacher": lambda: NetworkTeacher(BSN(), EDSR()),
    "LDN": LDN,
}


@torch.no_grad()  # in inference mode torch 2.4 counts no operations
@distributed.without_tf32()
def cost(
    name: str, *, height: int = 720, width: int = 1280, device: str = "cpu", repeats: int = 3
) -> dict[str, float | None]:
    """Measure one of `NETWORKS` on a picture of height x width, in float32.

    Returns parameters, multiply_adds, milliseconds (median of `repeats`, after one to warm up) and memory, in bytes
    beyond the network and its input: the peak on a GPU, else how far the process grew, None where that cannot be told.
    """
    with FlopCounterMode(display=False) as counter:
        _restore(NETWORKS[name]().to("meta"), *_inputs(height, width, "meta"))
    net, inputs = NETWORKS[name]().to(device).eval(), _inputs(height, width, device)
    before = peak(device, reset=True)
    _restore(net, *inputs)
    after = peak(device)
    return {
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "multiply_adds": counter.get_total_flops() / 2,
        "milliseconds": 1e3 * median(seconds_of(partial(_restore, net, *inputs), device) for _ in range(repeats)),
        "memory": None if before is None else after - before,
    }


def step_cost(
    name: str, *, side: int, batch: int, precision: str = "fp32", device: str = "cpu", repeats: int = 3
) -> dict[str, float | None]:
    """Measure a training step of BSN, SR or LDN on a batch of crops of side x side spike pixels; LDN at five instants.

    Returns milliseconds and memory as `cost` does.
    """
    place = distributed.start(device)
    net = NETWORKS[name]().to(place, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    light = torch.rand(batch, 1, side, side, device=place)
    picture, windows = light.repeat(1, 3, UPSCALE, UPSCALE), light.expand(-1, 21, -1, -1).repeat_interleave(5, 0)
    inputs = (picture, windows) if name == "LDN" else (light,)

    def step() -> None:
        with distributed.autocast(place, precision):
            output = net(*inputs)
        output.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    before = peak(device, reset=True)
    with distributed.without_tf32() if precision == "fp32" else nullcontext():
        seconds = timed(step, repeats=repeats, device=place)
    return {"milliseconds": 1e3 * median(seconds), "memory": None if before is None else peak(device) - before}


def reading_cost(folder: str | Path, cache: str, *, crop: int) -> dict[str, float | None]:
    """Measure reading each training sample of a data set once, spikes and blurry pictures, in this process.

    Returns memory as `cost` does, and kept: the bytes that `--cache ram` says it takes.
    """
    before = peak("cpu", reset=True)
    samples = SpikeDataset(folder, "train", parts=("spikes", "blur"), crop=(crop, crop))
    if cache == "ram":
        samples.keep()
    for index in range(len(samples)):
        Packed.collate([samples[index]])
    return {"memory": None if before is None else peak("cpu") - before, "kept": samples.bytes()}


def _inputs(height: int, width: int, device: str) -> tuple[Tensor, Tensor]:
    spikes = torch.zeros(1, Exposure().total, height // UPSCALE, width // UPSCALE, device=device)
    return torch.zeros(1, 3, height, width, device=device), spikes


def _restore(net: nn.Module, blur: Tensor, spikes: Tensor) -> Tensor:
    if isinstance(net, NetworkTeacher):
        return net(blur, spikes, [Exposure().center])
    if isinstance(net, LDN):
        return net(blur, spikes[:, : net.spike_enc[0].in_channels])
    return net(spikes[:, :1])


def peak(device: str, *, reset: bool = False) -> int | None:
    """Return the most memory in use since the last reset; just reset, what is in use."""
    if device.startswith("cuda"):
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    try:
        if reset:
            ctypes.CDLL(None).malloc_trim(0)  # what was freed before would be used again, unseen
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, AttributeError, StopIteration):
        return None  # not Linux, or without the C library of GNU
