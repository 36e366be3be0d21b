"""Speed of this machine, for benchmarks: timing of calls, measured rates of matrix products and of copies."""

import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from statistics import median, quantiles
from typing import TypeVar

import torch

WARM_UP = 2  # calls
SMALLEST, SLOW = 256, 0.02  # side of the smallest product, and seconds; the largest has 512 times as many operations
Key = TypeVar("Key", bound=Hashable)


def seconds_of(call: Callable[[], object], device: str | torch.device = "cpu") -> float:
    """Return the seconds that a call takes; on a GPU until all kernels that it launched have ended."""
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if cuda:
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def timed(call: Callable[[], object], *, repeats: int = 7, device: str | torch.device = "cpu") -> list[float]:
    """Return the seconds that each of `repeats` calls takes, after WARM_UP calls."""
    return [seconds_of(call, device) for _ in range(WARM_UP + repeats)][WARM_UP:]


def seconds_in_turn(
    calls: Mapping[Key, Callable[[], object]], *, repeats: int, device: str | torch.device = "cpu"
) -> dict[Key, list[float]]:
    """Time several calls in turn, so that all meet the same load of the machine; the first round warms up.

    Returns the seconds of each call in each of `repeats` rounds.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for run in range(1 + repeats):
        for key, call in calls.items():
            found = seconds_of(call, device)
            if run:
                seconds[key].append(found)
    return seconds


def spread(values: list[float]) -> float:
    """Return the interquartile range relative to the median."""
    if len(values) < 2:
        return 0.0
    first, _, last = quantiles(values, n=4)
    return (last - first) / median(values)


def matmul_rate(device: str | torch.device, precision: str = "fp32") -> float:
    """Return the floating-point operations per second of the fastest of several products of square matrices.

    They are large, except on a processor that is so slow in this precision that they would take minutes.
    """
    cuda = torch.device(device).type == "cuda"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rates = []
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, precision != "fp32"
    for side in (4096, 8192) if cuda else (256, 1024, 2048):
        one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        seconds = timed(partial(torch.matmul, one, other), device=device)
        rates += [2 * side**3 / each for each in seconds]
        if side == SMALLEST and min(seconds) > SLOW:
            break  # a processor without bfloat16: a product of the largest side would take minutes
    torch.backends.cuda.matmul.allow_tf32 = before
    return max(rates)


def copy_rate(device: str | torch.device) -> float:
    """Return the bytes per second, read and written, of the fastest of several copies of 256 MB."""
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    return max(2 * source.nbytes / seconds for seconds in timed(lambda: target.copy_(source), device=device))
