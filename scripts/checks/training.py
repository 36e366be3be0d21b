"""Checks of training on the device: losses in every precision, compilation, caches, resuming, several processes."""

import subprocess
import sys
from pathlib import Path

import torch

from codes.engine import distributed
from codes.errors import InputError
from codes.recipe import RECIPES
from scripts.checks.common import (
    NETWORK_STAGES,
    NOT_RUN,
    STAGES,
    Result,
    Setting,
    data_flags,
    judge,
    largest_difference,
    losses_of,
    train,
    trained_losses,
    training_flags,
)
from scripts.checks.equality import restore

# Largest relative difference of a loss to the CPU's in float32, over all recorded steps, by precision.
ACCEPTED = {"fp32": 0.02, "tf32": 0.1, "bf16": 0.15}
SAME = 1e-3  # relative difference of losses of two runs of one device, which may add up in another order
READ_EVERY = 10  # steps between recorded losses
COMPILED = 0.5  # root mean square difference of compiled restoration, in grey levels of 255
ROOT = Path(__file__).resolve().parents[2]


def losses(setting: Setting) -> list[Result]:
    """Train every stage in every precision next to a float32 training on the CPU."""
    results = []
    for stage in STAGES:
        try:
            expected = trained_losses(setting, stage, "fp32", reference=True)
        except InputError as error:
            results.append(Result(f"training of {stage}", NOT_RUN, str(error)))
            continue
        for precision in setting.precisions():
            found = trained_losses(setting, stage, precision)
            result = judge(
                f"training of {stage}, {precision}", largest_difference(found, expected), ACCEPTED[precision]
            )
            text = f"last loss {found[-1]:.4g}, CPU fp32 {expected[-1]:.4g}; largest difference {result.found}"
            results.append(Result(result.check, result.verdict, text, result.accepted))
    return results


def device_cache(setting: Setting) -> list[Result]:
    """Train from data held on the device: the losses are those of data read from disk."""
    expected = trained_losses(setting, "SR", "fp32")
    cache = "device" if setting.is_cuda else "ram"
    found = losses_of(train(setting, "SR", "cached", "--cache", cache))
    return [judge(f"--cache {cache}: losses", largest_difference(found, expected), SAME)]


def resume(setting: Setting) -> list[Result]:
    """Stop a training and resume it: the losses are those of an uninterrupted one, on a GPU with --deterministic."""
    stages, words = ((*NETWORK_STAGES, STAGES[2]), ("--deterministic",)) if setting.is_cuda else (("SR",), ())
    results, stop = [], str(READ_EVERY * (setting.steps // (2 * READ_EVERY)))
    for stage in stages:
        expected = losses_of(train(setting, stage, "uninterrupted", *words))
        train(setting, stage, "resumed", *words, "--steps", stop)
        found = losses_of(train(setting, stage, "resumed", *words))
        check = " ".join((f"stop and resume {stage}", *words))
        results.append(judge(f"{check}: losses", largest_difference(found, expected), 0.0))
    return results


def compilation(setting: Setting) -> list[Result]:
    """Train and restore with --compile, on a GPU by CUDA graphs."""
    if setting.short:
        return [Result("--compile", NOT_RUN, "takes minutes; not in the short form")]
    try:
        distributed.check_compiler(setting.device)
    except InputError as error:
        return [Result("--compile", NOT_RUN, str(error))]
    results = []
    for stage in (*NETWORK_STAGES, STAGES[2]):
        expected = trained_losses(setting, stage, "fp32")
        found = losses_of(train(setting, stage, "compiled", "--compile"))
        results.append(judge(f"--compile, training of {stage}", largest_difference(found, expected), ACCEPTED["fp32"]))
    device, recipe = str(setting.device), next(iter(RECIPES))
    eager, compiled = (restore(setting, f"ldn {recipe}", device, "fp32", *words) for words in ((), ("--compile",)))
    difference = float(((compiled - eager) ** 2).mean() ** 0.5)
    return [*results, judge("--compile, deblur.py", difference, COMPILED, unit="/255")]


def two_processes(setting: Setting) -> list[Result]:
    """Train on two GPUs, or in two processes of the CPU: the losses are those of one process."""
    check = "two processes: losses"
    if setting.short:
        return [Result(check, NOT_RUN, "not in the short form")]
    if setting.is_cuda and torch.cuda.device_count() < 2:
        return [Result(check, NOT_RUN, f"{torch.cuda.device_count()} GPU, two are needed")]
    expected = trained_losses(setting, "SR", "fp32")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(ROOT / "train_sr.py"), *data_flags(setting, "SR"), *training_flags(setting, "SR")]
    command += ["--exp_name", "processes", "--precision", "fp32"]
    command += ["--save_folder", str(setting.folder / "log"), "--device", setting.device.type]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip().splitlines()[-1]}")
    found = losses_of(setting.folder / "log/sr/processes")
    return [judge(check, abs(found[-1] - expected[-1]) / abs(expected[-1]), ACCEPTED["fp32"])]
