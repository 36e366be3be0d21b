"""Train a network by `codes.engine.fit` or evaluate it, as the options of its stage say."""

from collections.abc import Callable
from functools import partial

from torch import nn
from torch.utils.data import DataLoader

from codes.data.batches import Batches, Packed
from codes.data.dataset import SpikeDataset
from codes.data.spikes import Exposure
from codes.engine import distributed, evaluate, fit
from codes.engine.evaluate import Compare
from codes.engine.fit import Losses, Schedule
from codes.engine.gpu import step_memory
from codes.engine.tables import Rows
from codes.recipe import Recipe
from codes.stage.loaders import check_data, test_loader, train_loader
from codes.stage.options import StageOptions
from codes.stage.run import Run, check_sources, describe


def train_or_evaluate(
    o: StageOptions,
    run: Run,
    net: nn.Module,
    losses: Losses,
    compare: Compare,
    *,
    train_fields: tuple[str, ...],
    test_fields: tuple[str, ...],
    exposure: Exposure,
    lr: Callable[[Batches], Schedule],
    name: str,
    recipe: Recipe,
    prepare: Callable[[SpikeDataset], None] | None = None,
) -> Rows:
    """Train `net`, or evaluate it with --test_mode; return its last table.

    `train_fields` and `test_fields` are the fields of a sample that are read, `exposure` with its margins the spike
    frames. `lr` returns the schedule of the batches. `prepare` is called with the training data after all data were
    checked, before any of them are read.
    """
    files = describe(o, run, recipe)
    if o.check_data:
        check_data(o, run, train_fields=train_fields, test_fields=test_fields)
    needs_test = o.test_mode or o.evaluate_every
    test = test_loader(o, run, fields=test_fields, exposure=exposure) if needs_test else None
    if o.test_mode:
        rows = evaluate(net, compare, test, run.journal, device=run.device, precision=run.precision)
        run.journal.raise_unwritten()
        distributed.shut_down()
        return rows

    train = _training_data(
        o,
        run,
        fields=train_fields,
        exposure=exposure,
        recipe=recipe,
        files=files,
        prepare=prepare,
        step_memory=partial(step_memory, net, losses, device=run.device, precision=run.precision),
    )
    rows = fit(
        net,
        losses,
        compare,
        train=train,
        test=test,
        lr=lr(train.batch_sampler),
        journal=run.journal,
        name=name,
        device=run.device,
        precision=run.precision,
        compiled=o.compile,
        recipe=recipe,
        steps=o.steps,
        evaluate_every=o.evaluate_every,
        save_every=o.save_every,
    )
    distributed.shut_down()
    return rows


def _training_data(
    o: StageOptions,
    run: Run,
    *,
    fields: tuple[str, ...],
    exposure: Exposure,
    recipe: Recipe,
    files: dict[str, str],
    prepare: Callable[[SpikeDataset], None] | None,
    step_memory: Callable[[Packed], int],
) -> DataLoader:
    """Open the training data: record their content, or refuse a resumed run with other content; then `prepare` them."""

    def check_and_prepare(samples: SpikeDataset) -> None:
        if run.journal.writes:
            check_sources(o, run, samples, files, recipe, keeps_labels="ratios" in fields)
        if prepare:
            prepare(samples)

    return train_loader(o, run, fields=fields, exposure=exposure, prepare=check_and_prepare, step_memory=step_memory)
