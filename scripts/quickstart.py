"""Render demo scenes, train the three published stages and the default recipe on them, and compare the results.

    python scripts/quickstart.py                 # at most ten minutes on two cores
    python scripts/quickstart.py --pretrained    # no training: restore a scene with the weights in model/

Networks have their published sizes, trainings are short: the longest of a fixed list that fit into the time, by the
measured time of a step. Table, strip.png, sequence.gif and report.html are in log/quickstart. The same command
continues after a stop.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from torch import Tensor, nn

from codes.cli import RESUMABLE, option, program
from codes.data import manifest
from codes.data.images import read_image, write_image
from codes.engine.tables import Rows
from codes.evaluation.metrics import measure
from codes.files import replacing
from codes.networks import BSN, EDSR, LDN
from codes.reporting.figures import side_by_side
from codes.reporting.run_results import Record, read_record

DEMO, RESIMULATED, OUT = Path("data/demo"), Path("data/demo_resimulated"), Path("log/quickstart")
SCENE, MIDDLE = "chelsea-000/000019", 68
BUDGET = 540.0  # seconds; a tenth of ten minutes is left for what the estimate misses


# Optimiser steps of an epoch of 32 scenes, in batches of 1, 1, 2 and 2; BSN steps at each of five target times.
EPOCH = {"bsn": 160, "sr": 32, "published": 16, "default": 16}
LENGTHS = (4, 8, 8, 32), (3, 4, 4, 20), (1, 2, 2, 12), (1, 1, 1, 6), (1, 1, 1, 2)  # epochs of the four trainings
REFERENCE = 0.19  # seconds of a step of the default recipe on the core on which the rest of the steps was timed


class Step(NamedTuple):
    """One program of the quickstart; `rest` is how long it takes on the reference core beside training."""

    title: str
    rest: float
    program: str
    flags: str
    training: str = ""  # its name in EPOCH


@dataclass(frozen=True)
class Options:
    pretrained: bool = option(False, "restore a demo scene with the weights in model/; no training")


def main(o: Options) -> None:
    if o.pretrained:
        restore_one_scene()
        return
    plan = made_plan(OUT / "plan.json")
    steps = all_steps(plan["epochs"])
    run_all(steps, [estimate(step, plan) for step in steps], OUT / "finished.json")
    records = (read_record(f"log/deblur/quickstart_{name}") for name in ("published", "default"))
    draw(*records, plan)


def restore_one_scene() -> None:
    data, out = "data/demo_one", "log/pretrained"
    run("scripts/make_demo.py", f"--output {data} --train 0 --test 1")
    picture, spikes = f"{data}/test/blur_data/{SCENE}.png", f"{data}/test/spike_data/{SCENE}.dat"
    run("scripts/deblur.py", f"{picture} {spikes} --frames 25 --compare --force --out {out} --video {out}/sequence.gif")
    print(f"pictures and video: {out}")


def weights(stage: str, run: str, network: str, epochs: int) -> str:
    return f"log/{stage}/quickstart_{run}/checkpoints/{network}_{epochs:04d}.pth"


def all_steps(epochs: Mapping[str, int]) -> list[Step]:
    """Return the programs of the quickstart for these lengths of the trainings."""
    bsn, sr = weights("bsn", "published", "BSN", epochs["bsn"]), weights("sr", "published", "SR", epochs["sr"])
    ldn = weights("deblur", "default", "LDN", epochs["default"])
    published = f"--base_folder {DEMO} --cache ram --exp_name quickstart_published"
    default = f"--base_folder {RESIMULATED} --cache ram --exp_name quickstart_default"
    test = f"{DEMO}/test"
    labels = "--teacher_cache log/deblur/quickstart_published/labels"
    picture, spikes = f"{test}/blur_data/{SCENE}.png", f"{test}/spike_data/{SCENE}.dat"
    return [
        Step("render 40 scenes", 52, "scripts/make_demo.py", f"--output {DEMO}"),
        Step(
            "train BSN", 6, "train_bsn.py",
            f"{published} --roi_size 128 --bs 1 --epochs {epochs['bsn']} --lr 1e-3 --evaluate_every 0", "bsn",
        ),
        Step(
            "train SR", 6, "train_sr.py",
            f"{published} --roi_size 128 --bs 1 --epochs {epochs['sr']} --evaluate_every 0", "sr",
        ),
        # A BSN trained for minutes is worse than its masked centre pixel: --center_weight averages the two.
        Step(
            "train LDN, published recipe", 70, "train_deblur.py",
            f"{published} --recipe published --roi_size 128 --bs 2 --epochs {epochs['published']} --tea_loss ssim "
            f"--center_weight 0.6 {labels} --bsn_path {bsn} --sr_path {sr} --evaluate_every 1000", "published",
        ),
        Step(
            "re-simulate the training scenes", 60, "scripts/resimulate.py",
            f"--base_folder {DEMO} --output {RESIMULATED}",
        ),
        Step(
            "train LDN, default recipe", 70, "train_deblur.py",
            f"{default} --lr 6e-4 --roi_size 96 --bs 2 --epochs {epochs['default']} --tea_loss ssim --augment "
            "--evaluate_every 1000", "default",
        ),
        Step("restore the test scenes", 27, "scripts/deblur.py",
             f"{test} --times {MIDDLE} --force --out {OUT}/trained --deblur_path {ldn}"),
        Step("restore them by model/LDN.pth", 27, "scripts/deblur.py",
             f"{test} --times {MIDDLE} --force --out {OUT}/shipped --deblur_path model/LDN.pth"),
        Step("restore a sequence", 18, "scripts/deblur.py",
             f"{picture} {spikes} --compare --force --deblur_path {ldn} --out {OUT}/sequence "
             f"--video {OUT}/sequence.gif"),
        Step("draw the report", 8, "scripts/figures.py", f"log/deblur/quickstart_default --better_by 4 --output {OUT}"),
    ]  # fmt: skip


def made_plan(path: Path) -> dict:
    """Return the lengths of the trainings; they are chosen once, by the speed of this machine."""
    plan = manifest.read(path, otherwise="delete log/quickstart and the runs quickstart_* to start again")
    if not plan:
        print("measuring the time of a step", flush=True)
        plan = choose(*measured())
        manifest.write(path, plan)
    steps = ", ".join(f"{name} {plan['epochs'][name] * EPOCH[name]}" for name in EPOCH)
    print(f"optimiser steps: {steps}", flush=True)
    return plan


def choose(seconds: dict[str, float], slowness: float) -> dict:
    """Choose the longest trainings that fit into the budget.

    seconds: of a step of each training. slowness: of one core against the reference.
    """
    for lengths in LENGTHS:
        epochs = dict(zip(EPOCH, lengths, strict=True))
        plan = {"epochs": epochs, "seconds": seconds, "slowness": slowness}
        if sum(estimate(step, plan) for step in all_steps(epochs)) <= BUDGET:
            break
    return plan


def estimate(step: Step, plan: dict) -> float:
    """Return the seconds that a step takes."""
    name = step.training
    training = plan["epochs"][name] * EPOCH[name] * plan["seconds"][name] if name else 0.0
    return step.rest * plan["slowness"] + training


def measured() -> tuple[dict[str, float], float]:
    """Time a step of each training, and one of LDN on a single core."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = {
        "bsn": (BSN(), (1, 1, 32, 32)),
        "sr": (EDSR(), (1, 1, 32, 32)),
        "published": (LDN(21), (10, 3, 128, 128), (10, 21, 32, 32)),
        "default": (LDN(21), (14, 3, 96, 96), (14, 21, 24, 24)),
    }
    inputs = {name: [torch.rand(shape, device=device) for shape in shapes] for name, (_, *shapes) in networks.items()}
    seconds = {name: step_seconds(net.to(device), inputs[name]) for name, (net, *_) in networks.items()}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    slowness = step_seconds(LDN(21), [x.cpu() for x in inputs["default"]]) / REFERENCE
    torch.set_num_threads(threads)
    return seconds, slowness


def step_seconds(net: nn.Module, inputs: list[Tensor]) -> float:
    """Return the median time of three optimiser steps."""
    optimiser, times = torch.optim.Adam(net.parameters()), []
    for _ in range(4):  # the first one allocates memory
        start = time.perf_counter()
        net(*inputs).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
        if inputs[0].is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[1]


def run_all(steps: list[Step], seconds: list[float], record: Path) -> None:
    """Run the programs one after the other; each one's progress is below a line about the whole.

    seconds: that each takes. record: of those that are finished, which after a stop find their results at once, unless
    they are called with --force.
    """
    finished = manifest.read(record, otherwise="delete it; finished steps are found again").get("finished", [])
    is_done = [step.title in finished and "--force" not in step.flags for step in steps]
    needed = [0.0 if done else of_step for done, of_step in zip(is_done, seconds, strict=True)]
    spent = planned = 0.0
    for number, step in enumerate(steps):
        pace = max(1.0, spent / planned) if planned else 1.0  # slower than planned
        left = max(1, round(sum(needed[number:]) * pace / 60))
        plural = "s" * (left > 1)
        print(f"\nstep {number + 1} of {len(steps)}, about {left} minute{plural} left: {step.title}", flush=True)
        start = time.monotonic()
        run(step.program, step.flags)
        if not is_done[number]:
            spent, planned = spent + time.monotonic() - start, planned + needed[number]
        finished = list(dict.fromkeys([*finished, step.title]))
        manifest.write(record, {"finished": finished})


def run(program: str, flags: str) -> None:
    """Run a program of this repository and wait for its end, also after a signal, which it answers itself.

    Ctrl-C reaches all processes of a terminal; SIGTERM is passed on. Ends with RESUMABLE after a signal, and with the
    exit code of a program that fails.
    """
    heard = []

    def hear(number: int, _: FrameType | None) -> None:
        heard.append(number)
        if number == signal.SIGTERM:
            process.terminate()

    process = subprocess.Popen([sys.executable, program, *flags.split()])
    former = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    code = process.wait()
    for number, handler in former.items():
        signal.signal(number, handler)
    if heard:
        print("stopped; the same command continues", file=sys.stderr)
        sys.exit(RESUMABLE)
    if code:
        sys.exit(code if code > 0 else 128 - code)


def draw(published: Record, default: Record, plan: dict) -> None:
    """Print and write the table, and draw strip.png: the default recipe first."""
    restored = {name: restored_pictures(OUT / name, default) for name in ("trained", "shipped")}
    truth = restored_pictures(DEMO / "test/sharp_data", default)
    text = table(lines(published.rows, default.rows, {k: mean_score(v, truth) for k, v in restored.items()}, plan))
    with replacing(OUT / "table.txt") as file:
        file.write(text.encode())
    columns = {
        "blurry picture": {name: published.outputs(name)["blurry"] for name in published.samples()},
        "LDN trained here": restored["trained"],
        "model/LDN.pth": restored["shipped"],
        "published recipe": {name: published.outputs(name)["LDN"] for name in published.samples()},
        "truth": truth,
    }
    rows = [[column[name] for column in columns.values()] for name in published.samples()]
    write_image(OUT / "strip.png", side_by_side(list(columns), rows))
    print(f"{text}\npictures, video and report: {OUT}")


def restored_pictures(folder: Path, record: Record) -> dict[str, np.ndarray]:
    """Read the only picture of every test sample, [H,W,3] uint8, below a folder of a data set or of results."""
    names = dict.fromkeys(sample for sample, _ in record.values if " " not in sample)
    paths = {name: [*folder.glob(f"{name}.png"), *folder.glob(f"{name}/*.png")] for name in names}
    return {name: read_image(path) for name, (path,) in paths.items()}


def mean_score(pictures: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean PSNR and SSIM of pictures against the truth of the same names."""
    batches = ([x[name] for name in truth] for x in (pictures, truth))
    image, sharp = (torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2) / 255 for batch in batches)
    return {metric: value.mean().item() for metric, value in measure(image, sharp).items()}


def lines(published: Rows, default: Rows, restored: Rows, plan: dict) -> list[tuple[str, dict[str, float], str]]:
    """Return the rows of the table: title, metrics, and why the row is no better than those above, if it is not."""
    steps = {name: f"{plan['epochs'][name] * EPOCH[name]:,} steps" for name in EPOCH}
    return [
        ("blurry picture", published["blurry"], ""),
        ("closed form (SDM), spike counts", published["SDM"], "spike counts are noisy"),
        ("teacher: closed form, BSN and SR", published["teacher"],
         f"BSN and SR were trained for {steps['bsn']} and {steps['sr']} only"),
        ("LDN, published recipe", published["LDN"],
         f"trained for {steps['published']} only; the authors' weights: 23.66 dB"),
        ("closed form, ISI intensity", default["SDM ISI"], "nothing trained"),
        ("closed form, MFSR", default["SDM MFSR"], "nothing trained"),
        ("LDN, default recipe", default["LDN"], f"trained for {steps['default']} only"),
        ("the same, corrected along motion", restored["trained"], "flow fails"),
        ("model/LDN.pth, corrected along motion", restored["shipped"], "other scenes than those trained on here"),
    ]  # fmt: skip


def table(rows: list[tuple[str, dict[str, float], str]]) -> str:
    """Lay out the rows, and say of one that is no better than all above it why."""
    best, text = 0.0, [f"{'':38}{'PSNR':>6}{'SSIM':>8}"]
    for title, scores, why in rows:
        note = f"   {why}" if scores["psnr"] <= best else ""
        text.append(f"{title:38}{scores['psnr']:6.2f}{scores['ssim']:8.3f}{note}")
        best = max(best, scores["psnr"])
    return "\n".join(text)


if __name__ == "__main__":
    program(main, Options, __doc__)
