"""Kill trainings at random moments, resume them, and compare all that they leave with a run that was never touched.

    OMP_NUM_THREADS=1 python scripts/dev/kill_test.py --kills 200 --output log/kills.txt

Every stage, LDN by each recipe, trains on tiny scenes on the CPU. A run is killed (SIGKILL) after a random time, every
other one in the middle of a save; the same command then goes on to its end. Weights, optimiser, tables, pictures and
curves have to be those of the untouched run, bit for bit, so the repository must not change meanwhile: weights note its
commit. Python and torch are started once: each trial is a fork.
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
from codes.cli import option, program
from codes.engine.checkpoint import digest
from codes.engine.evaluate import lpips_fault
from codes.files import replacing
from codes.networks import BSN, EDSR
from scripts import make_demo, refilm

# What is trained, and the folder of its runs; LDN by each recipe.
STAGES = {"bsn": (train_bsn, "bsn"), "sr": (train_sr, "sr")}
STAGES |= {name: (train_deblur, "deblur") for name in ("deblur", "rates", "fused")}


@dataclass(frozen=True)
class Options:
    kills: int = option(200, "runs to kill, over the stages in turn")
    stages: tuple[str, ...] = option(
        tuple(STAGES), "what to train; deblur: the published recipe", choices=tuple(STAGES)
    )
    seed: int = option(0, "of the moments")
    output: str = option("log/kills.txt", "where what happened is written")


def main(o: Options) -> None:
    rng, lines, wrong = random.Random(o.seed), [], 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_demo.main(make_demo.Options(output=str(folder / "data"), train=3, test=2, size=32))
        refilm.main(refilm.Options(base_folder=(str(folder / "data"),), output=str(folder / "refilmed")))
        torch.manual_seed(0)
        for name, net in (("bsn", BSN()), ("sr", EDSR())):
            torch.save(net.state_dict(), folder / f"{name}.pth")
        lpips_fault()  # where its weights cannot be had, trying takes long
        expected, duration = {}, {}
        for stage in o.stages:
            start = time.monotonic()
            finish(train(stage, folder, f"{stage}-through"), folder)
            duration[stage] = time.monotonic() - start
            expected[stage] = content(folder / "log" / STAGES[stage][1] / f"{stage}-through")
        for number in range(o.kills):
            stage, saving = o.stages[number % len(o.stages)], number // len(o.stages) % 2 == 1
            while not (moment := kill(stage, folder, rng, duration[stage], saving=saving)):
                pass  # it had ended before
            run = folder / "log" / STAGES[stage][1] / f"{stage}-run"
            left = len(list(run.rglob("*.partial")))
            finish(train(stage, folder, f"{stage}-run"), folder)
            found = content(run)
            differ = sorted(
                name for name in expected[stage].keys() | found if expected[stage].get(name) != found.get(name)
            )
            differ += [str(path.relative_to(run)) for path in run.rglob("*.partial")]
            wrong += bool(differ)
            lines.append(
                f"{number + 1:3d} {stage:6s} killed {moment}{', a file half written' * bool(left)}; resumed: "
                + (f"DIFFERS in {', '.join(differ)}" if differ else f"{len(found)} files and curves equal")
            )
            print(lines[-1], flush=True)
    totals = Counter(line.split()[1] for line in lines)
    half = sum("half written" in line for line in lines)
    stages = ", ".join(f"{name} {count}" for name, count in totals.items())
    head = (
        f"{len(lines)} kills ({stages}; {half} left a file half written): {len(lines) - wrong} exact resumes, "
        f"{wrong} others. torch {torch.__version__}, seed {o.seed}"
    )
    print(head)
    with replacing(o.output) as file:
        file.write("\n".join([head, "", *lines, ""]).encode())
    if wrong:
        sys.exit(1)


def train(stage: str, folder: Path, name: str) -> int:
    """Start a training as another process; return its id."""
    options = {"base_folder": f"{folder}/data", "save_folder": f"{folder}/log", "exp_name": name, "device": "cpu"}
    options |= {"epochs": 3, "evaluate_every": 2, "bs": 2, "roi_size": (32,), "workers": 0, "save_every": 0.0}
    if stage == "deblur":
        options |= {"bsn_path": f"{folder}/bsn.pth", "sr_path": f"{folder}/sr.pth"}
    if stage in ("rates", "fused"):
        options |= {"recipe": stage}
    if stage == "fused":
        options |= {"base_folder": f"{folder}/refilmed", "roi_size": (16,)}
    module, _ = STAGES[stage]
    if module is train_deblur:
        options |= {"tea_loss": "ssim"}
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        with open(folder / "told.txt", "w") as told:
            os.dup2(told.fileno(), 1)
            os.dup2(told.fileno(), 2)
            module.main(module.Options(**options))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def kill(stage: str, folder: Path, rng: random.Random, duration: float, *, saving: bool) -> str:
    """Start a run anew and kill it; say when, nothing if it ended before."""
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
        sys.exit(f"exit code {code}\n{(folder / 'told.txt').read_text()}")


def content(run: Path) -> dict[str, object]:
    """Return what a run left, without times, paths and speed: tensors, tables, pictures, curves."""
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
