"""Options that all three stages have: their defaults by recipe, and checks of their values."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import TypeVar

from codes.cli import check_used, option, shown
from codes.data.layout import check_layout
from codes.data.spikes import UPSCALE, Exposure
from codes.engine import distributed
from codes.errors import InputError
from codes.networks import read_recipe
from codes.recipe import FORMER_VALUES, PUBLISHED, SPIKE_INPUTS, Recipe, settle

Options = TypeVar("Options", bound="StageOptions")
SMALLEST = 16  # picture pixels along a side of a crop: BSN halves its spike pixels twice
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
    """Options of all three stages."""

    base_folder: str = option("GOPRO/", "the data set, a folder with train/ and test/")
    data_type: str = option(
        "GOPRO", "GOPRO: PNG pictures with sharp truth; real: PNG or JPEG pictures without", choices=("GOPRO", "real")
    )
    save_folder: str = option("log", "folder of the runs: a run is in SAVE_FOLDER/STAGE/EXP_NAME")
    exp_name: str = option("", "name of the run; the same command resumes it [the data type]")
    test_mode: bool = option(False, "evaluate the given weights, train nothing")
    train_split: str = option(
        "train",
        "split to train on; test: self-supervised adaptation to the test pictures",
        choices=("train", "test"),
        idle=one_split,
    )
    lr: float = training_option(1e-3, "learning rate of Adam")
    epochs: int = training_option(101, "passes over the training data")
    steps: int | None = training_option(None, "stop after this many steps; without it, the same command resumes")
    bs: int = training_option(4, "pictures in a batch, over all processes")
    roi_size: tuple[int, ...] = training_option(
        (512,), "size of the crops in picture pixels: side, or height and width; 0: whole pictures"
    )
    seed: int | None = training_option(
        None, "random seed of initial weights, order of the data and crops [0; recipe reference: 42]"
    )
    augment: bool = training_option(False, "flip and rotate square crops at random; the published method does not")
    bsn_len: int = option(
        9,
        "spike frames averaged around a target time: the short TFP that BSN denoises, or ISI intensity",
        aliases=("spike_bsn_len",),
    )
    width: int | None = option(None, "width of a picture in pixels, for data sets without pictures")
    height: int | None = option(None, "height of a picture in pixels, for data sets without pictures")
    use_small: bool = option(False, "use only the first 20 samples of a split; recipe reference: every tenth")
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
        "input of the network: spike counts, as published, or inter-spike-interval (ISI) intensity [as the weights or "
        "the recipe say]",
        choices=("", *SPIKE_INPUTS),
        renamed=FORMER_VALUES["spike_input"],
    )
    device: str = option("", "device to compute on: cpu, cuda, cuda:1 [cuda where there is one]")
    workers: int | None = option(None, "number of processes that read data [the cores, at most 4]", idle=no_worker)
    cache: str = training_option(
        "none",
        "where training data are kept after they were read: nowhere, in memory, on the GPU",
        choices=("none", "ram", "device"),
    )
    precision: str = option(
        "auto",
        "number format of the networks; auto: bf16 for training on GPUs that have it, else fp32",
        choices=PRECISIONS,
        idle=distributed.no_tf32,
    )
    deterministic: bool = option(
        False,
        "compute the same weights bit for bit in every run on a GPU, also after a stop; slower",
        idle=always_deterministic,
    )
    compile: bool = training_option(False, "train with torch.compile: starts minutes later, steps are faster")
    check_data: bool = option(False, "read all data first and list all their faults")
    evaluate_every: int = training_option(10, "epochs between evaluations; 0: none, no test data are needed")
    save_every: float = training_option(
        10.0, "minutes between saved states, from which a run resumes; 0: after every batch"
    )
    force_resume: bool = training_option(False, "resume a run although its options, data or weights changed")


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


def settle_recipe(o: StageOptions, *weights: str, default: Recipe = PUBLISHED) -> Recipe:
    """Return the recipe that the options and the weight files among `weights` agree on."""
    flags = {name: getattr(o, name, "") for name in ("recipe", "spike_input", "teacher", "consistency")}
    return settle(flags, {path: read_recipe(path) for path in weights if path}, default)


def need(o: StageOptions, *names: str) -> None:
    """Raise InputError if one of these options, which name weights, is not given."""
    for name in names:
        if not getattr(o, name):
            raise InputError(f"--{name} is missing: the weights that this command needs")


def refuse_full_spikes(o: StageOptions) -> None:
    """Raise InputError for `--spike_full` where the networks enlarge spikes by 4."""
    if o.spike_full:
        raise InputError("--spike_full: EDSR and LDN enlarge spikes by 4; spikes of full size are for train_bsn.py")


def check_values(o: StageOptions) -> None:
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
    if o.seed >= 2**63:
        raise InputError(f"--seed {o.seed}: below 2^63 is accepted")
    if len(o.roi_size) not in (1, 2) or any(side % UPSCALE or side < SMALLEST for side in o.roi_size if side):
        raise InputError(
            f"--roi_size {shown(o.roi_size)}: one or two multiples of {UPSCALE}, {SMALLEST} or more, or 0 for whole "
            "pictures"
        )
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
