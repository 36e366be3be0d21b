"""Stage 3: train LDN, the small student that restores the picture at any time of the exposure.

    python train_deblur.py --base_folder data/resimulated                                   # recipe: resim
    python train_deblur.py --base_folder GOPRO/ --recipe isi
    python train_deblur.py --base_folder GOPRO/ --bsn_path model/BSN_1000.pth --sr_path model/SR_70.pth \\
        --lambda_reblur 100 --data_type GOPRO                                               # recipe: published
    python train_deblur.py --test_mode --bsn_path model/BSN_1000.pth --sr_path model/SR_70.pth \\
        --deblur_path model/DeblurNet_100.pth --data_type GOPRO

Fed: the picture, blurry or super-resolved, and intensity in 21 spike frames around each target time.
Loss: distillation from the teacher at five target times, and reblur: the mean of the five against the blurry picture;
of recipe resim the distance to the truth of re-simulated scenes at seven target times.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from codes import stage
from codes.cli import option, program
from codes.data import manifest
from codes.data.batches import Batch, Batches
from codes.data.dataset import SpikeDataset
from codes.data.spikes import SEQUENCE_STEP, Exposure
from codes.distillation.student_input import StudentInput
from codes.distillation.supervision import REBLUR, ResimulatedTruth, TeacherDistillation, random_times
from codes.distillation.teachers import ClosedFormTeacher, NetworkTeacher
from codes.engine import Pair, cosine
from codes.engine.fit import Schedule
from codes.engine.provenance import versions
from codes.engine.tables import Rows
from codes.errors import InputError
from codes.evaluation.losses import perceptual
from codes.networks import BSN, EDSR, LDN, read_recipe
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
    settle,
)
from codes.restoration.comparison import baselines, student_outputs
from codes.restoration.reconstruction import Student
from codes.simulation.resimulation import is_resimulated

WARM_UP = 0.05  # share of a run of the recipe isi
ABLATION = "for ablations"


def no_teacher(o: "Options") -> str:
    """Say of an option of the teacher why it has no effect."""
    return stage.in_test_mode(o) or ("" if o.lambda_tea else "with --lambda_tea 0")


def no_reblur(o: "Options") -> str:
    """Say of --reblur why it has no effect; random times are those of the teacher too."""
    return stage.in_test_mode(o) or ("" if o.lambda_reblur or o.reblur == "random" else "with --lambda_reblur 0")


def starts_from_weights(o: "Options") -> str:
    """Say of --init why it is not used: the reference trains from scratch whatever weights are given."""
    is_tuned = o.deblur_path and not o.test_mode and not stage.as_reference(o)
    return "with --deblur_path, from whose weights training starts" if is_tuned else ""


@dataclass(frozen=True)
class Options(stage.StageOptions):
    lr: float = stage.training_option(1e-3, "learning rate of Adam, falling to 0 along a cosine")
    sr_path: str = option("", "weights of EDSR")
    deblur_path: str = option("", "weights of LDN: to evaluate with --test_mode, else to start from (fine-tuning)")
    recipe: str = option(
        "",
        "published: spike counts, taught by BSN and EDSR; reference: the same, as the authors' code in every "
        "detail; isi: ISI intensity, taught by the closed form on multi-frame "
        "super-resolution (MFSR); resim: given that closed form, taught by re-simulated scenes "
        "[published with --bsn_path, resim on data of scripts/resimulate.py, else isi]",
        choices=("", *PRESETS),
        renamed=FORMER_VALUES["recipe"],
    )
    teacher: str = option(
        "",
        "teacher [that of the recipe]",
        choices=("", *TEACHERS),
        renamed=FORMER_VALUES["teacher"],
        idle=no_teacher,
    )
    spike_deblur_len: int = option(21, "spike frames that LDN sees")
    blur_step: int = stage.training_option(24, "spike frames between the target times of a sample")
    lambda_tea: float = stage.training_option(1.0, "weight of the distillation loss; 0: no teacher")
    lambda_reblur: float = stage.training_option(100.0, "weight of the reblur loss")
    tea_loss: str = option(
        "lpips",
        "distillation loss; ssim: (1 - SSIM) + L1, needs no download",
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
        "picture: tables show LDN with data consistency [that of the recipe]",
        choices=("", *CONSISTENCIES),
    )
    clip: bool = stage.training_option(
        False, "clip the output of LDN to [0,1] before the loss, as published", group=ABLATION
    )
    lr_cycles: float | None = stage.training_option(
        None,
        "learning-rate cycles over the run, each falls to 0 and rises again; 0: one half cosine [0; recipe reference: "
        "half a cycle in as many batches as there are epochs]",
        aliases=("lr_swings",),
        group=ABLATION,
    )
    warm_up: float | None = stage.training_option(
        None, "share of the run over which the learning rate rises from 0 [recipe isi 0.05, else 0, as published]"
    )
    use_ssim: bool = option(False, "add (1 - SSIM) to the distillation loss", idle=no_teacher)
    init: str = option(
        "",
        "start: LDN returns its image input; random: as published [blur; recipe reference: random]",
        choices=("", "blur", "random"),
        group=ABLATION,
        unused=starts_from_weights,
        idle=stage.in_test_mode,
    )
    teacher_cache: str = option(
        "", "folder for the labels of the teacher, computed once for whole pictures; ram: memory", idle=no_teacher
    )


def main(o: Options) -> Rows:
    stage.refuse_full_spikes(o)
    o = stage.with_defaults(o)
    recipe = choose_recipe(o)
    run, exposure = stage.open_run(o, "deblur"), Exposure()
    teaches = recipe["teacher"] if o.lambda_tea else "none"
    run.journal.log(f"input of LDN: {recipe['spike_input']} and {recipe['input']}; teacher: {teaches}")
    if o.train_split == "test" and not o.test_mode:
        run.journal.log("trains on the test split: self-supervised adaptation, these figures are not of unseen data")
    for line in without_use(o, recipe):
        run.journal.log(line)
    if "mfsr" in (recipe["input"], recipe["teacher"]) and not o.teacher_cache:
        o = replace(o, teacher_cache=f"{run.journal.folder}/labels")  # seconds a picture: computed once
    start = LDN(o.spike_deblur_len).pass_blur_through() if o.init == "blur" else LDN(o.spike_deblur_len)
    net = stage.initial_network(o, start, "--deblur_path", run)

    mfsr, published = ClosedFormTeacher(short=o.bsn_len), published_teacher(o, recipe, run)
    teachers = {"published": published, "sdm": ClosedFormTeacher(short=o.bsn_len, mfsr=False), "mfsr": mfsr}
    teacher = mfsr if recipe["input"] == "mfsr" else teachers.get(teaches)  # whose ratios can be kept
    student = StudentInput(recipe, length=o.spike_deblur_len, short=o.bsn_len, exposure=exposure, mfsr=mfsr)
    supervision = supervise(o, recipe, teacher)
    times = exposure.centers(SEQUENCE_STEP if recipe["teacher"] == "resim" else o.blur_step)

    def losses(net: nn.Module, batch: Batch) -> Iterator[dict[str, Tensor]]:
        is_random = o.reblur == "random"
        at = random_times(exposure, len(times), seed=o.seed, batch=batch.number) if is_random else times
        sharp = student(net, batch, at)
        yield supervision.terms(sharp.clamp(0, 1) if o.clip else sharp, batch, at)

    def compute_labels(samples: SpikeDataset) -> None:
        samples.ratios = stage.labels(o, run, teacher, times)

    labels = ("ratios",) if o.teacher_cache and teacher else ()
    truth = ("sequence",) if recipe["teacher"] == "resim" else ()
    return stage.train_or_evaluate(
        o,
        run,
        net,
        losses,
        partial(compare, o, recipe, exposure, mfsr, published),
        train_fields=("spikes", "blur", *labels, *truth),
        test_fields=("spikes", "blur", "sharp", "sequence"),
        exposure=exposure,
        lr=partial(schedule, o, recipe),
        name="LDN",
        recipe=recipe if recipe == PUBLISHED else recipe | about_training(o),
        prepare=compute_labels if labels else None,
    )


def supervise(
    o: Options, recipe: Recipe, teacher: NetworkTeacher | ClosedFormTeacher | None
) -> TeacherDistillation | ResimulatedTruth:
    """Return what LDN learns from."""
    is_compared = not o.test_mode and (o.lambda_tea or recipe["teacher"] == "resim")
    distance = None if not is_compared else perceptual(o.tea_loss, rescaled=not stage.as_reference(o))
    if recipe["teacher"] == "resim":
        return ResimulatedTruth(distance)
    return TeacherDistillation(
        teacher,
        distance,
        lambda_tea=o.lambda_tea,
        lambda_reblur=o.lambda_reblur,
        use_ssim=o.use_ssim,
        reblur=o.reblur,
    )


def compare(
    o: Options,
    recipe: Recipe,
    exposure: Exposure,
    mfsr: ClosedFormTeacher,
    published: NetworkTeacher | None,
    net: nn.Module,
    batch: Batch,
) -> dict[str, Pair]:
    """Return every row of the table: the baselines, and LDN in the middle of the exposure and over the sequence."""
    blur, spikes = batch.blur, batch.spikes
    rows = baselines(blur, spikes, exposure=exposure, short=o.bsn_len, published=published)
    if recipe["input"] == "blurry" and recipe["teacher"] == "mfsr" and o.test_mode:  # slow, and always the same
        rows["SDM MFSR"] = mfsr(blur, spikes, [exposure.center])[:, 0]
    at = [exposure.center] if batch.sequence is None else [exposure.center, *exposure.centers(SEQUENCE_STEP)]
    frames = student_outputs(Student(net, recipe, short=o.bsn_len), blur, spikes, at, exposure=exposure)
    rows |= {name: of_times[0] for name, of_times in frames.items()}
    pairs = {name: Pair(image, batch.sharp) for name, image in rows.items()}
    if batch.sequence is not None:
        pairs |= {
            f"{name} sequence": Pair(torch.stack(of_times[1:], 1), batch.sequence)
            for name, of_times in frames.items()
            if name != "LDN without consistency"
        }
    return pairs


def choose_recipe(o: Options) -> Recipe:
    """Return the recipe that flags, weights and data ask for.

    Raises: InputError for options that do not go together, before anything is made.
    """
    default = PUBLISHED if o.bsn_path or o.sr_path else RESIM if is_resimulated(o.base_folder) else ISI
    recipe = stage.settle_recipe(replace(o, teacher="") if o.test_mode else o, o.deblur_path, default=default)
    if o.deblur_path:
        check_bsn_len(recipe, o.bsn_len, path=o.deblur_path)
    if o.bsn_path or o.sr_path or recipe["teacher"] == "published":
        stage.need(o, "bsn_path", "sr_path")
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
    if not is_resimulated(o.base_folder):
        raise InputError(
            f"{o.base_folder}: this recipe learns from re-simulated scenes; make them first: python "
            f"scripts/resimulate.py --base_folder {o.base_folder} --data_type {o.data_type} --output data/resimulated"
        )
    if o.train_split == "test":
        raise InputError("--train_split test: it holds recordings with their truth, no re-simulated scenes to adapt to")
    unused = ("lambda_tea", "lambda_reblur", "use_ssim", "blur_step", "reblur", "center_weight")
    if given := [f"--{name}" for name in unused if getattr(o, name) != getattr(Options, name)]:
        raise InputError(f"{', '.join(given)}: not used with the truth of re-simulated scenes; leave out")


def published_teacher(o: Options, recipe: Recipe, run: stage.Run) -> NetworkTeacher | None:
    """Return the teacher on BSN and EDSR, where their weights are given or needed."""
    if not (o.bsn_path or o.sr_path or recipe["teacher"] == "published"):
        return None
    bsn, edsr = stage.network(BSN(), o.bsn_path, run), stage.network(EDSR(), o.sr_path, run)
    trained_for = settle({}, {path: read_recipe(path) for path in (o.bsn_path, o.sr_path)}, PUBLISHED)
    return NetworkTeacher(
        bsn, edsr, short=o.bsn_len, center_weight=o.center_weight, spike_input=trained_for["spike_input"]
    )


def schedule(o: Options, recipe: Recipe, batches: Batches) -> Schedule:
    """Return the learning rate. The reference steps a cosine at every batch whose half period is counted in epochs."""
    cycles = batches.total / (2 * batches.epochs) if stage.as_reference(o) else o.lr_cycles
    return cosine(o.lr, cycles=cycles, warm_up=warm_up(o, recipe))


def warm_up(o: Options, recipe: Recipe) -> float:
    """Return the share of the run over which the learning rate rises.

    LDN of the recipe isi starts close to its labels; first steps at the full rate would zero all of its features.
    """
    starts_at_labels = recipe["spike_input"] == "isi" and recipe["input"] == "blurry"
    return o.warm_up if o.warm_up is not None else WARM_UP if starts_at_labels else 0.0


def about_training(o: Options) -> Recipe:
    """Return what a weight file says of its training, beside the recipe."""
    thresholds = " to ".join(f"{value:g}" for value in manifest.thresholds(o.base_folder)) or "unknown"
    return {"threshold": thresholds, "bsn_len": str(o.bsn_len), "commit": versions().get("commit", "unknown")}


if __name__ == "__main__":
    program(main, Options, __doc__)
