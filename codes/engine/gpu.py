"""GPU settings of a training: cuDNN's choice of algorithms, deterministic kernels, the measured memory of a step."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from codes.engine import distributed


def choose_kernels(*, deterministic: bool) -> None:
    """Use kernels whose result is the same bit for bit in every run, or else the fastest ones.

    Has to be called before the first product of matrices on the GPU, where cuBLAS reads its setting.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic


@contextmanager
def fixed_shapes(are_fixed: bool = True) -> Iterator[None]:
    """Let cuDNN time its algorithms at every new shape of a convolution, which pays only where shapes are fixed.

    Deterministic runs never do: which algorithm is the fastest changes from run to run.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = are_fixed and not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def step_memory(
    net: nn.Module,
    losses: Callable[[nn.Module, Any], Iterator[dict[str, Tensor]]],
    packed: Any,
    *,
    device: torch.device,
    precision: str,
) -> int:
    """Return the bytes of a GPU that a training step on a packed batch needs beyond the networks.

    They are measured by a step forward and backward that leaves the weights as they are; Adam's moments are added.
    """
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    with fixed_shapes():
        with distributed.autocast(device, precision):
            terms = next(losses(net, packed.to(device)))
        sum(terms.values()).backward()
    net.zero_grad()
    needed = torch.cuda.max_memory_reserved(device) - before
    del terms
    torch.cuda.empty_cache()
    return needed + 2 * sum(parameter.nbytes for parameter in net.parameters() if parameter.requires_grad)
