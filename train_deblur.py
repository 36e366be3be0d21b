"""Stage 3: train LDN, the small student that restores the picture at any instant of the exposure.

    python train_deblur.py --base_folder data/resimulated                                   # recipe: resim
    python train_deblur.py --base_folder GOPRO/ --recipe isi
    python train_deblur.py --base_folder GOPRO/ --bsn_path model/BSN_1000.pth --sr_path model/SR_70.pth \\
        --lambda_reblur 100 --data_type GOPRO                                               # recipe: published
    python train_deblur.py --test_mode --bsn_path model/BSN_1000.pth --sr_path model/SR_70.pth \\
        --deblur_path model/DeblurNet_100.pth --data_type GOPRO

Fed: the picture, blurry or as fusion along motion restored it, and light of 21 spike frames around an instant.
Loss: the distance to the teacher at each of five instants (closed form; as published on BSN and EDSR), and of the mean
of the five to the picture; of recipe resim the distance at seven instants to what scripts/resimulate.py filmed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from codes import stage
from codes.cli import option, program
from codes.data import manifest
from codes.data.batches import Batch
from codes.data.dataset import SpikeDataset
from codes.data.spikes import SEQUENCE_STEP, Exposure
from codes.distillation.label_cache import cache_labels
from codes.distillation.student import ldn_input, match_picture_scale
from codes.distillation.teachers import ClosedFormTeacher, NetworkTeacher
from codes.engine import Pair, cosine, distributed
from codes.engine.journal import Rows, versions
from codes.errors import InputError
from codes.evaluation.losses import dssim, mse, perceptual
from codes.networks import BSN, EDSR, LDN, read_recipe
from codes.physics.baselines import tfi
from codes.physics.data_consistency import mean_over_exposure
from codes.physics.intensity import estimate_intensity
from codes.physics.sdm import sdm, tfp, upsample_bilinear, windows
from codes.recipe import (
    CONSISTENCIES,
    FORMER_VALUES,
    ISI,
    PUBLISHED,
    RECIPES,
    RESIM,
    TEACHERS,
    Recipe,
    check_bsn_len,
    settle,
)
from codes.restoration.pipeline import Student, reconstruct, refine
from codes.simulation.resimulation import is_resimulated

WARM_UP = 0.05  # share of a run of the recipe isi


@dataclass(frozen=True)
class Options(stage.StageOptions):
    lr: float = option(1e-3, "learning rate of Adam, falling to 0 along a cosine")
    sr_path: str = option("", "weights of EDSR")
    deblur_path: str = option("", "weights of LDN")
    recipe: str = option(
        "",
        "published: spike counts, taught by BSN and EDSR; isi: ISI intensity, taught by the closed form on multi-frame "
        "super-resolution (MFSR); resim: given that closed form, taught by re-simulated scenes "
        "[published with --bsn_path, resim on data of scripts/resimulate.py, else isi]",
        choices=("", *RECIPES),
        renamed=FORMER_VALUES["recipe"],
    )
    teacher: str = option("", "teacher [that of the recipe]", choices=("", *TEACHERS), renamed=FORMER_VALUES["teacher"])
    spike_deblur_len: int = option(21, "spike frames that LDN sees")
    blur_step: int = option(24, "spike frames between the instants of a sample")
    lambda_tea: float = option(1.0, "weight of the teacher loss; 0: no teacher at all")
    lambda_reblur: float = option(100.0, "weight of the reblur loss")
    tea_loss: str = option("lpips", "teacher loss; ssim: (1 - SSIM) + L1, needs no download", choices=("lpips", "ssim"))
    center_weight: float = option(0.0, "share of the measured light in what BSN gives to the teacher; published: 0")
    reblur: str = option(
        "equal",
        "the instants whose mean is the picture: all alike, as published; the ends of the exposure counted half; or "
        "one in each part of the exposure, drawn by the spikes of the crops: others for every batch",
        choices=("equal", "trapezoid", "random"),
    )
    consistency: str = option(
        "",
        "picture: what LDN restores is measured after what its mean lacks of the picture was added [the recipe's]",
        choices=("", *CONSISTENCIES),
    )
    clip: bool = option(False, "clip what LDN restores to [0,1] before the loss, as published: gradients die there")
    lr_cycles: float = option(
        0.0,
        "learning-rate cycles over the run, each falls to 0 and rises again; 0: one half cosine",
        aliases=("lr_swings",),
    )
    warm_up: float | None = option(
        None, "share of the run over which the learning rate rises from 0 [recipe isi 0.05, else 0, as published]"
    )
    use_ssim: bool = option(False, "add (1 - SSIM) to the teacher loss")
    init: str = option("blur", "start LDN as what it is given, or at random as published", choices=("blur", "random"))
    teacher_cache: str = option("", "folder for the teacher's labels, computed once for whole pictures; ram: memory")


def main(o: Options) -> Rows:
    stage.refuse_full_spikes(o)
    has_networks = bool(o.bsn_path or o.sr_path)
    default = PUBLISHED if has_networks else RESIM if is_resimulated(o.base_folder) else ISI
    recipe = stage.settle_recipe(o, o.deblur_path, default=default)
    if o.deblur_path:
        check_bsn_len(recipe, o.bsn_len, path=o.deblur_path)
    check(o, recipe)
    spike_input, published = recipe["spike_input"], has_networks or recipe["teacher"] == "published"
    run, exposure = stage.open_run(o, "deblur"), Exposure()
    run.journal.log(f"input of LDN: {spike_input} and {recipe['input']}; teacher: {recipe['teacher']}")
    is_consistent = recipe["consistency"] == "picture"
    is_fused, filmed = recipe["input"] == "mfsr", recipe["teacher"] == "resim"
    if (is_fused or recipe["teacher"] == "mfsr") and not o.teacher_cache:
        o = replace(o, teacher_cache=f"{run.journal.folder}/labels")  # seconds a picture: never twice
    start = LDN(o.spike_deblur_len).pass_blur_through() if o.init == "blur" else LDN(o.spike_deblur_len)
    net = stage.network(start, o.deblur_path, run, needed="--deblur_path" if o.test_mode else "")
    teachers: dict[str, NetworkTeacher | ClosedFormTeacher] = {
        "sdm": ClosedFormTeacher(short=o.bsn_len, mfsr=False),
        "mfsr": ClosedFormTeacher(short=o.bsn_len),
    }
    if published:
        bsn = stage.network(BSN(), o.bsn_path, run, needed="--bsn_path")
        edsr = stage.network(EDSR(), o.sr_path, run, needed="--sr_path")
        eats = settle({}, {path: read_recipe(path) for path in (o.bsn_path, o.sr_path)}, PUBLISHED)["spike_input"]
        teachers["published"] = NetworkTeacher(
            bsn, edsr, short=o.bsn_len, center_weight=o.center_weight, spike_input=eats
        )
    # Makes the labels, or the fused pictures that LDN is given; labels of filmed scenes are their sharp_sequence.
    teacher = teachers["mfsr"] if is_fused else teachers.get(recipe["teacher"])
    centers = exposure.centers(SEQUENCE_STEP if filmed else o.blur_step)
    near = None if o.test_mode else perceptual(o.tea_loss)

    def ratios(batch: Batch, centers: list[int]) -> Tensor:
        return teacher.ratios(batch.spikes, centers) if batch.ratios is None else batch.ratios

    def student(net: nn.Module, batch: Batch, centers: list[int]) -> Tensor:
        """Restore all instants in one pass, [B,N,3,H,W].

        Windows are light as each pixel alone tells it, quick enough to be found at every step; in use
        (`codes.restoration.pipeline`) they are light along motion, nearer the truth.
        """
        light, length = estimate_intensity(batch.spikes, spike_input), o.spike_deblur_len
        if is_fused:
            fused = teacher.sharpen(batch.blur, ratios(batch, centers))
            sharp = net(fused.flatten(0, 1), windows(match_picture_scale(light, batch.blur, exposure), centers, length))
        else:
            sizes = {"length": length, "short": o.bsn_len, "exposure": exposure}
            sharp = net(*ldn_input(batch.blur, light, centers, **sizes, spike_input=spike_input))
        return sharp.float().unflatten(0, (-1, len(centers)))

    def losses(net: nn.Module, batch: Batch) -> Iterator[dict[str, Tensor]]:
        instants = drawn_instants(batch, exposure, len(centers)) if o.reblur == "random" else centers
        sharp = student(net, batch, instants)
        sharp = sharp.clamp(0, 1) if o.clip else sharp
        if filmed:  # exact at each instant: the mean of all says nothing more
            if batch.sequence is None:
                raise InputError(f"{o.base_folder}: samples without sharp_sequence; run scripts/resimulate.py again")
            yield {"refilmed": near(sharp.flatten(0, 1), batch.sequence.flatten(0, 1))}
            return
        terms = {}
        if o.lambda_tea:
            labels = teacher.sharpen(batch.blur, ratios(batch, instants))
            frames, labels = sharp.flatten(0, 1), labels.flatten(0, 1)
            terms["teacher"] = o.lambda_tea * near(frames, labels)
            if o.use_ssim:
                terms["ssim"] = o.lambda_tea * dssim(frames, labels)
        mean = mean_over_exposure(sharp) if o.reblur == "trapezoid" else sharp.mean(1)
        terms["reblur"] = o.lambda_reblur * mse(mean, batch.blur)
        yield terms

    def compare(net: nn.Module, batch: Batch) -> dict[str, Pair]:
        def taught(name: str) -> Tensor:
            return teachers[name](batch.blur, batch.spikes, [middle])[:, 0]

        middle = exposure.center
        long, short = tfp(batch.spikes, middle, exposure.length), tfp(batch.spikes, middle, o.bsn_len)
        outputs = {
            "blurry": batch.blur,
            f"TFP_{o.bsn_len}": upsample_bilinear(short).expand_as(batch.blur),
            "TFI": upsample_bilinear(tfi(batch.spikes, middle)).expand_as(batch.blur),
            "SDM": sdm(batch.blur, upsample_bilinear(long), upsample_bilinear(short)),
        }
        if published:
            light = estimate_intensity(batch.spikes, teachers["published"].spike_input)
            long, short = tfp(light, middle, exposure.length), tfp(light, middle, o.bsn_len)
            clean = upsample_bilinear(teachers["published"].denoise(short))
            outputs |= {"SDM+BSN": sdm(batch.blur, upsample_bilinear(long), clean), "teacher": taught("published")}
        outputs["SDM ISI"] = taught("sdm")
        times = [middle] if batch.sequence is None else [middle, *exposure.centers(SEQUENCE_STEP)]
        fed = Student(net, recipe, short=o.bsn_len)
        intensities = list(refine(fed, batch.blur, batch.spikes, exposure=exposure))
        first = list(reconstruct(fed, batch.blur, intensities[0], times, exposure=exposure))
        last = first
        if len(intensities) > 1:
            last = list(reconstruct(fed, batch.blur, intensities[-1], times, exposure=exposure))
        restored = {"LDN": [frame.sharp for frame in last]}
        if is_fused:
            of_first = {
                "SDM MFSR": [frame.closed_form for frame in first],
                "LDN, 1 iteration": [frame.sharp for frame in first],
            }
            restored = of_first | restored
        elif recipe["teacher"] == "mfsr" and o.test_mode:  # slow, and the same at every evaluation
            outputs["SDM MFSR"] = taught("mfsr")
        if is_consistent:
            outputs["LDN without consistency"] = last[0].student
        outputs |= {name: frames[0] for name, frames in restored.items()}
        pairs = {name: Pair(image, batch.sharp) for name, image in outputs.items()}
        if batch.sequence is not None:
            for name, frames in restored.items():
                pairs[f"{name} sequence"] = Pair(torch.stack(frames[1:], 1), batch.sequence)
        return pairs

    if o.train_split == "test" and not o.test_mode:
        run.journal.log("trains on the test split: self-supervised adaptation, these figures are not of unseen data")

    def label(samples: SpikeDataset) -> None:
        whole, place = stage.dataset(o, o.train_split, parts=("spikes",)), {"device": run.device} | stage.processes()
        samples.ratios = cache_labels(
            teacher,
            whole,
            centers=centers,
            precision=run.precision,
            wait=distributed.wait,
            log=run.journal.log,
            **place,
        )
        distributed.wait()

    labels = ("ratios",) if o.teacher_cache and teacher else ()
    truths = ("sequence",) if filmed else ()
    parts = {"train": ("spikes", "blur", *labels, *truths), "test": ("spikes", "blur", "sharp", "sequence")}
    noted = recipe if recipe == PUBLISHED else recipe | making(o)
    settings = {"parts": parts, "exposure": exposure, "name": "LDN", "recipe": noted}
    # Labels that lie close to where LDN starts: first steps as large as the rate would kill all of its features.
    rises = o.warm_up if o.warm_up is not None else WARM_UP if spike_input == "isi" and not is_fused else 0.0
    settings["lr"] = cosine(o.lr, cycles=o.lr_cycles, warm_up=rises)
    return stage.train_or_evaluate(o, run, net, losses, compare, prepare=label if labels else None, **settings)


def check(o: Options, recipe: Recipe) -> None:
    """Raise InputError for options that do not go together, before anything is made."""
    filmed, keeps = recipe["teacher"] == "resim", o.teacher_cache or recipe["teacher"] == "mfsr"
    if o.reblur == "random" and keeps:
        raise InputError(
            "--reblur random: its labels are of other instants each time and cannot be kept: no "
            "--teacher_cache, and --teacher published or sdm"
        )
    if o.test_mode:
        return
    if recipe["input"] == "mfsr" and not filmed:
        raise InputError(f"--teacher {recipe['teacher']}: LDN's image input is mfsr, which only resim can teach")
    if not filmed:
        return
    if not is_resimulated(o.base_folder):
        raise InputError(
            f"{o.base_folder}: this recipe is taught by what the teacher restored, filmed again; make that first: "
            f"python scripts/resimulate.py --base_folder {o.base_folder} --data_type {o.data_type} "
            "--output data/resimulated"
        )
    if o.train_split == "test":
        raise InputError("--train_split test: its pictures are no filmed ones but the truth; this recipe cannot adapt")
    idle = ("lambda_tea", "lambda_reblur", "use_ssim", "blur_step", "reblur", "center_weight")
    if given := [f"--{name}" for name in idle if getattr(o, name) != getattr(Options, name)]:
        raise InputError(f"{', '.join(given)}: filmed scenes are learned by their own sharp_sequence alone; leave out")


def making(o: Options) -> Recipe:
    """Say for a weight file what LDN was trained on and by, beside the recipe."""
    found = " to ".join(f"{value:g}" for value in manifest.thresholds(o.base_folder)) or "unknown"
    return {"threshold": found, "bsn_len": str(o.bsn_len), "commit": versions().get("commit", "unknown")}


def drawn_instants(batch: Batch, exposure: Exposure, number: int) -> list[int]:
    """Draw one instant in each of `number` equal parts of the exposure, by the batch itself: a run resumes exactly."""
    dice = torch.Generator().manual_seed(int(batch.spikes.sum()))
    parts = (torch.arange(number) + torch.rand(number, generator=dice)) * exposure.length / number
    return [exposure.margin + int(part) for part in parts]


if __name__ == "__main__":
    program(main, Options, __doc__)
