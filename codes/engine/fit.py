"""The training loop: each dict of terms that `losses(net, batch)` yields is one optimiser step.

A run is stopped at any time and goes on where its last state was written, bit for bit: the order of samples, their
crops and the learning rate are functions of the progress, so weights, optimiser and progress are all there is to keep.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from codes.engine import checkpoint, distributed, signals
from codes.engine.evaluate import Compare, evaluate
from codes.engine.journal import STATE, Journal, Rows
from codes.errors import Interrupted

Losses = Callable[[nn.Module, Any], Iterator[dict[str, Tensor]]]
Schedule = Callable[[float], float]
NOT_STARTED = {"step": 0, "batch": 0, "taken": 0}


def cosine(lr: float, *, cycles: float = 0.0, warm_up: float = 0.0) -> Schedule:
    """Let the learning rate fall from `lr` to 0 along half a cosine over the whole run, or swing to 0 and back.

    `warm_up`: share of the run over which a factor rises evenly from 0 to 1.
    """
    turns = cycles or 0.5

    def rate(progress: float) -> float:
        risen = min(progress / warm_up, 1) if warm_up else 1
        return lr * risen * (1 + math.cos(2 * math.pi * turns * progress)) / 2

    return rate


def constant(lr: float) -> Schedule:
    """Keep the learning rate."""
    return lambda progress: lr


def fit(
    net: nn.Module,
    losses: Losses,
    compare: Compare,
    *,
    train: DataLoader,
    test: DataLoader | None,
    lr: Schedule,
    journal: Journal,
    name: str,
    device: torch.device,
    precision: str = "fp32",
    compiled: bool = False,
    recipe: dict[str, str] | None = None,
    steps: int | None = None,
    evaluate_every: int = 10,
    save_every: float = 10.0,
    read_every: int = 10,
) -> Rows:
    """Train `net` with Adam over the batches of `train` (its batch sampler is a `Batches`) and return the last table.

    `lr` gives the rate at a progress in [0,1] through the whole run. After every `evaluate_every` epochs (0: never) and
    at the end the table is made, in fp32 for any `precision` of training, and the weights are kept as
    checkpoints/NAME_EPOCH.pth (NAME_stepSTEP.pth inside an epoch), with the `recipe` that they are for. `steps` stops
    early, at so many optimiser steps; the same call without it goes on. Losses stay on the device and are read every
    `read_every` steps. The state is written every `save_every` minutes; where that fails, it is tried again the next
    time.
    Raises: FloatingPointError naming step, terms and samples if a loss is not finite; the last state stays.
    Interrupted after SIGTERM or SIGINT, when the step is finished and the state written; OSError if the last could not
    be written.
    """
    batches = train.batch_sampler
    folder = journal.folder / "checkpoints"
    optimizer = torch.optim.Adam(net.parameters(), lr=lr(0.0), fused=device.type in ("cpu", "cuda"))
    progress = checkpoint.load_state(folder / "state.pth", journal.log, net=net, optimizer=optimizer) or NOT_STARTED
    step, done, taken = progress["step"], progress["batch"], progress["taken"]  # taken: steps of the next batch
    batches.start = done
    journal.resume(step)
    model = distributed.parallel(net, device, compiled=compiled)
    reader = _Reader(journal)
    rows: Rows = {}

    def save() -> None:
        reader.read()
        if not all(bool(parameter.isfinite().all()) for parameter in net.parameters()):
            raise FloatingPointError(
                f"the weights are not finite after step {step}; the last state is kept: lower --lr"
            )
        if journal.writes:
            journal.flush()  # what is drawn is never behind what is saved
            progress = {"step": step, "batch": done, "taken": taken}
            with journal.writing(STATE):
                checkpoint.save_state(folder / "state.pth", progress, recipe, net=net, optimizer=optimizer)

    def weights() -> Path:
        epoch, rest = divmod(done, batches.per_epoch)
        return folder / f"{name}_{f'step{step:07d}' if rest or taken else f'{epoch:04d}'}.pth"

    def is_due() -> bool:
        epoch, rest = divmod(done, batches.per_epoch)
        return bool(done and evaluate_every) and not rest and not taken and epoch % evaluate_every == 0

    def milestone() -> Rows:
        save()
        if journal.writes:
            with journal.writing("the weights"):
                checkpoint.save_weights(weights(), net, recipe)
        try:
            # In fp32: its figures do not depend on what a machine trains in.
            with distributed.without_tf32():
                return evaluate(net, compare, test, journal, device=device, step=step, stop=stop) if test else {}
        except Interrupted:
            journal.complain()
            raise

    if step:
        journal.log(f"resumed at epoch {done // batches.per_epoch}, step {step}")
    saved, measured, asked, resumed_at = time.monotonic(), -1, False, step

    def is_made() -> bool:
        """Say whether the weights and the table of this step are there."""
        return weights().is_file() and (test is None or journal.has_table(step))

    with (
        signals.noted() as stop,
        tqdm(initial=step, total=steps, desc=name, unit="step", disable=distributed.rank() > 0) as bar,
    ):
        # A process that was killed after it wrote the state, and before all that belongs to it, left this to do.
        if distributed.any_of(is_due() and not is_made()):
            rows, measured = milestone(), step
        for packed in reader.waits(train if steps is None or step < steps else ()):
            batch = packed.to(device)
            rate = lr(done / batches.total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            first = step - taken
            for terms in _after(taken, losses(model, batch), lambda: distributed.autocast(device, precision)):
                if step == steps:
                    break
                sum(terms.values()).backward()
                optimizer.step()
                optimizer.zero_grad()
                step, taken = step + 1, taken + 1
                reader.add(step, terms, batch.names, rate)
                if step % read_every == 0:
                    bar.set_postfix(reader.read(), refresh=False)
                bar.update()
                if asked := distributed.any_of(bool(stop())):
                    break
            else:
                done, taken = done + 1, 0
            if bar.total is None:
                bar.total = (step - first) * batches.total
            if step == steps or asked:
                break
            if is_due():
                rows, measured, saved = milestone(), step, time.monotonic()
                reader.begin()
            elif time.monotonic() - saved > 60 * save_every:
                save()
                saved = time.monotonic()
                reader.begin()
        if asked:
            save()
            journal.complain()
            raise Interrupted(f"at step {step}, the state is written; the same command goes on")
        if measured != step:
            # A run that was finished before, asked for again, has it all.
            made = step == resumed_at and not distributed.any_of(not is_made())
            rows = journal.kept_table(step) if made else milestone()
    journal.complain()
    state = "complete" if done == batches.total else "stopped; the same command without --steps goes on"
    journal.log(f"{name}: {state} after {step} steps, epoch {done / batches.per_epoch:.2f} of {batches.epochs}")
    if reader.trained:
        journal.log(
            f"{name}: waited for data {reader.waited / reader.trained:.1%} of {reader.trained / 60:.1f} minutes"
        )
    return rows


def _after(taken: int, steps: Iterator[dict[str, Tensor]], autocast: Callable) -> Iterator[dict[str, Tensor]]:
    """Go through the steps of a batch under autocast, without those that were taken before the run was stopped."""
    for place in itertools.count():
        with autocast(), torch.set_grad_enabled(place >= taken):
            terms = next(steps, None)
        if terms is None:
            return
        if place >= taken:
            yield terms


class _Reader:
    """Losses that wait on the device until they are read together: reading each would stop the device.

    And the time between: how long a step took, and how much of it went by waiting for data.
    """

    def __init__(self, journal: Journal):
        self.journal = journal
        self.waiting: list[tuple[int, list[str]]] = []
        self.terms: list[Tensor] = []
        self.names: list[str] = []
        self.trained = self.waited = 0.0  # seconds, without evaluations
        self.begin()

    def begin(self) -> None:
        """Measure time from here on: what came before was no training."""
        self.begun, self.idle = time.perf_counter(), 0.0

    def waits(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Go through the batches, measuring how long each is waited for."""
        batches = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.idle += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def add(self, step: int, terms: dict[str, Tensor], samples: list[str], rate: float) -> None:
        self.names, self.rate = list(terms), rate
        self.waiting.append((step, samples))
        self.terms.append(torch.stack([term.detach().float() for term in terms.values()]))

    def read(self) -> dict[str, float]:
        """Return the mean of each term since the last reading.

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
                    "the last state is kept: lower --lr, or look at these samples"
                )
        means, step = dict(zip(self.names, values.mean(0).tolist(), strict=True)), self.waiting[-1][0]
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
