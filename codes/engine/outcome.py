"""What a training writes at a step: the state that it resumes from, the weights, and the table of the test samples."""

from collections.abc import Callable

import torch
from torch.utils.data import DataLoader

from codes.engine import checkpoint, distributed, gpu
from codes.engine.evaluate import Compare, evaluate
from codes.engine.loss_meter import LossMeter
from codes.engine.run_state import RunState
from codes.engine.tables import Rows
from codes.errors import Interrupted


class Outcome:
    """What is made of a training after every few epochs and at its end."""

    def __init__(
        self,
        state: RunState,
        meter: LossMeter,
        compare: Compare,
        test: DataLoader | None,
        *,
        name: str,
        recipe: dict[str, str] | None,
        device: torch.device,
    ):
        self.state, self.meter, self.compare, self.test = state, meter, compare, test
        self.name, self.recipe, self.device = name, recipe, device

    def make(self, stop: Callable[[], str]) -> Rows:
        """Write state and weights, make the table and return it.

        Raises: Interrupted if `stop` names a signal meanwhile.
        """
        state, journal = self.state, self.state.journal
        self.meter.read()
        state.save(self.recipe)
        if journal.writes:
            with journal.writing("the weights"):
                checkpoint.save_weights(state.weights_path(self.name), state.net, self.recipe)
        if self.test is None:
            return {}
        try:
            # In fp32: the figures do not depend on the precision of training. Pictures may differ in size.
            with distributed.without_tf32(), gpu.fixed_shapes(False):
                return evaluate(
                    state.net, self.compare, self.test, journal, device=self.device, step=state.step, stop=stop
                )
        except Interrupted:
            journal.raise_unwritten()
            raise

    def is_made(self) -> bool:
        """Say whether weights and table of this step are on disk."""
        state = self.state
        return state.weights_path(self.name).is_file() and (self.test is None or state.journal.has_table(state.step))
