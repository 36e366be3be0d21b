"""The memory format in which convolutions are fastest on a device."""

import torch
from torch import Tensor


def memory_format(device: torch.device) -> torch.memory_format:
    """Return channels-last on a GPU and on a CPU with AVX-512, contiguous on other CPUs.

    Without AVX-512 a training step in channels-last can take up to 1.85 times as long.
    """
    is_slow = device.type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.contiguous_format if is_slow else torch.channels_last


def concatenate(first: Tensor, *others: Tensor) -> Tensor:
    """Join [B,C,H,W] along the channels in the memory format of the first: torch.cat returns contiguous if they differ.

    Raises: RuntimeError as torch.cat does.
    """
    is_last = first.is_contiguous(memory_format=torch.channels_last)
    kept = torch.channels_last if is_last else torch.contiguous_format
    return torch.cat([x.to(memory_format=kept) for x in (first, *others)], 1)
