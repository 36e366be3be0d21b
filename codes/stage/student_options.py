"""Stage 3: its options, such as the learning rate, and its recipe as chosen by flags, weight files and data."""

from dataclasses import dataclass, replace

from codes.cli import option
from codes.data import manifest
from codes.distillation.supervision import REBLUR
from codes.errors import InputError
from codes.recipe import (
    CONSISTENCIES,
    FORMER_VALUES,
    ISI,
    PRESETS,
    PUBLISHED,
    RESIM,
    TEACHERS,
    Recipe,
    check_bsn_len,
)
from codes.stage.options import (
    StageOptions,
    as_reference,
    in_test_mode,
    need,
    refuse_full_spikes,
    settle_recipe,
    training_option,
    with_defaults,
)

ABLATION = "for ablations"


def no_teacher(o: "Options") -> str:
    """Say of an option of the teacher why it has no effect."""
    return in_test_mode(o) or ("" if o.lambda_tea else "with --lambda_tea 0")


def no_reblur(o: "Options") -> str:
    """Say of --reblur why it has no effect; random times are those of the teacher too."""
    return in_test_mode(o) or ("" if o.lambda_reblur or o.reblur == "random" else "with --lambda_reblur 0")


def starts_from_weights(o: "Options") -> str:
    """Say of --init why it is not used: the reference trains from scratch whatever weights are given."""
    is_tuned = o.deblur_path and not o.test_mode and not as_reference(o)
    return "with --deblur_path, from whose weights training starts" if is_tuned else ""


@dataclass(frozen=True)
class Options(StageOptions):
    lr: float = training_option(1e-3, "learning rate of Adam, falling to 0 along a cosine")
    sr_path: str = option("", "weights of EDSR")
    deblur_path: str = option("", "weights of LDN: to evaluate with --test_mode, else to start from (fine-tuning)")
    recipe: str = option(
        "",
        "published: spike counts, taught by BSN and EDSR; reference: the same, as the authors' code in every "
        "detail; isi: ISI intensity, taught by the closed form on multi-frame "
        "super-resolution (MFSR); resim: ISI intensity and that closed form, taught by re-simulated scenes "
        "[published with --bsn_path, resim on data of scripts/resimulate.py, else isi]",
        choices=("", *PRESETS),
        renamed=FORMER_VALUES["recipe"],
    )
    teacher: str = option(
        "",
        "labels of LDN: closed form on BSN and EDSR (published), ISI intensity (sdm) or MFSR (mfsr), truth of "
        "re-simulated scenes (resim) [those of the recipe]",
        choices=("", *TEACHERS),
        renamed=FORMER_VALUES["teacher"],
        idle=no_teacher,
    )
    spike_deblur_len: int = option(21, "spike frames around a target time in the input of LDN")
    blur_step: int = training_option(24, "spike frames between the target times of a sample")
    lambda_tea: float = training_option(1.0, "weight of the distillation loss; 0: no teacher")
    lambda_reblur: float = training_option(100.0, "weight of the reblur loss")
    tea_loss: str = option(
        "lpips",
        "distillation loss; ssim: (1 - SSIM) + L1, which needs no download",
        choices=("lpips", "ssim"),
        idle=no_teacher,
    )
    center_weight: float = option(
        0.0,
        "weight of the measured intensity beside the output of BSN in the teacher; published: 0",
        group=ABLATION,
        unused=lambda o: (
            "without --bsn_path and --sr_path" if o.center_weight and not (o.bsn_path or o.sr_path) else ""
        ),
    )
    reblur: str = option(
        "equal",
        "weights of the frames whose mean is compared with the picture: equal, as published; trapezoid: the first and "
        "the last frame half; random: equal, at one random time in each part of the exposure, new for every batch",
        choices=REBLUR,
        group=ABLATION,
        idle=no_reblur,
    )
    consistency: str = option(
        "",
        "picture: add the data-consistency residual to LDN in tables [as the recipe says]",
        choices=("", *CONSISTENCIES),
    )
    clip: bool = training_option(False, "clip the output of LDN to [0,1] before the loss, as published", group=ABLATION)
    lr_cycles: float | None = training_option(
        None,
        "learning-rate cycles over the run, each falls to 0 and rises again; 0: one half cosine [0; recipe reference: "
        "half a cycle in as many batches as there are epochs]",
        aliases=("lr_swings",),
        group=ABLATION,
    )
    warm_up: float | None = training_option(
        None,
        "share of the run over which the learning rate rises from 0 [recipe isi 0.05, else 0, as published]",
        group=ABLATION,
    )
    use_ssim: bool = option(False, "add (1 - SSIM) to the distillation loss", idle=no_teacher)
    init: str = option(
        "",
        "initial weights of LDN; blur: such that it returns its image input; random: as published [blur; "
        "recipe reference: random]",
        choices=("", "blur", "random"),
        group=ABLATION,
        unused=starts_from_weights,
        idle=in_test_mode,
    )
    teacher_cache: str = option(
        "",
        "folder for the labels of the teacher, computed once for whole pictures; ram: keep them in memory",
        idle=no_teacher,
    )


def settle_options(o: Options) -> tuple[Options, Recipe]:
    """Return the options, completed by the defaults of their recipe, and the recipe.

    Raises: InputError for options that do not go together, before anything is made.
    """
    refuse_full_spikes(o)
    o = with_defaults(o)
    return o, choose_recipe(o)


def choose_recipe(o: Options) -> Recipe:
    """Return the recipe that flags, weights and data ask for.

    Raises: InputError for options that do not go together, before anything is made.
    """
    default = PUBLISHED if o.bsn_path or o.sr_path else RESIM if manifest.is_resimulated(o.base_folder) else ISI
    recipe = settle_recipe(replace(o, teacher="") if o.test_mode else o, o.deblur_path, default=default)
    if o.deblur_path:
        check_bsn_len(recipe, o.bsn_len, path=o.deblur_path)
    if o.bsn_path or o.sr_path or recipe["teacher"] == "published":
        need(o, "bsn_path", "sr_path")
    if o.test_mode:
        return recipe
    if o.reblur == "random" and (o.teacher_cache or recipe["teacher"] == "mfsr"):
        raise InputError(
            "--reblur random: the labels are at other times for every batch and cannot be kept; leave out "
            "--teacher_cache, and choose --teacher published or sdm"
        )
    if recipe["input"] == "mfsr" and recipe["teacher"] != "resim":
        raise InputError(f"--teacher {recipe['teacher']}: LDN's image input is mfsr, which only resim can teach")
    if recipe["teacher"] == "resim":
        check_resimulated(o)
    elif not (o.lambda_tea or o.lambda_reblur):
        raise InputError("--lambda_tea 0 --lambda_reblur 0: nothing is left to learn; one has to be above 0")
    return recipe


def without_use(o: Options, recipe: Recipe) -> list[str]:
    """Return a line for each given option that this recipe makes no use of; the result is the same without it."""
    if o.test_mode:
        return []
    lines = []
    if o.bsn_path and recipe["teacher"] != "published" and not o.evaluate_every:
        lines.append("--bsn_path and --sr_path have no effect: they are not the teacher, and no table is made")
    if o.teacher_cache and recipe["teacher"] == "resim" and recipe["input"] != "mfsr":
        lines.append("--teacher_cache has no effect: the data hold the truth, and no label is computed")
    return lines


def check_resimulated(o: Options) -> None:
    """Raise InputError unless the data are re-simulated scenes, and for flags that these have no use for."""
    if not manifest.is_resimulated(o.base_folder):
        raise InputError(
            f"{o.base_folder}: this recipe learns from re-simulated scenes; make them first: python "
            f"scripts/resimulate.py --base_folder {o.base_folder} --data_type {o.data_type} --output data/resimulated"
        )
    if o.train_split == "test":
        raise InputError("--train_split test: it holds recordings with their truth, no re-simulated scenes to adapt to")
    unused = ("lambda_tea", "lambda_reblur", "use_ssim", "blur_step", "reblur", "center_weight")
    if given := [f"--{name}" for name in unused if getattr(o, name) != getattr(Options, name)]:
        raise InputError(f"{', '.join(given)}: not used with the truth of re-simulated scenes; leave out")
