"""State of a training in memory: network, optimiser and position in the run, filled from a checkpoint on resume."""

import time
from pathlib import Path

import torch
from torch import nn

from codes.data.batches import Batches
from codes.engine import checkpoint
from codes.engine.journal import STATE, Journal


class RunState:
    """Network, optimiser and progress of a run.

    `step` counts optimiser steps, `batch` the batches that are finished, `taken` the steps of the next batch: a batch
    may hold several steps, and a run can stop between them.
    """

    def __init__(self, net: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches, journal: Journal):
        self.net, self.optimizer, self.batches, self.journal = net, optimizer, batches, journal
        self.path = journal.folder / "checkpoints/state.pth"
        self.step = self.batch = self.taken = 0
        self.saved = time.monotonic()

    def load(self) -> None:
        """Go to the last state, if there is one, and let the batches and the curves continue there."""
        progress = checkpoint.load_state(self.path, self.journal.log, net=self.net, optimizer=self.optimizer)
        if progress:
            self.step, self.batch, self.taken = progress["step"], progress["batch"], progress["taken"]
        self.batches.start = self.batch
        self.journal.resume(self.step)
        if self.step:
            self.journal.log(f"resumed at epoch {self.batch // self.batches.per_epoch}, step {self.step}")

    def save(self, recipe: dict[str, str] | None) -> None:
        """Write the state.

        Raises: FloatingPointError if the weights are not finite.
        """
        if not all(bool(parameter.isfinite().all()) for parameter in self.net.parameters()):
            raise FloatingPointError(f"the weights are not finite after step {self.step}; {self.kept()}: lower --lr")
        if self.journal.writes:
            self.journal.flush()  # the curves are never behind the state
            progress = {"step": self.step, "batch": self.batch, "taken": self.taken}
            with self.journal.writing(STATE):
                checkpoint.save_state(self.path, progress, recipe, net=self.net, optimizer=self.optimizer)
        self.saved = time.monotonic()

    def kept(self) -> str:
        """Say which state is on disk."""
        return "the last state is kept" if checkpoint.is_saved(self.path) else "no state was written before"

    def is_old(self, minutes: float) -> bool:
        """Say whether the state on disk was written longer ago."""
        return time.monotonic() - self.saved > 60 * minutes

    def is_complete(self) -> bool:
        """Say whether all batches of the run were used."""
        return self.batch == self.batches.total

    def weights_path(self, name: str) -> Path:
        """Return the weight file of this step."""
        epoch, rest = divmod(self.batch, self.batches.per_epoch)
        within = rest or self.taken
        return self.path.with_name(f"{name}_{f'step{self.step:07d}' if within else f'{epoch:04d}'}.pth")

    def ends_epoch(self, every: int) -> bool:
        """Say whether an epoch has just ended whose number is a multiple of `every` (0: none is)."""
        epoch, rest = divmod(self.batch, self.batches.per_epoch)
        return bool(self.batch and every) and not rest and not self.taken and epoch % every == 0
