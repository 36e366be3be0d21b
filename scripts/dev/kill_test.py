"""Kill trainings at random times, resume them, and compare the results with an uninterrupted training.

    OMP_NUM_THREADS=1 python scripts/dev/kill_test.py --kills 200 --output log/kills.txt

Every stage, and LDN by every recipe, trains on tiny scenes on the CPU. A run is killed (SIGKILL) at a random time, each
second one during a save; the same command then resumes it. Weights, optimiser, tables, pictures and curves must equal
those of the uninterrupted run bit for bit. Do not change the repository meanwhile: weights hold its commit. Each trial
is a fork of this process, so that Python and PyTorch start only once.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

import train_bsn
import train_deblur
import train_sr
from codes.archives import read_tensors
from codes.cli import option, parse, program
from codes.engine.checkpoint import digest
from codes.engine.evaluate import lpips_fault
from codes.errors import InputError
from codes.files import replacing
from codes.networks import BSN, EDSR
from codes.recipe import RECIPES
from scripts import make_demo, resimulate

# Training script and folder of its runs; LDN by each recipe.
STAGES = {"bsn": (train_bsn, "bsn"), "sr": (train_sr, "sr")}
STAGES |= {recipe: (train_deblur, "deblur") for recipe in RECIPES}
RENAMED = {"deblur": "published", "rates": "isi", "fused": "resim"}


@dataclass(frozen=True)
class Options:
    kills: int = option(200, "number of kills, distributed over the stages")
    stages: tuple[str, ...] = option(
        tuple(STAGES),
        "stages and recipes of stage 3 to train",
        choices=tuple(STAGES),
        renamed={old: new for old, new in RENAMED.items() if new in STAGES},
    )
    seed: int = option(0, "random seed of the times of the kills")
    output: str = option("log/kills.txt", "file of the results")
    force: bool = option(False, "overwrite --output")


def main(o: Options) -> None:
    if o.kills < 1:
        raise InputError(f"--kills {o.kills}: at least 1")
    if Path(o.output).exists() and not o.force:
        raise InputError(f"{o.output}: exists already; choose another --output, or overwrite it with --force")
    rng, lines = random.Random(o.seed), []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_inputs(folder)
        expected, duration = {}, {}
        for stage in dict.fromkeys(o.stages):
            start = time.monotonic()
            finish(train(stage, folder, f"{stage}-reference"), folder)
            duration[stage] = time.monotonic() - start
            expected[stage] = content(folder / "log" / STAGES[stage][1] / f"{stage}-reference")
        for number in range(o.kills):
            stage, saving = o.stages[number % len(o.stages)], number // len(o.stages) % 2 == 1
            trial = try_kill(stage, folder, rng, duration[stage], expected[stage], saving=saving)
            lines.append(f"{number + 1:3d} {stage:9s} {trial}")
            print(lines[-1], flush=True)
    head = summary(lines, o.seed)
    print(head)
    with replacing(o.output) as file:
        file.write("\n".join([head, "", *lines, ""]).encode())
    if any("DIFFERS" in line for line in lines):
        sys.exit(1)


def make_inputs(folder: Path) -> None:
    """Render tiny scenes, re-simulate them, and write random weights of BSN and EDSR."""
    make_demo.main(make_demo.Options(output=str(folder / "data"), train=3, test=2, size=32))
    resimulate.main(resimulate.Options(base_folder=(str(folder / "data"),), output=str(folder / "resimulated")))
    torch.manual_seed(0)
    for name, net in (("bsn", BSN()), ("sr", EDSR())):
        torch.save(net.state_dict(), folder / f"{name}.pth")
    lpips_fault()  # once for all forks: if its weights cannot be downloaded, trying takes long


def try_kill(
    stage: str, folder: Path, rng: random.Random, duration: float, expected: dict[str, object], *, saving: bool
) -> str:
    """Kill a run, resume it and compare it with the expected content; return a description."""
    while not (moment := kill(stage, folder, rng, duration, saving=saving)):
        pass  # the run had ended before
    run = folder / "log" / STAGES[stage][1] / f"{stage}-run"
    unfinished = len(list(run.rglob("*.partial")))
    finish(train(stage, folder, f"{stage}-run"), folder)
    found = content(run)
    differ = sorted(name for name in expected.keys() | found if expected.get(name) != found.get(name))
    differ += [str(path.relative_to(run)) for path in run.rglob("*.partial")]
    verdict = f"DIFFERS in {', '.join(differ)}" if differ else f"{len(found)} files and curves equal"
    return f"killed {moment}{', one file incomplete' * bool(unfinished)}; resumed: {verdict}"


def summary(lines: list[str], seed: int) -> str:
    """Count the trials, by stage, and those that differ."""
    stages = ", ".join(f"{name} {count}" for name, count in Counter(line.split()[1] for line in lines).items())
    incomplete, wrong = (sum(word in line for line in lines) for word in ("file incomplete", "DIFFERS"))
    return (
        f"{len(lines)} kills ({stages}; {incomplete} left an incomplete file): {len(lines) - wrong} exact resumes, "
        f"{wrong} differ. torch {torch.__version__}, seed {seed}"
    )


def command(stage: str, folder: Path, name: str) -> list[str]:
    """Return the flags of a training."""
    data = folder / ("resimulated" if stage == "resim" else "data")
    side = "16" if stage == "resim" else "32"
    flags = ["--base_folder", str(data), "--save_folder", str(folder / "log"), "--exp_name", name, "--device", "cpu"]
    flags += ["--epochs", "3", "--evaluate_every", "2", "--bs", "2", "--roi_size", side, "--workers", "0"]
    flags += ["--save_every", "0"]
    if stage in RECIPES:
        flags += ["--recipe", stage, "--tea_loss", "ssim"]
    if stage in RECIPES and RECIPES[stage]["teacher"] == "published":
        flags += ["--bsn_path", f"{folder}/bsn.pth", "--sr_path", f"{folder}/sr.pth"]
    return flags


def train(stage: str, folder: Path, name: str) -> int:
    """Start a training as another process; return its id."""
    module, _ = STAGES[stage]
    options = parse(module.Options, "", command(stage, folder, name))
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        with open(folder / "output.txt", "w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            module.main(options)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def kill(stage: str, folder: Path, rng: random.Random, duration: float, *, saving: bool) -> str:
    """Start a new run and kill it; return when, or nothing if it ended before."""
    run = folder / "log" / STAGES[stage][1] / f"{stage}-run"
    shutil.rmtree(run, ignore_errors=True)
    process, start = train(stage, folder, run.name), time.monotonic()
    checkpoints, after, saves = run / "checkpoints", rng.uniform(0, duration), rng.randrange(8)
    seen: set[str] = set()
    while True:
        if os.waitpid(process, os.WNOHANG) != (0, 0):
            return ""
        if saving:
            seen |= {path.name for path in checkpoints.glob(".*.partial")}
            if len(seen) > saves:
                break
        elif time.monotonic() - start > after:
            break
        time.sleep(0.0002)
    moment = f"after {time.monotonic() - start:.3f} s"
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    state = checkpoints / "state.pth"
    step = read_tensors(state)["progress"]["step"] if state.exists() else "none"
    return f"{moment}{' in save ' + str(saves + 1) if saving else ''}, state of step {step}"


def finish(process: int, folder: Path) -> None:
    """Wait for a training to end."""
    if code := os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
        sys.exit(f"exit code {code}\n{(folder / 'output.txt').read_text()}")


def content(run: Path) -> dict[str, object]:
    """Return the results of a run: tensors, tables, pictures, curves; without times, paths and speed."""
    found: dict[str, object] = {}
    for path in run.rglob("*"):
        name = str(path.relative_to(run))
        if path.suffix == ".pth":
            found[name] = digest(read_tensors(path))
        elif path.suffix in (".csv", ".png"):
            found[name] = path.read_bytes()
    found.pop("checkpoints/state.before.pth", None)  # a resumed run may have written its last state twice
    events = EventAccumulator(str(run), size_guidance={SCALARS: 0}).Reload()
    for name in events.Tags()["scalars"]:
        if not name.startswith("speed/"):
            found[f"curve {name}"] = [(event.step, event.value) for event in events.Scalars(name)]
    return found


if __name__ == "__main__":
    program(main, Options, __doc__)
