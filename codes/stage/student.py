"""Stage 3: what its options decide beside the recipe: published teacher, learning rate, record of the training."""

from dataclasses import replace

from codes.data import manifest
from codes.data.batches import Batches
from codes.distillation.teachers import NetworkTeacher
from codes.engine import cosine
from codes.engine.fit import Schedule
from codes.engine.provenance import versions
from codes.networks import BSN, EDSR, read_recipe
from codes.recipe import PUBLISHED, Recipe, settle
from codes.stage.networks import network
from codes.stage.options import as_reference
from codes.stage.run import Run
from codes.stage.student_options import Options, without_use

WARM_UP = 0.05  # share of a run of the recipe isi


def log_recipe(o: Options, recipe: Recipe, run: Run) -> None:
    """Log what LDN is trained on and by, and which options have no effect with it."""
    teacher = recipe["teacher"] if o.lambda_tea else "none"
    run.journal.log(f"input of LDN: {recipe['spike_input']} and {recipe['input']}; teacher: {teacher}")
    if o.train_split == "test" and not o.test_mode:
        run.journal.log("trains on the test split: self-supervised adaptation, these figures are not of unseen data")
    for line in without_use(o, recipe):
        run.journal.log(line)


def with_label_folder(o: Options, recipe: Recipe, run: Run) -> Options:
    """Return the options with a folder of the run for labels that take seconds a picture: they are computed once."""
    if "mfsr" in (recipe["input"], recipe["teacher"]) and not o.teacher_cache:
        return replace(o, teacher_cache=f"{run.journal.folder}/labels")
    return o


def published_teacher(o: Options, recipe: Recipe, run: Run) -> NetworkTeacher | None:
    """Return the teacher on BSN and EDSR, where their weights are given or needed."""
    if not (o.bsn_path or o.sr_path or recipe["teacher"] == "published"):
        return None
    bsn, edsr = network(BSN(), o.bsn_path, run), network(EDSR(), o.sr_path, run)
    trained_for = settle({}, {path: read_recipe(path) for path in (o.bsn_path, o.sr_path)}, PUBLISHED)
    return NetworkTeacher(
        bsn, edsr, short=o.bsn_len, center_weight=o.center_weight, spike_input=trained_for["spike_input"]
    )


def schedule(o: Options, recipe: Recipe, batches: Batches) -> Schedule:
    """Return the learning rate. The reference steps a cosine at every batch whose half period is counted in epochs."""
    cycles = batches.total / (2 * batches.epochs) if as_reference(o) else o.lr_cycles
    return cosine(o.lr, cycles=cycles, warm_up=warm_up(o, recipe))


def warm_up(o: Options, recipe: Recipe) -> float:
    """Return the share of the run over which the learning rate rises.

    LDN of the recipe isi starts close to its labels; first steps at the full rate would zero all of its features.
    """
    starts_at_labels = recipe["spike_input"] == "isi" and recipe["input"] == "blurry"
    return o.warm_up if o.warm_up is not None else WARM_UP if starts_at_labels else 0.0


def training_record(o: Options, recipe: Recipe) -> Recipe:
    """Return what a weight file says of its recipe and its training; of the published recipe, that alone."""
    if recipe == PUBLISHED:
        return recipe
    thresholds = " to ".join(f"{value:g}" for value in manifest.thresholds(o.base_folder)) or "unknown"
    return recipe | {"threshold": thresholds, "bsn_len": str(o.bsn_len), "commit": versions().get("commit", "unknown")}
