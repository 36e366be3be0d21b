"""Several processes under `torchrun`, or just this one."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from codes.errors import InputError


def chosen(device: str) -> str:
    """Return the device that was asked for, or else the GPU where there is one."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def start(device: str = "") -> torch.device:
    """Join the processes that torchrun started, if it did, and return the device of this one ("cuda" takes its own)."""
    device = chosen(device)
    try:
        own = torch.device(device)
        if own.type == "cuda":
            own = _own_gpu(own)  # first of all: else every process would open the first GPU
        torch.empty(0, device=own)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {device}: cannot be used here ({reason}); cpu always can") from None
    if own.type == "cuda":
        torch.cuda.set_device(own)
    else:
        _keep_freed_memory()
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        # What is not on a GPU goes by gloo, which does not wait for it.
        # Labels of a whole data set take hours, and not the same on every process: they may wait for each other.
        backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(days=1))
    return own


def _keep_freed_memory() -> None:
    """Let the C library keep what is freed: else every tensor of a large picture comes from the system, page by page.

    LDN at 720p takes 0.75 of the time, seven instants at once 0.6 of it.
    """
    no_maps, no_trim = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD of glibc's malloc.h
    with suppress(OSError, AttributeError):  # another C library
        for option, value in (no_maps, no_trim):
            ctypes.CDLL("libc.so.6").mallopt(option, value)


def _own_gpu(chosen: torch.device) -> torch.device:
    """Return the GPU of this process: the one that is named, or by its number on this machine."""
    processes, number = (int(os.environ.get(name, least)) for name, least in (("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
    if chosen.index is not None:
        if processes > 1:
            raise InputError(f"--device {chosen}: all {processes} processes would share it; cuda gives each its own")
        return chosen
    gpus = torch.cuda.device_count()
    if 0 < gpus <= number:
        raise InputError(
            f"--device cuda: process {number + 1} of this machine finds {gpus} GPU{'s' * (gpus > 1)}, and each needs "
            f"its own; start at most as many: --nproc_per_node={gpus}"
        )
    return torch.device("cuda", number)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def parallel(net: nn.Module, device: torch.device, *, compiled: bool = False) -> nn.Module:
    """Wrap a network so that its gradients are averaged over all processes; alone, return it as it is.

    compiled: for the shapes that it is given first, and again for each new one.
    """
    if world() > 1:
        net = DistributedDataParallel(net, device_ids=[device.index] if device.type == "cuda" else None)
    return torch.compile(net, dynamic=False) if compiled else net


def check_compiler(device: torch.device) -> None:
    """Raise InputError if torch.compile does not work here; a line compiled now is an hour not waited for."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(64, device=device))
    except Exception as error:  # of the compiler that it did not find, in one of many types
        lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
        reason = next(iter(lines), type(error).__name__)
        needed = "Triton" if device.type == "cuda" else "a C++ compiler (g++, or what the variable CXX names)"
        raise InputError(f"--compile: torch.compile needs {needed} on {device} ({reason}); leave it out") from None


def gather(mine: list[Any]) -> list[Any]:
    """Return the items of all processes, those of rank 0 first."""
    if world() == 1:
        return mine
    everyone: list[list[Any]] = [[] for _ in range(world())]
    with torch.inference_mode(False):  # it writes into tensors of its own, which torch 2.4 refuses there
        dist.all_gather_object(everyone, mine)
    return [item for items in everyone for item in items]


def any_of(mine: bool) -> bool:
    """Say whether it is so for any of the processes; all have to ask."""
    if world() == 1:
        return mine
    found = torch.tensor(int(mine))
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


def wait() -> None:
    """Wait for all processes."""
    if world() > 1:
        dist.barrier()


def leave() -> None:
    """Part from the others when all are done: left to the end of a process, their threads may abort it."""
    if dist.is_initialized():
        wait()
        dist.destroy_process_group()


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Compute in bfloat16 where it is safe, if `precision` is "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute float32 as such on a GPU, whatever a training in another precision has allowed."""
    places = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = False
        yield
    finally:
        for place, allowed in zip(places, before, strict=True):
            place.allow_tf32 = allowed
