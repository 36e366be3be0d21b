"""From the options of a stage to its run: processes, device, folder, loaders, networks."""

import dataclasses
import functools
import itertools
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from codes.cli import check_used, option, shown
from codes.data.batches import Batches, Packed
from codes.data.cache import memory_needed, read_into_memory
from codes.data.checks import faults
from codes.data.dataset import EVERY_TENTH, SMALL, SpikeDataset
from codes.data.fingerprint import fingerprint
from codes.data.layout import check_layout
from codes.data.spikes import UPSCALE, Exposure
from codes.distillation.label_cache import cache_labels
from codes.distillation.teachers import ClosedFormTeacher, NetworkTeacher
from codes.engine import Journal, checkpoint, distributed, evaluate, fit, signals
from codes.engine.evaluate import Compare
from codes.engine.fit import Losses, Schedule
from codes.engine.gpu import choose_kernels, step_memory
from codes.engine.provenance import record_options, record_sources
from codes.engine.tables import Rows
from codes.errors import InputError
from codes.files import short_hash
from codes.memory_format import memory_format
from codes.networks import load, read_recipe
from codes.recipe import FORMER_VALUES, PUBLISHED, SPIKE_INPUTS, Recipe, settle, translated

Options = TypeVar("Options", bound="StageOptions")
PRECISIONS = ("auto", "fp32", "tf32", "bf16")


def in_test_mode(o: "StageOptions") -> str:
    """Say of an option of the training why it has no effect."""
    return "with --test_mode" if o.test_mode else ""


def one_split(o: "StageOptions") -> str:
    """Say why --train_split has no effect: real data have one split, unless they lie in folders train and test."""
    is_single = o.data_type == "real" and not Path(o.base_folder, "test").is_dir()
    return in_test_mode(o) or (f"with --data_type real, {o.base_folder} has no folder test" if is_single else "")


def no_worker(o: "StageOptions") -> str:
    """Say why no worker process reads data."""
    is_cached = o.cache != "none" and not o.evaluate_every and not o.test_mode
    return f"with --cache {o.cache} and --evaluate_every 0" if is_cached else ""


def always_deterministic(o: "StageOptions") -> str:
    """Say why --deterministic changes nothing."""
    on_cpu = distributed.chosen(o.device) == "cpu"
    return in_test_mode(o) or ("on a CPU, which always computes the same" if on_cpu else "")


training_option = functools.partial(option, idle=in_test_mode)


@dataclasses.dataclass(frozen=True)
class StageOptions:
    """What all three stages can be told."""

    base_folder: str = option("GOPRO/", "the data set, a folder with train/ and test/")
    data_type: str = option(
        "GOPRO", "GOPRO: png pictures and sharp truth; real: jpg, no truth", choices=("GOPRO", "real")
    )
    save_folder: str = option("log", "where runs are kept: SAVE_FOLDER/STAGE/EXP_NAME")
    exp_name: str = option("", "name of the run; the same command again resumes it [the data type]")
    test_mode: bool = option(False, "evaluate the given weights, train nothing")
    train_split: str = option(
        "train",
        "split to train on; test: self-supervised adaptation to it",
        choices=("train", "test"),
        idle=one_split,
    )
    lr: float = training_option(1e-3, "learning rate of Adam")
    epochs: int = training_option(101, "length of the run")
    steps: int | None = training_option(None, "stop after so many optimiser steps; the same command without it goes on")
    bs: int = training_option(4, "pictures a batch, over all processes")
    roi_size: tuple[int, ...] = training_option(
        (512,), "crop in picture pixels: side, or height and width; 0: whole pictures"
    )
    seed: int | None = training_option(None, "of the weights, the order and the crops [0; recipe reference: 42]")
    augment: bool = training_option(False, "turn and mirror square crops at random; off as published")
    bsn_len: int = option(9, "spike frames of the short TFP that BSN denoises", aliases=("spike_bsn_len",))
    width: int | None = option(None, "width of the pictures, where there are none to tell")
    height: int | None = option(None, "height of the pictures, where there are none to tell")
    use_small: bool = option(
        False, "use the first 20 samples of a split, for a quick look; recipe reference: every tenth"
    )
    spike_full: bool = option(False, "read spikes of the size of the picture from spike_full/")
    recipe: str = option(
        "",
        "published: the method of the paper; reference: trains exactly as the reference implementation does, see "
        "codes/DIFFERENCES.md [published]",
        choices=("", "published", "reference"),
    )
    bsn_path: str = option("", "weights of BSN")
    spike_input: str = option(
        "",
        "spike counts, as published, or inter-spike-interval (ISI) intensity [that of the weights, else counts]",
        choices=("", *SPIKE_INPUTS),
        renamed=FORMER_VALUES["spike_input"],
    )
    device: str = option("", "cpu, cuda, cuda:1 [cuda where there is one]")
    workers: int | None = option(None, "processes that read data [the cores, at most 4]", idle=no_worker)
    cache: str = training_option(
        "none", "keep training data in memory, or on the GPU", choices=("none", "ram", "device")
    )
    precision: str = option(
        "auto",
        "of the networks; auto: bf16 to train on GPUs that have it, else fp32",
        choices=PRECISIONS,
        idle=distributed.no_tf32,
    )
    deterministic: bool = option(
        False,
        "the same weights bit for bit in every run, also after a stop, on a GPU too; slower",
        idle=always_deterministic,
    )
    compile: bool = training_option(False, "train with torch.compile: minutes to start, then faster steps")
    check_data: bool = option(False, "first read all data once, and list all that is wrong with them")
    evaluate_every: int = training_option(10, "epochs between evaluations; 0: no test data needed")
    save_every: float = training_option(10.0, "minutes between states to go on from; 0: after every batch")
    force_resume: bool = training_option(False, "go on with a run although options changed")


# What --recipe reference requires of other flags: the values that agree with it, the default first.
REFERENCE = {
    "spike_input": ("", "counts"),
    "augment": (False,),
    "teacher": ("", "published"),
    "consistency": ("", "none"),
    "center_weight": (0.0,),
    "reblur": ("equal",),
    "tea_loss": ("lpips",),
    "lr_cycles": (None,),
    "warm_up": (None, 0.0),
    "init": ("", "random"),
    "teacher_cache": ("",),
}
# What may differ when a run goes on: it changes where and how long, not what is computed.
FREE = {"device", "workers", "cache", "steps", "evaluate_every", "test_mode", "force_resume", "save_folder"}
FREE |= {"save_every", "check_data", "deterministic"}
BY_CONTENT = ("base_folder", "bsn_path", "sr_path", "deblur_path")  # compared by the content of these files
FREE |= {"teacher_cache"}  # where labels are kept; whether they are is among the sources of a run
PROTOCOL = (
    "whole pictures; middle frame of the exposure (spike frame 68 of 137), sequence: spike frames 20, 36, ..., 116; "
    "outputs clipped to [0,1]"
)


def as_reference(o: StageOptions) -> bool:
    """Say whether training follows the reference implementation in every detail."""
    return o.recipe == "reference"


def with_defaults(o: Options) -> Options:
    """Return the options with the defaults that depend on the recipe.

    Raises: InputError naming a flag that is not used, or that contradicts --recipe reference.
    """
    check_used(o)
    chosen = {"seed": 42 if as_reference(o) else 0, "init": "random" if as_reference(o) else "blur", "lr_cycles": 0.0}
    missing = {name: value for name, value in chosen.items() if getattr(o, name, value) in (None, "")}
    if not as_reference(o):
        return dataclasses.replace(o, **missing)
    for name, accepted in REFERENCE.items():
        if (value := getattr(o, name, accepted[0])) not in accepted:
            raise InputError(f"--{name} {value}: contradicts --recipe reference; leave out one of them")
    for name in ("bsn_len", "spike_deblur_len"):
        if (length := getattr(o, name, 1)) % 2 == 0:
            raise InputError(
                f"--{name} {length}: --recipe reference takes odd windows (there, {length} means {length + 1})"
            )
    clip = {"clip": True} if hasattr(o, "clip") else {}
    precision = "fp32" if o.precision == "auto" else o.precision
    return dataclasses.replace(o, **missing, **clip, precision=precision)


@dataclasses.dataclass(frozen=True)
class Run:
    """Where a stage runs and what it writes to."""

    journal: Journal
    device: torch.device
    precision: str


def open_run(o: StageOptions, stage: str) -> Run:
    """Join the other processes, seed, and open the folder of the run; an evaluation gets a folder of its own in it."""
    _check(o)
    if o.test_mode:
        need(o, f"{stage}_path")
    choose_kernels(deterministic=o.deterministic)
    device = distributed.start(o.device)
    if o.compile and not o.test_mode:
        distributed.check_compiler(device)
    torch.manual_seed(o.seed)
    if o.precision == "auto":
        # Tables are made in fp32, with --test_mode unless told otherwise: their figures do not depend on the machine.
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8 and not o.test_mode
        o = dataclasses.replace(o, precision="bf16" if fast else "fp32")
    elif distributed.no_tf32(o):
        o = dataclasses.replace(o, precision="fp32")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = o.precision != "fp32"
    folder = f"{o.save_folder}/{stage}/{o.exp_name or o.data_type}"
    if o.test_mode:
        folder = _new_folder(f"{folder}/test-{time.strftime('%Y%m%d-%H%M%S')}")
    journal = Journal(folder, writes=distributed.rank() == 0, alone=not o.test_mode)
    defaults = dataclasses.asdict(with_defaults(type(o)()))
    same_but = FREE if _goes_on(o, journal) else None
    if journal.writes:
        record_options(
            journal.folder,
            dataclasses.asdict(o),
            defaults=defaults,
            same_but=same_but,
            by_content=BY_CONTENT,
            translated=translated,
        )
    journal.log(f"{stage}: {journal.folder} on {device}, {o.precision}, {distributed.world()} process(es)")
    return Run(journal, device, o.precision)


def _goes_on(o: StageOptions, journal: Journal) -> bool:
    """Say whether this command continues a run, which then has to be the same one."""
    return checkpoint.is_saved(journal.folder / "checkpoints/state.pth") and not o.force_resume


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
    """Do what the options say with `net`.

    `train_fields` and `test_fields` are the fields of a sample that are read, `exposure` with its margins the spike
    frames. `lr` returns the schedule of the batches. `prepare` is called with the training data after all data were
    checked, before any of them are read.
    """
    files = _describe(o, run, recipe)
    if o.check_data:
        splits = {} if o.test_mode else {o.train_split: train_fields}
        check_data(o, run, splits | ({"test": test_fields} if o.evaluate_every or o.test_mode else {}))
    needs_test = o.test_mode or o.evaluate_every
    test = test_loader(o, run, fields=test_fields, exposure=exposure) if needs_test else None
    if o.test_mode:
        rows = evaluate(net, compare, test, run.journal, device=run.device, precision=run.precision)
        run.journal.complain()
        distributed.leave()
        return rows

    def check_and_prepare(samples: SpikeDataset) -> None:
        if run.journal.writes:
            _check_sources(o, run, samples, files, recipe, keeps_labels="ratios" in train_fields)
        if prepare:
            prepare(samples)

    def reserve(samples: SpikeDataset, batches: Batches) -> int:
        packed = Packed.collate([samples[key] for key in next(iter(batches))])
        return step_memory(net, losses, packed, device=run.device, precision=run.precision)

    train = train_loader(o, run, fields=train_fields, exposure=exposure, prepare=check_and_prepare, reserve=reserve)
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
    distributed.leave()
    return rows


def _describe(o: StageOptions, run: Run, recipe: Recipe) -> dict[str, str]:
    """Note how tables are measured, for their record; return the weight files by flag, with a hash of each."""
    given = {name: path for name, path in dataclasses.asdict(o).items() if name.endswith("_path") and path}
    files = {f"--{name}": f"{path}, sha256 {short_hash(path)}" for name, path in given.items()}
    measured_in = run.precision if o.test_mode else "fp32"  # as `fit` makes its tables
    run.journal.about |= {"protocol": f"{PROTOCOL}; {measured_in} on {run.device}"}
    run.journal.about |= {"files": files, "recipe": recipe}
    return files


def _check_sources(
    o: StageOptions, run: Run, samples: SpikeDataset, files: dict[str, str], recipe: Recipe, *, keeps_labels: bool
) -> None:
    """Record the content of data and weights that a run starts with, or refuse to resume it with other content."""
    sources = files | {"training data": samples.split.describe()}
    if hasattr(o, "teacher_cache"):  # kept labels are float16 and of whole pictures: they differ from live ones
        sources["--teacher_cache"] = "labels kept" if keeps_labels else "labels computed live"
    # A copy of the data may lack the record by which its recipe was chosen.
    chosen = [f"{name} {recipe[name]}" for name in ("spike_input", "picture", "input", "teacher") if name in recipe]
    sources["recipe"] = ", ".join(chosen)
    digests = {"training data": fingerprint(samples.split.files())}
    record_sources(run.journal.folder, sources, digests, same=_goes_on(o, run.journal))


def settle_recipe(o: StageOptions, *weights: str, default: Recipe = PUBLISHED) -> Recipe:
    """Return the recipe that the options and the weight files among `weights` agree on."""
    flags = {name: getattr(o, name, "") for name in ("recipe", "spike_input", "teacher", "consistency")}
    return settle(flags, {path: read_recipe(path) for path in weights if path}, default)


def frames(recipe: Recipe, *, margin: int) -> Exposure:
    """Return the exposure with the frames that are read: those that windows reach, for rates all that tell them."""
    return Exposure() if recipe["spike_input"] == "isi" else Exposure(margin=margin)


def need(o: StageOptions, *names: str) -> None:
    """Raise InputError if one of these options, which name weights, is not given."""
    for name in names:
        if not getattr(o, name):
            raise InputError(f"--{name} is missing: the weights that this command needs")


def network(net: nn.Module, path: str, run: Run) -> nn.Module:
    """Fill a network from a file and move it to the device in its fastest memory format.

    Without a file the weights are random.
    """
    if path:
        load(net, path)
    return net.to(run.device, memory_format=memory_format(run.device))


def starting_network(o: StageOptions, net: nn.Module, flag: str, run: Run) -> nn.Module:
    """Return the network that is trained or evaluated, filled from the file of its own `flag` where one is given.

    In training that is fine-tuning; the reference implementation trains from scratch whatever is given.
    """
    path = getattr(o, flag.removeprefix("--"))
    if path and not o.test_mode:
        if as_reference(o):
            run.journal.log(f"{flag} {path}: only evaluated in --test_mode; --recipe reference trains from scratch")
            return network(net, "", run)
        run.journal.log(f"fine-tuning: training starts from the weights of {flag} {path}")
    return network(net, path, run)


def _new_folder(name: str) -> str:
    """Make a folder of this name, with a number behind it where there is one: evaluations start in the same second.

    Only the first process makes it, the others write nothing.
    """
    if distributed.rank() > 0:
        return name
    for number in itertools.count(1):
        try:
            os.makedirs(folder := name if number == 1 else f"{name}-{number}")
            return folder
        except FileExistsError:
            pass


def refuse_full_spikes(o: StageOptions) -> None:
    """Raise InputError for `--spike_full` where the networks enlarge spikes by 4."""
    if o.spike_full:
        raise InputError("--spike_full: EDSR and LDN enlarge spikes by 4; spikes of full size are for train_bsn.py")


def _check(o: StageOptions) -> None:
    """Raise InputError for values that cannot be meant, before anything is made."""
    margin = 2 * Exposure().margin + 1
    for name in ("bsn_len", "spike_deblur_len"):
        if not 1 <= getattr(o, name, 1) <= margin:
            raise InputError(f"--{name} {getattr(o, name)}: a window of 1 to {margin} spike frames fits everywhere")
    for least, names in ((1, ("bs", "epochs", "blur_step", "steps")), (0, ("seed", "workers", "evaluate_every"))):
        for name in names:
            value = getattr(o, name, None)
            if value is not None and value < least:
                raise InputError(f"--{name} {value}: has to be {least} or more")
    if not 0 < o.lr < math.inf:
        raise InputError(f"--lr {o.lr:g}: has to be above 0")
    for name in ("lambda_tea", "lambda_reblur", "lr_cycles"):
        if not 0 <= (getattr(o, name, None) or 0) < math.inf:
            raise InputError(f"--{name} {getattr(o, name):g}: 0 or more is accepted")
    if not 0 <= (getattr(o, "warm_up", None) or 0) <= 1:
        raise InputError(f"--warm_up {o.warm_up:g}: a share of the run, 0 to 1")
    if not o.save_every >= 0:
        raise InputError(f"--save_every {o.save_every:g}: minutes, 0 or more")
    if bool(o.height) != bool(o.width):
        raise InputError("--height and --width belong together")
    check_layout(o.base_folder, o.data_type)
    if o.data_type == "real" and (truth := Path(o.base_folder, "test", "sharp_data")).is_dir():
        raise InputError(f"--data_type real: {truth} would not be compared with; leave it out")


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


def labels(
    o: StageOptions, run: Run, teacher: NetworkTeacher | ClosedFormTeacher, times: list[int]
) -> dict[str, np.ndarray]:
    """Compute the labels of the training split by `cache_labels`, shared by all processes."""
    samples = dataset(o, o.train_split, fields=("spikes",))
    found = cache_labels(
        teacher,
        samples,
        centers=times,
        device=run.device,
        read=lambda indices: _loader(o, Subset(samples, indices)),
        precision=run.precision,
        rank=distributed.rank(),
        world=distributed.world(),
        wait=distributed.wait,
        log=run.journal.log,
    )
    distributed.wait()
    return found


def check_data(o: StageOptions, run: Run, splits: dict[str, tuple[str, ...]]) -> None:
    """Read all `fields` of all samples of the splits once; raise InputError after all faults are logged."""
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
        raise InputError(f"{o.base_folder}: {number}, listed above; mend or remove these samples")


def train_loader(
    o: StageOptions,
    run: Run,
    *,
    fields: tuple[str, ...],
    exposure: Exposure,
    prepare: Callable[[SpikeDataset], None] | None = None,
    reserve: Callable[[SpikeDataset, Batches], int] = lambda samples, batches: 0,
) -> DataLoader:
    """Read the training split in the order of `Batches`: crops of `--roi_size`, on all processes together.

    `reserve` returns the bytes of a GPU that training needs beside data that are kept there.
    """
    if len(o.roi_size) not in (1, 2) or any(side % UPSCALE or side < 0 for side in o.roi_size):
        raise InputError(f"--roi_size {shown(o.roi_size)}: one or two multiples of {UPSCALE}, or 0 for whole pictures")
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
    rank, world = distributed.rank(), distributed.world()
    if as_reference(o) and world > 1:
        raise InputError("--recipe reference: the last batch of an epoch can be too small to share; leave out torchrun")
    batches = Batches(
        len(samples), o.bs, epochs=o.epochs, seed=o.seed, rank=rank, world=world, filled=not as_reference(o)
    )
    if prepare:
        prepare(samples)
    if o.cache != "none":
        on_gpu = o.cache == "device" and run.device.type == "cuda"
        reserved = reserve(samples, batches) if on_gpu else 0
        distributed.wait()  # each looks at the memory that is free, before any of them fills it
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
    mine = Subset(samples, range(distributed.rank(), len(samples), distributed.world()))
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
