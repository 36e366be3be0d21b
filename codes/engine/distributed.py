"""The processes of a run under `torchrun`, or the only one; and the device of each."""

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from codes.errors import InputError, Interrupted

LIMIT = timedelta(minutes=10)  # that a process may be behind another; one that ends is noticed at once
LOST = ("gloo", "Connection closed by peer", "Connection reset by peer", "caused pair closure")  # of gloo's errors


class LostProcess(Interrupted):
    """Another process of this run has ended or hangs."""


def chosen(device: str) -> str:
    """Return the device that was asked for, or else the GPU where there is one."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def no_tf32(options: Any) -> str:
    """Say why the option `precision` has no effect: TF32 on the CPU that `device` chooses."""
    is_on_cpu = options.precision == "tf32" and chosen(options.device) == "cpu"
    return "on a CPU, which has no TF32" if is_on_cpu else ""


def initialize(device: str = "") -> torch.device:
    """Join the processes that torchrun started, if it did, and return the device of this one ("cuda" takes its own).

    Raises: InputError if the device cannot be used, or the other processes do not come.
    """
    device = chosen(device)
    try:
        own = torch.device(device)
        if own.type not in ("cpu", "cuda"):
            raise InputError(f"--device {device}: not supported; cpu, cuda or cuda:NUMBER are")
        if own.type == "cuda":
            own = _own_gpu(own)  # before all else: otherwise every process would open the first GPU
        torch.empty(0, device=own)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {device}: cannot be used here ({reason}); cpu always can") from None
    if own.type == "cuda":
        torch.cuda.set_device(own)
    _keep_freed_memory()
    _share_cores()
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        _join(own)
    return own


def _join(device: torch.device) -> None:
    """Form the group of all processes; tensors that are not on a GPU go by gloo, which does not wait for the GPU."""
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=LIMIT)
        _patient_group()
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the {os.environ['WORLD_SIZE']} processes of this run did not find each other within "
            f"{LIMIT.total_seconds():.0f} seconds ({_reason(error)}): see what the others said, then start all again"
        ) from None


@cache
def _patient_group() -> dist.ProcessGroup:
    """Return a group for waits of hours; a process that ends is noticed at once, by its closed connection."""
    return dist.new_group(backend="gloo", timeout=timedelta(days=1))


def _share_cores() -> None:
    """Give each process its share of the cores: torchrun sets one thread a process unless a number is given."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("OMP_NUM_THREADS") == "1":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def _keep_freed_memory() -> None:
    """Let the C library keep freed memory: otherwise every large tensor is mapped anew, page by page.

    LDN at 720p takes 0.75 of the time, seven target times at once 0.6 of it.
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


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def parallel(net: nn.Module, device: torch.device, *, compiled: bool = False) -> nn.Module:
    """Wrap a network so that its gradients are averaged over all processes; alone, return it as it is.

    compiled: for the shapes that it is given first, and again for each new one.
    """
    if world_size() > 1:
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


def all_gather(mine: list[Any]) -> list[Any]:
    """Return the items of all processes, those of rank 0 first."""
    if world_size() == 1:
        return mine
    everyone: list[list[Any]] = [[] for _ in range(world_size())]
    with _all_are_there():
        dist.all_gather_object(everyone, mine)
    return [item for items in everyone for item in items]


def any_of(mine: bool) -> bool:
    """Say whether it is so for any of the processes; all have to ask."""
    return bool(all_reduce_max(int(mine)))


def all_reduce_max(mine: int) -> int:
    """Return the highest number of all processes; all have to ask."""
    if world_size() == 1:
        return mine
    with _all_are_there():
        found = torch.tensor(mine)
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def all_reduce_mean(mine: Tensor) -> Tensor:
    """Return the mean of a CPU tensor over all processes; all have to ask."""
    if world_size() == 1:
        return mine
    with _all_are_there():
        total = mine.clone()
        dist.all_reduce(total)
        return total / world_size()


def barrier() -> None:
    """Wait for all processes, up to a day: each may read data or compute labels for hours.

    Raises: LostProcess if another process ends.
    """
    if world_size() > 1:
        with _all_are_there():
            dist.barrier(group=_patient_group())


@contextmanager
def _all_are_there() -> Iterator[None]:
    """Within an operation of all processes, raise LostProcess if one of them does not take part.

    Results are tensors of their own, which torch 2.4 does not write in inference mode.
    """
    try:
        with torch.inference_mode(False):
            yield
    except RuntimeError as error:
        raise LostProcess(_lost(error)) from error


def lost_process(error: BaseException) -> str:
    """Say in words that another process of this run has ended or hangs, if `error` means that; else nothing."""
    if isinstance(error, LostProcess):
        return str(error)
    is_lost = isinstance(error, dist.DistError) or any(words in str(error) for words in LOST)
    return _lost(error) if world_size() > 1 and is_lost else ""


def _lost(error: BaseException) -> str:
    return (
        f"another process of this run has ended or hangs ({_reason(error)}): see its message, then start all "
        "processes again"
    )


def _reason(error: BaseException) -> str:
    """Return what an error of PyTorch says, without the place in its source and without advice to its developers."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return re.sub(r"^\[\S*:\d+\]\s*", "", line).partition(". This is typically")[0]


def shut_down() -> None:
    """Leave the group when all are done: at the end of a process its threads may abort it."""
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Compute in bfloat16 where it is safe, if `precision` is "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def allow_tf32(precision: str) -> None:
    """Let a GPU round float32 to TF32 where that is faster, unless the precision is "fp32"."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"


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
