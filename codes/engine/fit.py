"""The training loop: each dict of terms that `losses(net, batch)` yields is one optimiser step.

A run can be stopped at any time and resumes from its last state. The order of samples, their crops and the learning
rate are functions of the progress, so weights, optimiser and progress are the whole state. A resumed run equals an
uninterrupted one: exactly on a CPU, statistically on a GPU, where some gradients are summed in any order. After
`gpu.choose_kernels(deterministic=True)` it is equal there too, with slower kernels.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from codes.engine import distributed, gpu, signals
from codes.engine.evaluate import Compare
from codes.engine.journal import Journal
from codes.engine.loading import awaited, check_shared_memory
from codes.engine.loss_meter import LossMeter
from codes.engine.outcome import Outcome
from codes.engine.run_state import RunState
from codes.engine.tables import Rows
from codes.errors import InputError, Interrupted

Losses = Callable[[nn.Module, Any], Iterator[dict[str, Tensor]]]
Schedule = Callable[[float], float]
SAVE, STOP = 1, 2  # what a process may ask all to do after a step; the highest counts


def cosine(lr: float, *, cycles: float = 0.0, warm_up: float = 0.0, levels: int = 0) -> Schedule:
    """Let the learning rate fall from `lr` to 0 along half a cosine over the run, or to 0 and back in `cycles` cycles.

    `warm_up`: share of the run over which a factor rises linearly from 0 to 1. `levels`: the rate is constant within
    each of so many equal parts of the run; 0: it falls with every batch.
    """
    turns = cycles or 0.5

    def rate(progress: float) -> float:
        if levels:
            progress = math.floor(progress * levels + 1e-9) / levels  # of an epoch, the quotient may lie just below
        factor = min(progress / warm_up, 1) if warm_up else 1
        return lr * factor * (1 + math.cos(2 * math.pi * turns * progress)) / 2

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
    checkpoints/NAME_EPOCH.pth (NAME_stepSTEP.pth within an epoch) with their `recipe`. `steps` stops early, after so
    many optimiser steps; the same call without it continues. Losses stay on the device and are read every `read_every`
    steps. The state is written every `save_every` minutes; if that fails, it is tried again the next time.
    Raises: FloatingPointError naming step, terms and samples if a loss is not finite. InputError if data do not arrive.
    Interrupted after SIGTERM or SIGINT, when the step is finished and the state written, or if another process is lost.
    OSError if the last state could not be written.
    """
    distributed.barrier()  # processes have read their data at different speeds
    check_shared_memory(train, test)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr(0.0), fused=device.type in ("cpu", "cuda"))
    state = RunState(net, optimizer, train.batch_sampler, journal)
    state.load()
    meter = LossMeter(journal, state.kept)
    outcome = Outcome(state, meter, compare, test, name=name, recipe=recipe, device=device)
    with (
        gpu.fixed_shapes(),
        signals.noted() as stop,
        _saved_if_it_cannot_continue(state, recipe),
        tqdm(initial=state.step, total=steps, desc=name, unit="step", disable=distributed.rank() > 0) as bar,
    ):
        requests = _optimiser_steps(
            distributed.parallel(net, device, compiled=compiled),
            losses,
            state,
            meter,
            batches=awaited(train if steps is None or state.step < steps else (), stop=stop),
            lr=lr,
            steps=steps,
            read_every=read_every,
            request=lambda: STOP if stop() else SAVE if state.is_old(save_every) else 0,
            device=device,
            precision=precision,
            bar=bar,
        )
        rows = _train_and_save(requests, outcome, every=evaluate_every, steps=steps, stop=stop)
    journal.raise_unwritten()
    _report(name, state, meter)
    return rows


def _train_and_save(
    requests: Iterator[int], outcome: Outcome, *, every: int, steps: int | None, stop: Callable[[], str]
) -> Rows:
    """Train by drawing `requests`; write what is asked for, make all of it after `every` epochs and at the end.

    Returns the last table. Raises: Interrupted if training stopped before its end.
    """
    state, meter = outcome.state, outcome.meter
    rows, made_at, resumed_at = {}, None, state.step
    # A process that was killed after it wrote the state has not made what belongs to it.
    if distributed.any_of(state.ends_epoch(every) and not outcome.is_made()):
        rows, made_at = outcome.make(stop), state.step
    for request in requests:
        if state.ends_epoch(every):
            rows, made_at = outcome.make(stop), state.step
            meter.begin()
        elif request:
            meter.read()
            state.save(outcome.recipe)
            meter.begin()
    if state.step != steps and not state.is_complete():
        if distributed.world_size() == 1:  # others may not have stopped here, and do not read
            meter.read()
        state.save(outcome.recipe)
        state.journal.raise_unwritten()
        raise Interrupted(f"at step {state.step}, the state is written; the same command goes on")
    if made_at == state.step:
        return rows
    # A run that was complete before has it all.
    is_made = state.step == resumed_at and not distributed.any_of(not outcome.is_made())
    return state.journal.kept_table(state.step) if is_made else outcome.make(stop)


def _report(name: str, state: RunState, meter: LossMeter) -> None:
    """Log how far training came, and the share of its time that it waited for data."""
    rest = "complete" if state.is_complete() else "stopped; the same command without --steps goes on"
    epochs = f"{state.batch / state.batches.per_epoch:.2f} of {state.batches.epochs}"
    state.journal.log(f"{name}: {rest} after {state.step} steps, epoch {epochs}")
    if minutes := meter.trained / 60:
        state.journal.log(f"{name}: waited for data {meter.waited / meter.trained:.1%} of {minutes:.1f} minutes")


def _optimiser_steps(
    model: nn.Module,
    losses: Losses,
    state: RunState,
    meter: LossMeter,
    *,
    batches: Iterator[Any],
    lr: Schedule,
    steps: int | None,
    read_every: int,
    request: Callable[[], int],
    device: torch.device,
    precision: str,
    bar: tqdm,
) -> Iterator[int]:
    """Take the steps of each batch and yield the highest request of all processes after it; end after STOP."""
    for packed in meter.timed(batches):
        batch = packed.to(device)
        rate = lr(state.batch / state.batches.total)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        first, asked = state.step - state.taken, 0
        for terms in _steps_left_in_batch(
            losses(model, batch), state.taken, lambda: distributed.autocast(device, precision)
        ):
            if state.step == steps:
                return
            sum(terms.values()).backward()
            state.optimizer.step()
            state.optimizer.zero_grad()
            state.step, state.taken = state.step + 1, state.taken + 1
            meter.add(state.step, terms, batch.names, rate)
            if state.step % read_every == 0:
                bar.set_postfix(meter.read(), refresh=False)
            bar.update()
            asked = distributed.all_reduce_max(request())
            if asked == STOP:
                break
        else:
            state.batch, state.taken = state.batch + 1, 0
        if bar.total is None:
            bar.total = (state.step - first) * state.batches.total
        yield asked
        if asked == STOP or state.step == steps:
            return


def _steps_left_in_batch(
    steps: Iterator[dict[str, Tensor]], taken: int, autocast: Callable[[], AbstractContextManager]
) -> Iterator[dict[str, Tensor]]:
    """Yield the terms of a batch under autocast, without the steps that were taken before the run was stopped."""
    for place in itertools.count():
        with autocast(), torch.set_grad_enabled(place >= taken):
            terms = next(steps, None)
        if terms is None:
            return
        if place >= taken:
            yield terms


@contextmanager
def _saved_if_it_cannot_continue(state: RunState, recipe: dict[str, str] | None) -> Iterator[None]:
    """Write the state before an error of the data or of another process ends the run.

    Weights and optimiser are then as the last step left them.
    """
    step = state.step
    try:
        yield
    except (InputError, RuntimeError, Interrupted) as error:
        lost = distributed.lost_process(error)
        if (lost or isinstance(error, InputError)) and state.step > step:
            state.save(recipe)
        if lost:
            raise Interrupted(f"{lost}; {state.kept()}, the same command goes on") from error
        raise
