"""Checks that the device restores and measures what the CPU does."""

import dataclasses
from pathlib import Path

import numpy as np

from codes.cli import parse
from codes.data.images import read_image
from codes.engine.tables import read_means
from codes.recipe import RECIPES
from scripts import deblur
from scripts.checks.common import Result, Setting, judge, quietly, run_stage, threads

METHODS = next(field for field in dataclasses.fields(deblur.Options) if field.name == "method").metadata["choices"]
CASES = (*(f"ldn {recipe}" for recipe in RECIPES), *(method for method in METHODS if method != "ldn"))
# Largest root mean square difference of restored pictures in grey levels of 255, by precision.
ACCEPTED = {"fp32": 0.1, "tf32": 0.5, "bf16": 2.0}
DECIBELS = 0.01  # largest difference of the PSNR of an evaluation


def restorations(setting: Setting) -> list[Result]:
    """Compare every restoration method, and LDN of every recipe, in every precision with the CPU in float32."""
    results = []
    for case in CASES:
        with threads(1):
            expected = restore(setting, case, "cpu", "fp32")
        uses_network = case == "teacher" or case.startswith("ldn")
        for precision in setting.precisions() if uses_network else ("fp32",):
            found = restore(setting, case, str(setting.device), precision)
            difference = float(np.sqrt(np.mean((found - expected) ** 2)))
            check = f"deblur.py --method {case}, {precision}"
            results.append(judge(check, difference, ACCEPTED[precision], unit="/255"))
    return results


def restore(setting: Setting, case: str, device: str, precision: str, *words: str) -> np.ndarray:
    """Restore two target times of a scene with deblur.py; return the pictures, float64."""
    method, _, recipe = case.partition(" ")
    picture = next((setting.folder / "demo/test/blur_data").rglob("*.png"))
    spikes = Path(str(picture).replace("blur_data", "spike_data")).with_suffix(".dat")
    out = setting.folder / "restored" / "-".join((method, recipe, device.replace(":", ""), precision, *words))
    arguments = [str(picture), str(spikes), "--method", method, "--out", str(out), "--times", "44", "68"]
    arguments += ["--device", device, *words]
    if method in ("ldn", "teacher"):
        arguments += ["--precision", precision]
    if method == "teacher":
        arguments += ["--bsn_path", str(setting.folder / "bsn.pth"), "--sr_path", str(setting.folder / "sr.pth")]
    if recipe:
        arguments += ["--deblur_path", str(setting.folder / f"ldn_{recipe}.pth")]
    quietly(setting, deblur.main, parse(deblur.Options, "", [*arguments, "--force"]))
    return np.stack([read_image(path) for path in sorted(out.glob("*.png"))]).astype(np.float64)


def evaluations(setting: Setting) -> list[Result]:
    """Compare the tables of `--test_mode` with the CPU's."""
    flags = {"BSN": ("bsn_path", "bsn.pth"), "SR": ("sr_path", "sr.pth")}
    flags |= {f"LDN {recipe}": ("deblur_path", f"ldn_{recipe}.pth") for recipe in RECIPES}
    results = []
    for stage, (flag, weights) in flags.items():
        words = (f"--{flag}", str(setting.folder / weights))
        with threads(1):
            expected = means(setting, stage, "reference", *words, device="cpu")
        found = means(setting, stage, "device", *words, device=str(setting.device))
        differences = [abs(found[row]["psnr"] - line["psnr"]) for row, line in expected.items() if "psnr" in line]
        results.append(judge(f"evaluation of {stage}, fp32", max(differences), DECIBELS, unit=" dB"))
    return results


def means(setting: Setting, stage: str, name: str, *words: str, device: str) -> dict[str, dict[str, float]]:
    """Evaluate a stage; return the mean of every metric, by row."""
    run = run_stage(setting, stage, f"{stage} {name}".replace(" ", "-"), "--test_mode", *words, device=device)
    (found,) = run.glob("test-*/step-*")
    return read_means(found)
