"""What the checks of a device share: its setting, their results, and a training run."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch

from codes.cli import parse
from codes.recipe import RECIPES
from codes.reporting.run_results import read_curves

PASSED, FAILED, NOT_RUN = "passed", "FAILED", "not run"
NETWORK_STAGES = {"BSN": "train_bsn", "SR": "train_sr"}
STAGES = (*NETWORK_STAGES, *(f"LDN {recipe}" for recipe in RECIPES))
# Copies of weight files in model/.
WEIGHTS = {
    "bsn.pth": "published_recipe/BSN.pth",
    "sr.pth": "published_recipe/SR.pth",
    "ldn_published.pth": "published_recipe/LDN.pth",
    "ldn_isi.pth": "LDN_fast.pth",
    "ldn_resim.pth": "LDN.pth",
}
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Result:
    """One line of the report."""

    check: str
    verdict: str
    found: str
    accepted: str = ""


@dataclass(frozen=True)
class Setting:
    """The device, its reference (the CPU), and the data that were rendered for the checks."""

    device: torch.device
    folder: Path
    short: bool
    steps: int
    side: int  # of the crops of a training, in picture pixels
    losses: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)  # of finished runs

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def precisions(self) -> tuple[str, ...]:
        """List the precisions that are checked on the device."""
        return precisions(self.device)


def precisions(device: torch.device) -> tuple[str, ...]:
    """List the precisions of a device. A CPU has no TF32, and one without AVX-512 takes minutes for bf16."""
    if device.type == "cuda":
        return PRECISIONS
    return ("fp32", "bf16") if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else ("fp32",)


def judge(check: str, value: float, limit: float, *, unit: str = "") -> Result:
    """Return a result that passed if `value` is at most `limit`."""
    verdict = PASSED if value <= limit else FAILED
    return Result(check, verdict, f"{value:.3g}{unit}", f"at most {limit:g}{unit}")


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(setting: Setting, stage: str, name: str, *words: str, device: str = "", precision: str = "fp32") -> Path:
    """Train a stage; return the folder of the run."""
    return run_stage(setting, stage, name, *training_flags(setting, stage), *words, device=device, precision=precision)


def run_stage(setting: Setting, stage: str, name: str, *words: str, device: str = "", precision: str = "fp32") -> Path:
    """Run the training script of a stage with these flags; return the folder of the run. Its output goes to a log."""
    arguments = ["--save_folder", str(setting.folder / "log"), "--exp_name", name, "--precision", precision]
    arguments += ["--device", device or str(setting.device), *data_flags(setting, stage), *words]
    module = import_module(NETWORK_STAGES.get(stage, "train_deblur"))
    quietly(setting, lambda: module.main(parse(module.Options, "", arguments)))
    return setting.folder / "log" / folder_of(stage) / name


def folder_of(stage: str) -> str:
    """Return the name of the run folder of a stage."""
    return {"BSN": "bsn", "SR": "sr"}.get(stage, "deblur")


def data_flags(setting: Setting, stage: str) -> list[str]:
    """Return the flags of a stage that name its data and its recipe."""
    recipe = RECIPES.get(stage.removeprefix("LDN "), {})
    data = "resimulated" if recipe and is_resimulated(recipe) else "demo"
    flags = ["--base_folder", str(setting.folder / data), "--workers", "0"]
    if recipe:
        flags += ["--recipe", stage.removeprefix("LDN ")]
        if recipe["teacher"] == "published":
            flags += ["--bsn_path", str(setting.folder / "bsn.pth"), "--sr_path", str(setting.folder / "sr.pth")]
    return flags


def training_flags(setting: Setting, stage: str) -> list[str]:
    """Return the flags of a stage that only its training uses."""
    flags = ["--evaluate_every", "0", "--bs", "2", "--roi_size", str(setting.side), "--steps", str(setting.steps)]
    flags += ["--epochs", "1000", "--augment"]
    return flags if stage in NETWORK_STAGES else [*flags, "--tea_loss", "ssim"]


def is_resimulated(recipe: dict[str, str]) -> bool:
    """Say whether a recipe trains on re-simulated scenes."""
    return recipe["teacher"] == "resim"


def losses_of(run: Path) -> list[float]:
    """Return the sum of the losses of a run at every recorded step."""
    curves = [points for name, points in read_curves(run).items() if name.startswith("train/") and name != "train/lr"]
    return [sum(value for _, value in points) for points in zip(*curves, strict=True)]


def trained_losses(setting: Setting, stage: str, precision: str, *, reference: bool = False) -> list[float]:
    """Return the losses of a stage trained on the device, or as reference on one thread of the CPU; trains once."""
    key = (stage, precision, "reference" if reference else "device")
    if key not in setting.losses:
        name = "-".join(key).replace(" ", "_")
        if reference:
            with threads(1):
                run = train(setting, stage, name, device="cpu", precision=precision)
        else:
            run = train(setting, stage, name, precision=precision)
        setting.losses[key] = losses_of(run)
    return setting.losses[key]


def largest_difference(losses: list[float], reference: list[float]) -> float:
    """Return the largest relative difference of two series of losses."""
    return max(abs(one - other) / max(abs(other), 1e-12) for one, other in zip(losses, reference, strict=True))


def quietly(setting: Setting, call: object, *arguments: object) -> object:
    """Call a function; what it prints is appended to check.log."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            return call(*arguments)
    finally:
        with open(setting.folder / "check.log", "a", encoding="utf-8") as file:
            file.write(text.getvalue())
