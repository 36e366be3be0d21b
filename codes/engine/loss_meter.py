"""Losses and times of the training steps, on their way to the curves."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from codes.engine import distributed
from codes.engine.journal import Journal


class LossMeter:
    """Losses since the last reading, and the time that the steps took.

    Losses stay on the device until they are read together, because each reading stops the device.
    """

    def __init__(self, journal: Journal, kept: Callable[[], str]):
        """`kept` says which state is on disk, for the error of a loss that is not finite."""
        self.journal, self.kept = journal, kept
        self.waiting: list[tuple[int, list[str]]] = []
        self.terms: list[Tensor] = []
        self.names: list[str] = []
        self.trained = self.waited = 0.0  # seconds, without evaluations
        self.begin()

    def begin(self) -> None:
        """Measure time from here on: what came before was no training."""
        self.begun, self.idle = time.perf_counter(), 0.0

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches and measure how long each is waited for."""
        batches = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.idle += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def add(self, step: int, terms: dict[str, Tensor], samples: list[str], rate: float) -> None:
        """Keep the losses of a step."""
        self.names, self.rate = list(terms), rate
        self.waiting.append((step, samples))
        self.terms.append(torch.stack([term.detach().float() for term in terms.values()]))

    def read(self) -> dict[str, float]:
        """Return the mean of each term since the last reading, over all processes; all have to read.

        Raises: FloatingPointError at the first that is not finite.
        """
        if not self.waiting:
            return {}
        values = torch.stack(self.terms).cpu()
        for (step, samples), line in zip(self.waiting, values.tolist(), strict=True):
            if not all(map(math.isfinite, line)):
                terms = ", ".join(f"{name} {value}" for name, value in zip(self.names, line, strict=True))
                raise FloatingPointError(
                    f"the loss is not finite at step {step} ({terms}; samples {', '.join(samples)}); "
                    f"{self.kept()}: lower --lr, or look at these samples"
                )
        means, step = (
            dict(zip(self.names, distributed.all_reduce_mean(values.mean(0)).tolist(), strict=True)),
            self.waiting[-1][0],
        )
        self.journal.scalars(step, {f"train/{name}": value for name, value in means.items()})
        self.journal.scalars(step, {"train/lr": self.rate})
        seconds = time.perf_counter() - self.begun
        speed = {"speed/seconds a step": seconds / len(self.waiting), "speed/waiting for data": self.idle / seconds}
        self.journal.scalars(step, speed)
        self.trained, self.waited = self.trained + seconds, self.waited + self.idle
        self.begin()
        self.waiting.clear()
        self.terms.clear()
        return means
