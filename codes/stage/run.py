"""Run of a stage: processes, device, folder, and the record of what it is made of."""

import dataclasses
import itertools
import os
import time

import torch

from codes.data.dataset import SpikeDataset
from codes.data.fingerprint import fingerprint
from codes.engine import Journal, checkpoint, distributed
from codes.engine.gpu import choose_kernels
from codes.engine.provenance import record_options, record_sources
from codes.files import short_hash
from codes.recipe import Recipe, translated
from codes.stage.options import StageOptions, check_values, need, with_defaults

# Options that may differ when a run is resumed: they change where and how long it runs, not what is computed.
MAY_DIFFER = {"device", "workers", "cache", "steps", "evaluate_every", "test_mode", "force_resume", "save_folder"}
MAY_DIFFER |= {"save_every", "check_data", "deterministic"}
MAY_DIFFER |= {"teacher_cache"}  # where labels are kept; whether they are is among the sources of a run
BY_CONTENT = ("base_folder", "bsn_path", "sr_path", "deblur_path")  # compared by the content of these files
PROTOCOL = (
    "whole pictures; middle frame of the exposure (spike frame 68 of 137), sequence: spike frames 20, 36, ..., 116; "
    "outputs clipped to [0,1]"
)


@dataclasses.dataclass(frozen=True)
class Run:
    """Where a stage runs and what it writes to."""

    journal: Journal
    device: torch.device
    precision: str


def open_run(o: StageOptions, stage: str) -> Run:
    """Join the other processes, seed, and open the folder of the run; an evaluation gets a folder of its own in it."""
    check_values(o)
    if o.test_mode:
        need(o, f"{stage}_path")
    choose_kernels(deterministic=o.deterministic)
    device = distributed.initialize(o.device)
    if o.compile and not o.test_mode:
        distributed.check_compiler(device)
    torch.manual_seed(o.seed)
    if o.precision == "auto":
        # Tables are made in fp32, with --test_mode by default: their figures do not depend on the machine.
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8 and not o.test_mode
        o = dataclasses.replace(o, precision="bf16" if fast else "fp32")
    elif distributed.no_tf32(o):
        o = dataclasses.replace(o, precision="fp32")
    distributed.allow_tf32(o.precision)
    folder = f"{o.save_folder}/{stage}/{o.exp_name or o.data_type}"
    if o.test_mode:
        folder = _new_folder(f"{folder}/test-{time.strftime('%Y%m%d-%H%M%S')}")
    journal = Journal(folder, writes=distributed.rank() == 0, alone=not o.test_mode)
    defaults = dataclasses.asdict(with_defaults(type(o)()))
    same_but = MAY_DIFFER if _is_resumed(o, journal) else None
    if journal.writes:
        record_options(
            journal.folder,
            dataclasses.asdict(o),
            defaults=defaults,
            same_but=same_but,
            by_content=BY_CONTENT,
            translated=translated,
        )
    journal.log(f"{stage}: {journal.folder} on {device}, {o.precision}, {distributed.world_size()} process(es)")
    return Run(journal, device, o.precision)


def _is_resumed(o: StageOptions, journal: Journal) -> bool:
    """Return whether this command resumes a run, which then has to be the same one."""
    return checkpoint.is_saved(journal.folder / "checkpoints/state.pth") and not o.force_resume


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


def describe(o: StageOptions, run: Run, recipe: Recipe) -> dict[str, str]:
    """Note how tables are measured, for their record; return the weight files by flag, with a hash of each."""
    given = {name: path for name, path in dataclasses.asdict(o).items() if name.endswith("_path") and path}
    files = {f"--{name}": f"{path}, sha256 {short_hash(path)}" for name, path in given.items()}
    measured_in = run.precision if o.test_mode else "fp32"  # as `fit` makes its tables
    run.journal.about |= {"protocol": f"{PROTOCOL}; {measured_in} on {run.device}"}
    run.journal.about |= {"files": files, "recipe": recipe}
    return files


def check_sources(
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
    record_sources(run.journal.folder, sources, digests, same=_is_resumed(o, run.journal))
