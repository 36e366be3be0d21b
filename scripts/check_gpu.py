"""Check training and restoration on this machine's GPU against its CPU, and write a report.

    python scripts/check_gpu.py                  # at most 10 minutes; needs no data and no download
    python scripts/check_gpu.py --short          # half a minute
    python scripts/check_gpu.py --device cpu     # without a GPU: other threads and precisions of the CPU

Renders small scenes, then compares every stage, recipe and restoration method with the CPU, trains each stage in fp32,
tf32 and bf16, measures step times and memory, and tries --compile, --cache device, resuming and two processes.
Exit code 1 if any check fails. Please attach the report when you report a problem with a GPU.
"""

import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from codes.cli import option, program
from codes.engine import distributed
from codes.engine.provenance import versions
from codes.errors import InputError
from codes.files import replacing
from codes.recipe import MODEL
from scripts import make_demo, resimulate
from scripts.checks import equality, speed, training
from scripts.checks.common import FAILED, NOT_RUN, WEIGHTS, Result, Setting, precisions, quietly

CHECKS: dict[str, Callable[[Setting], list[Result]]] = {
    "restoration": equality.restorations,
    "evaluation": equality.evaluations,
    "training": training.losses,
    "cache": training.device_cache,
    "resume": training.resume,
    "speed": speed.steps,
    "compilation": training.compilation,
    "processes": training.two_processes,
}


@dataclass(frozen=True)
class Options:
    device: str = option("", "device to check: cpu, cuda, cuda:1 [cuda if available, else cpu]")
    output: str = option("", "report to write [log/check_gpu-DATE.md]")
    short: bool = option(False, "run fewer steps on smaller scenes, without compilation")
    minutes: float = option(10.0, "minutes after which no check starts; the rest is reported as not run")
    checks: tuple[str, ...] = option(tuple(CHECKS), "checks to run", choices=tuple(CHECKS))


def main(o: Options) -> None:
    path = Path(o.output or time.strftime("log/check_gpu-%Y%m%d-%H%M%S.md"))
    if path.exists():
        raise InputError(f"{path}: exists already; choose another --output")
    if not o.minutes > 0:
        raise InputError(f"--minutes {o.minutes:g}: has to be above 0")
    device, start = distributed.initialize(o.device), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        setting = Setting(device, Path(place), o.short, steps=20 if o.short else 50, side=32 if o.short else 64)
        render(setting)
        results = []
        for name in o.checks:
            late = time.monotonic() - start > 60 * o.minutes
            found = [Result(name, NOT_RUN, f"--minutes {o.minutes:g} had passed")] if late else attempt(name, setting)
            for result in found:
                print(f"{result.verdict:8s} {result.check}: {result.found}", flush=True)
            results += found
    text = report(device, results, time.monotonic() - start, short=o.short)
    with replacing(path) as file:
        file.write(text.encode())
    failed = sum(result.verdict == FAILED for result in results)
    print(f"{path}: {len(results)} results, {failed} failed")
    if failed:
        sys.exit(1)


def render(setting: Setting) -> None:
    """Render demo scenes, re-simulate them, and copy the weights of the networks."""
    folder, size = setting.folder, 64 if setting.short else 256
    demo = make_demo.Options(output=str(folder / "demo"), train=2 if setting.short else 4, test=1, size=size)
    quietly(setting, make_demo.main, demo)
    again = resimulate.Options(base_folder=(str(folder / "demo"),), output=str(folder / "resimulated"))
    quietly(setting, resimulate.main, again)
    # Trained weights: outputs of random ones are no pictures.
    for name, weights in WEIGHTS.items():
        shutil.copy(MODEL / weights, folder / name)


def attempt(name: str, setting: Setting) -> list[Result]:
    """Run a check; an error fails it and leaves the others to run."""
    try:
        return CHECKS[name](setting)
    except Exception as error:
        traceback.print_exc()
        return [Result(name, FAILED, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", "no error")]


def report(device: torch.device, results: list[Result], seconds: float, *, short: bool) -> str:
    """Write the report as Markdown: versions, device, one line for each result."""
    failed = [result for result in results if result.verdict == FAILED]
    skipped = [result for result in results if result.verdict == NOT_RUN]
    verdict = f"{len(failed)} of {len(results)} results FAILED" if failed else "no check failed"
    lines = [f"# check_gpu.py{' --short' * short}: {verdict}, {len(skipped)} not run", ""]
    lines += [f"- {name}: {value}" for name, value in (describe(device) | {"duration": f"{seconds:.0f} s"}).items()]
    if device.type == "cpu":
        lines.append("- no GPU was used: this report compares the CPU with itself, in other threads and precisions")
    if "bf16" not in precisions(device):
        lines.append("- bf16 was not run: this CPU has no fast arithmetic for it")
    lines += ["", "| check | verdict | found | accepted |", "| --- | --- | --- | --- |"]
    for result in results:
        cells = (result.check, result.verdict, result.found, result.accepted)
        lines.append("| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def describe(device: torch.device) -> dict[str, str]:
    """Return the names and versions of the device and of the software."""
    about = {"device": f"{device}, {platform.machine()}, {torch.get_num_threads()} CPU threads"}
    about["CPU capability"] = torch.backends.cpu.get_cpu_capability()
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about["GPU"] = (
            f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {torch.cuda.device_count()} found"
        )
        about["driver"] = driver()
        about["cuDNN"] = str(torch.backends.cudnn.version())
    about["CUDA of PyTorch"] = torch.version.cuda or "none"
    return about | {name: str(value) for name, value in versions().items()}


def driver() -> str:
    """Return the version of the NVIDIA driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown: nvidia-smi was not found"
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True).stdout.strip().replace("\n", ", ") or "unknown"


if __name__ == "__main__":
    program(main, Options, __doc__)
