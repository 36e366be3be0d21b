"""Cost of networks and data: parameters, operations, time and memory of a picture, of a training step, of reading."""

import ctypes
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils.flop_counter import FlopCounterMode

from codes.data.batches import Packed
from codes.data.cache import memory_needed, read_into_memory
from codes.data.dataset import SpikeDataset
from codes.data.spikes import UPSCALE, Exposure
from codes.distillation.teachers import NetworkTeacher
from codes.engine import distributed
from codes.memory_format import memory_format
from codes.networks import BSN, EDSR, LDN
from codes.reporting.machine import seconds_of, timed

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "BSN": BSN,
    "SR": EDSR,
    "teacher": lambda: NetworkTeacher(BSN(), EDSR()),
    "LDN": LDN,
}
WINDOW, TIMES = 21, 5  # spike frames that LDN is given, target times of a training sample


@torch.no_grad()  # in inference mode torch 2.4 counts no operations
@distributed.without_tf32()
def cost(
    name: str, *, height: int = 720, width: int = 1280, device: str = "cpu", repeats: int = 3
) -> dict[str, float | None]:
    """Measure one of `NETWORKS` on a picture of height x width, in float32.

    Returns parameters, multiply_adds, milliseconds (median of `repeats`, after one warm-up call) and memory in bytes
    beyond the network and its input: the peak on a GPU, the growth of the process on a CPU, None if it cannot be read.
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


def training_step(
    name: str,
    *,
    side: int,
    batch: int,
    device: str,
    precision: str = "fp32",
    plain: bool = False,
    compiled: bool = False,
) -> Callable[[], None]:
    """Return an optimiser step of BSN, SR or LDN on random crops of side x side picture pixels.

    The network is set up as the stages do it. plain: as PyTorch does it by default, that is in the contiguous memory
    format, with the default Adam and without autocast; on a GPU its convolutions may use TF32.
    """
    place = distributed.initialize(device)
    net = NETWORKS[name]().to(place)
    if not plain:
        net = net.to(memory_format=memory_format(place))
    model = distributed.parallel(net, place, compiled=compiled)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=None if plain else True)
    inputs = _training_inputs(name, side, batch, device)

    def step() -> None:
        with distributed.without_tf32() if precision == "fp32" and not plain else nullcontext():
            with distributed.autocast(place, precision):
                output = model(*inputs)
            output.float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    return step


def step_flops(name: str, *, side: int, batch: int) -> int:
    """Count the operations of BSN, SR or LDN, forward and backward, in a step on crops of side x side pixels."""
    net, inputs = NETWORKS[name]().to("meta"), _training_inputs(name, side, batch, "meta")
    with FlopCounterMode(display=False) as counter:
        net(*inputs).sum().backward()
    return counter.get_total_flops()


def predicted_step_memory(name: str, *, side: int, batch: int) -> int:
    """Predict the memory of a step on crops of side x side pixels in float32, in bytes.

    It is that of weights, gradients and the two moments of Adam, of the inputs, and of all tensors that the forward
    pass keeps for the backward pass.
    """
    net, inputs = NETWORKS[name]().to("meta"), _training_inputs(name, side, batch, "meta")
    kept: dict[int, UntypedStorage] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage()._cdata] = x.untyped_storage()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        net(*inputs).square().mean()
    weights = {parameter.untyped_storage()._cdata: parameter.nbytes for parameter in net.parameters()}
    given = {x.untyped_storage()._cdata: x.untyped_storage().nbytes() for x in inputs}
    activations = sum(storage.nbytes() for key, storage in kept.items() if key not in weights | given)
    return 4 * sum(weights.values()) + sum(given.values()) + activations


def step_cost(
    name: str, *, side: int, batch: int, precision: str = "fp32", device: str = "cpu", repeats: int = 3
) -> dict[str, float | None]:
    """Measure `training_step` on crops of side x side picture pixels.

    Returns milliseconds and memory as `cost` does; the memory contains the network.
    """
    before = peak(device, reset=True)
    step = training_step(name, side=side, batch=batch, device=device, precision=precision)
    seconds = timed(step, repeats=repeats, device=device)
    return {"milliseconds": 1e3 * median(seconds), "memory": None if before is None else peak(device) - before}


def reading_cost(folder: str | Path, cache: str, *, crop: int) -> dict[str, float | None]:
    """Measure reading each training sample of a data set once, spikes and blurry pictures, in this process.

    Returns memory as `cost` does, and kept: the bytes that `--cache ram` reports.
    """
    before = peak("cpu", reset=True)
    samples = SpikeDataset(folder, "train", fields=("spikes", "blur"), crop=(crop, crop))
    if cache == "ram":
        read_into_memory(samples)
    for index in range(len(samples)):
        Packed.collate([samples[index]])
    return {"memory": None if before is None else peak("cpu") - before, "kept": memory_needed(samples)}


def peak(device: str, *, reset: bool = False) -> int | None:
    """Return the largest memory in use since the last reset, in bytes; with `reset`, what is in use now.

    On a CPU it is the resident memory of the process; None where the system does not report it.
    """
    if device.startswith("cuda"):
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    try:
        if reset:
            ctypes.CDLL(None).malloc_trim(0)  # freed memory would be reused and not counted
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, AttributeError, StopIteration):
        return None  # not Linux, or not the GNU C library


def _inputs(height: int, width: int, device: str) -> tuple[Tensor, Tensor]:
    spikes = torch.zeros(1, Exposure().total, height // UPSCALE, width // UPSCALE, device=device)
    return torch.zeros(1, 3, height, width, device=device), spikes


def _training_inputs(name: str, side: int, batch: int, device: str) -> tuple[Tensor, ...]:
    """Return random inputs of BSN, SR or LDN for crops of side x side picture pixels."""
    intensity = torch.rand(batch, 1, side // UPSCALE, side // UPSCALE, device=device)
    if name != "LDN":
        return (intensity,)
    windows = intensity.expand(-1, WINDOW, -1, -1).repeat_interleave(TIMES, 0)
    return intensity.repeat(1, 3, UPSCALE, UPSCALE), windows


def _restore(net: nn.Module, blur: Tensor, spikes: Tensor) -> Tensor:
    if isinstance(net, NetworkTeacher):
        return net(blur, spikes, [Exposure().center])
    if isinstance(net, LDN):
        return net(blur, spikes[:, : net.spike_enc[0].in_channels])
    return net(spikes[:, :1])
