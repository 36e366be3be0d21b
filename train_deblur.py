"""Stage 3: train LDN, the small student that restores the picture at any time of the exposure.

    python train_deblur.py --base_folder data/resimulated                                   # recipe: resim
    python train_deblur.py --base_folder GOPRO/ --recipe isi
    python train_deblur.py --base_folder GOPRO/ --bsn_path model/BSN_1000.pth --sr_path model/SR_70.pth \\
        --lambda_reblur 100 --data_type GOPRO                                               # recipe: published
    python train_deblur.py --test_mode --bsn_path model/BSN_1000.pth --sr_path model/SR_70.pth \\
        --deblur_path model/DeblurNet_100.pth --data_type GOPRO

Input: the picture, blurry or super-resolved, and intensity in 21 spike frames around each target time.
Loss: distillation from the teacher at five target times, and reblur: the mean of the five against the blurry picture;
with recipe resim, the distance to the truth of re-simulated scenes at seven target times.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from codes import stage
from codes.cli import program
from codes.data.batches import Batch
from codes.data.spikes import SEQUENCE_STEP, Exposure
from codes.distillation.student_input import StudentInput
from codes.distillation.supervision import ResimulatedTruth, TeacherDistillation, random_times
from codes.distillation.teachers import ClosedFormTeacher, NetworkTeacher
from codes.engine import Pair
from codes.engine.tables import Rows
from codes.evaluation.losses import perceptual
from codes.networks import LDN
from codes.recipe import Recipe
from codes.restoration.comparison import baselines, student_outputs
from codes.restoration.reconstruction import Student
from codes.stage.student import log_recipe, published_teacher, schedule, training_record, with_label_folder
from codes.stage.student_options import Options, settle_options


def main(o: Options) -> Rows:
    o, recipe = settle_options(o)
    run, exposure = stage.open_run(o, "deblur"), Exposure()
    log_recipe(o, recipe, run)
    o = with_label_folder(o, recipe, run)
    ldn = LDN(o.spike_deblur_len)
    net = stage.initial_network(o, ldn.pass_blur_through() if o.init == "blur" else ldn, "--deblur_path", run)

    # The teacher is the closed form: on BSN and EDSR, on multi-frame super-resolution, or on averages of ISI intensity.
    published = published_teacher(o, recipe, run)
    mfsr, sdm = ClosedFormTeacher(short=o.bsn_len), ClosedFormTeacher(short=o.bsn_len, mfsr=False)
    teacher = {"published": published, "mfsr": mfsr, "sdm": sdm}.get(recipe["teacher"]) if o.lambda_tea else None
    student = StudentInput(recipe, length=o.spike_deblur_len, short=o.bsn_len, exposure=exposure, mfsr=mfsr)
    supervision = supervise(o, recipe, teacher)
    times = exposure.centers(SEQUENCE_STEP if recipe["teacher"] == "resim" else o.blur_step)

    def losses(net: nn.Module, batch: Batch) -> Iterator[dict[str, Tensor]]:
        at = random_times(exposure, len(times), seed=o.seed, batch=batch.number) if o.reblur == "random" else times
        sharp = student(net, batch, at)
        yield supervision.terms(sharp.clamp(0, 1) if o.clip else sharp, batch, at)

    def compare(net: nn.Module, batch: Batch) -> dict[str, Pair]:
        blur, spikes, middle = batch.blur, batch.spikes, exposure.center
        rows = baselines(blur, spikes, exposure=exposure, short=o.bsn_len, published=published)
        if recipe["input"] == "blurry" and recipe["teacher"] == "mfsr" and o.test_mode:  # slow, and always the same
            rows["SDM MFSR"] = mfsr(blur, spikes, [middle])[:, 0]
        at = [middle] if batch.sequence is None else [middle, *exposure.centers(SEQUENCE_STEP)]
        ldn = Student(net, recipe, short=o.bsn_len)
        frames = student_outputs(ldn, blur, spikes, at, exposure=exposure, along_motion=o.test_mode)
        return pairs(rows, frames, batch)

    kept = (mfsr if recipe["input"] == "mfsr" else teacher) if o.teacher_cache else None  # whose labels are kept
    labels, truth = ("ratios",) if kept else (), ("sequence",) if recipe["teacher"] == "resim" else ()
    return stage.train_or_evaluate(
        o,
        run,
        net,
        losses,
        compare,
        train_fields=("spikes", "blur", *labels, *truth),
        test_fields=("spikes", "blur", "sharp", "sequence"),
        exposure=exposure,
        lr=partial(schedule, o, recipe),
        name="LDN",
        recipe=training_record(o, recipe),
        prepare=partial(stage.keep_labels, o, run, kept, times) if kept else None,
    )


def supervise(
    o: Options, recipe: Recipe, teacher: NetworkTeacher | ClosedFormTeacher | None
) -> TeacherDistillation | ResimulatedTruth:
    """Return what LDN learns from: a teacher and the blurry picture, or the truth of re-simulated scenes."""
    is_compared = not o.test_mode and (o.lambda_tea or recipe["teacher"] == "resim")
    loss = perceptual(o.tea_loss, rescaled=not stage.as_reference(o)) if is_compared else None
    if recipe["teacher"] == "resim":
        return ResimulatedTruth(loss)
    return TeacherDistillation(
        teacher,
        loss,
        lambda_tea=o.lambda_tea,
        lambda_reblur=o.lambda_reblur,
        use_ssim=o.use_ssim,
        reblur=o.reblur,
    )


def pairs(rows: dict[str, Tensor], frames: dict[str, list[Tensor]], batch: Batch) -> dict[str, Pair]:
    """Compare the rows and the first of the frames with the sharp picture, the others with the sharp sequence."""
    rows = rows | {name: of_times[0] for name, of_times in frames.items()}
    found = {name: Pair(image, batch.sharp) for name, image in rows.items()}
    if batch.sequence is not None:
        found |= {
            f"{name} sequence": Pair(torch.stack(of_times[1:], 1), batch.sequence)
            for name, of_times in frames.items()
            if name != "LDN without consistency"
        }
    return found


if __name__ == "__main__":
    program(main, Options, __doc__)
