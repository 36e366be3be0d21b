"""Several processes under `torchrun`, or just this one."""

import os
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from codes.errors import InputError


def start(device: str) -> torch.device:
    """Join the processes that torchrun started, if it did, and return the device of this one ("cuda" takes its own)."""
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {device}: cannot be used here ({reason}); cpu always can") from None
    if chosen.type == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return chosen


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def parallel(net: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a network so that its gradients are averaged over all processes; alone, return it as it is."""
    if world() == 1:
        return net
    return DistributedDataParallel(net, device_ids=[device.index] if device.type == "cuda" else None)


def gather(mine: list[Any]) -> list[Any]:
    """Return the items of all processes, those of rank 0 first."""
    if world() == 1:
        return mine
    everyone: list[list[Any]] = [[] for _ in range(world())]
    dist.all_gather_object(everyone, mine)
    return [item for items in everyone for item in items]


def wait() -> None:
    """Wait for all processes."""
    if world() > 1:
        dist.barrier()


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Compute in bfloat16 where it is safe, if `precision` is "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
