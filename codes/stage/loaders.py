"""Data sets of a stage, their loaders, and the labels of its teacher."""

import dataclasses
import os
from collections.abc import Callable

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from codes.cli import shown
from codes.data.batches import Batches, Packed
from codes.data.cache import memory_needed, read_into_memory
from codes.data.checks import faults
from codes.data.dataset import EVERY_TENTH, SMALL, SpikeDataset
from codes.data.spikes import Exposure
from codes.distillation.label_cache import cache_labels
from codes.distillation.teachers import ClosedFormTeacher, NetworkTeacher
from codes.engine import distributed, signals
from codes.errors import InputError
from codes.recipe import Recipe
from codes.stage.options import StageOptions, as_reference
from codes.stage.run import Run


def exposure_read(recipe: Recipe, *, margin: int) -> Exposure:
    """Return the exposure with the spike frames that are read: `margin` on either side, all for ISI intensity."""
    return Exposure() if recipe["spike_input"] == "isi" else Exposure(margin=margin)


def dataset(
    o: StageOptions,
    split: str,
    *,
    fields: tuple[str, ...],
    exposure: Exposure = Exposure(),  # noqa: B008
    crop: tuple[int, int] | None = None,
    augment: bool = False,
    checked: bool = True,
) -> SpikeDataset:
    """Open a split of the data set that the options name."""
    labels = getattr(o, "teacher_cache", "")
    return SpikeDataset(
        o.base_folder,
        split,
        fields=fields,
        exposure=exposure,
        crop=crop,
        seed=o.seed,
        augment=augment,
        checked=checked,
        data_type=o.data_type,
        size=(o.height, o.width) if o.height and o.width else None,
        spike_full=o.spike_full,
        keep_samples=slice(None) if not o.use_small else EVERY_TENTH if as_reference(o) else SMALL,
        any_column=as_reference(o),
        ratio_folder=None if labels == "ram" else labels,
    )


def keep_labels(
    o: StageOptions, run: Run, teacher: NetworkTeacher | ClosedFormTeacher, times: list[int], samples: SpikeDataset
) -> None:
    """Compute the labels of the training split by `cache_labels`, shared by all processes; `samples` then have them."""
    whole = dataset(o, o.train_split, fields=("spikes",))
    samples.ratios = cache_labels(
        teacher,
        whole,
        centers=times,
        device=run.device,
        read=lambda indices: _loader(o, Subset(whole, indices)),
        precision=run.precision,
        rank=distributed.rank(),
        world=distributed.world_size(),
        wait=distributed.barrier,
        log=run.journal.log,
    )
    distributed.barrier()


def check_data(o: StageOptions, run: Run, *, train_fields: tuple[str, ...], test_fields: tuple[str, ...]) -> None:
    """Read the fields of all samples that this command uses once; raise InputError after all faults are logged."""
    splits = {} if o.test_mode else {o.train_split: train_fields}
    if o.evaluate_every or o.test_mode:
        splits["test"] = test_fields
    found = []
    for split, fields in splits.items():
        fields = tuple(field for field in _existing(o, fields) if field != "ratios")
        try:
            found += faults(dataset(o, split, fields=fields, checked=False))
        except InputError as error:
            found.append(str(error))
    run.journal.log("\n".join(found) or f"{o.base_folder}: all files of {' and '.join(splits)} are whole")
    if found:
        number = f"{len(found)} fault{'s' * (len(found) > 1)} in the data"
        raise InputError(f"{o.base_folder}: {number}, listed above; repair or remove these samples")


def train_loader(
    o: StageOptions,
    run: Run,
    *,
    fields: tuple[str, ...],
    exposure: Exposure,
    prepare: Callable[[SpikeDataset], None] | None = None,
    step_memory: Callable[[Packed], int] = lambda batch: 0,
) -> DataLoader:
    """Read the training split in the order of `Batches`: crops of `--roi_size`, on all processes together.

    `step_memory` returns the bytes of a GPU that a training step on a batch needs beside data that are kept there.
    """
    crop = (o.roi_size[0], o.roi_size[-1]) if any(o.roi_size) else None
    samples = dataset(o, o.train_split, fields=fields, exposure=exposure, crop=crop, augment=o.augment)
    _warn_of_unpaired(run, samples)
    shapes = {samples.shape(index) for index in range(len(samples))}
    if len(shapes) > 1:
        fits = shown(tuple(map(min, zip(*shapes, strict=True))))
        raise InputError(f"{o.base_folder}: samples of different sizes make no batch; --roi_size {fits} fits into all")
    height, width = shapes.pop()
    if o.augment and height != width:
        raise InputError(f"--augment: quarter turns need square crops, not {height}x{width}; --roi_size SIDE cuts them")
    rank, world = distributed.rank(), distributed.world_size()
    if as_reference(o) and world > 1:
        raise InputError("--recipe reference: the last batch of an epoch can be too small to share; leave out torchrun")
    batches = Batches(
        len(samples), o.bs, epochs=o.epochs, seed=o.seed, rank=rank, world=world, filled=not as_reference(o)
    )
    if prepare:
        prepare(samples)
    if o.cache != "none":
        on_gpu = o.cache == "device" and run.device.type == "cuda"
        reserved = step_memory(Packed.collate([samples[key] for key in next(iter(batches))])) if on_gpu else 0
        distributed.barrier()  # each process reads how much memory is free before any of them fills it
        read_into_memory(samples, run.device if on_gpu else None, reserved=reserved)
        run.journal.log(f"--cache {o.cache}: {len(samples)} samples, {memory_needed(samples) / 1e9:.2f} GB a process")
        # Where nothing is decoded a reading process costs more than it brings, and on a GPU it could not read.
        o = dataclasses.replace(o, workers=0)
    return _loader(o, samples, batches)


def _warn_of_unpaired(run: Run, samples: SpikeDataset) -> None:
    """Log the number of pictures without spikes and the name of the first."""
    if unpaired := list(samples.split.unpaired()):
        run.journal.log(f"WARNING: {unpaired[0]}. --check_data lists all {len(unpaired)} of this kind")


def _existing(o: StageOptions, fields: tuple[str, ...]) -> tuple[str, ...]:
    """Return the fields that data of this type have: real data have no sharp truth."""
    return tuple(field for field in fields if field != "sharp") if o.data_type == "real" else fields


def test_loader(o: StageOptions, run: Run, *, fields: tuple[str, ...], exposure: Exposure) -> DataLoader:
    """Read the test split, whole pictures one at a time, shared by all processes; real data have no sharp truth."""
    try:
        samples = dataset(o, "test", fields=_existing(o, fields), exposure=exposure)
    except InputError as error:
        raise InputError(str(error) if o.test_mode else f"{error}. Without test data: --evaluate_every 0") from None
    _warn_of_unpaired(run, samples)
    if run.journal.writes:
        run.journal.about["data"] = samples.split.describe()
    mine = Subset(samples, range(distributed.rank(), len(samples), distributed.world_size()))
    return _loader(o, mine)


def _loader(o: StageOptions, samples: Dataset, batches: Batches | None = None) -> DataLoader:
    """Read samples in the order of `batches`, else one at a time."""
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=min(4, os.cpu_count() or 1) if o.workers is None else o.workers,
        collate_fn=Packed.collate,
        pin_memory=torch.cuda.is_available() and o.device != "cpu" and o.cache != "device",
        worker_init_fn=signals.outlive,
    )
