"""What the tests of training share: a stage run on tiny data, and what it leaves."""

import csv
from pathlib import Path

import torch

import train_bsn
import train_deblur
import train_sr
from codes.reporting.run_results import read_curves

Tensors = dict[str, torch.Tensor]

STAGES = {"bsn": (train_bsn, "BSN"), "sr": (train_sr, "SR"), "deblur": (train_deblur, "LDN")}
ISI = {"recipe": "isi", "bsn_path": "", "sr_path": ""}  # options of train_deblur; its teacher mfsr keeps labels
LIVE = ISI | {"teacher": "sdm"}


def run(stage: str, data: Path, weights: dict[str, str], **options: object) -> Path:
    """Train a stage on `data` and return its run folder."""
    module, _ = STAGES[stage]
    settings = {"base_folder": str(data), "save_folder": str(data.parent / "log"), "exp_name": "tiny", "device": "cpu"}
    settings |= {"epochs": 3, "bs": 2, "roi_size": (32,), "workers": 0, "evaluate_every": 0} | options
    if stage == "deblur":
        settings |= weights | {"tea_loss": "ssim"} | options
    module.main(module.Options(**settings))
    return Path(settings["save_folder"]) / stage / settings["exp_name"]


def state(folder: Path) -> dict:
    return torch.load(folder / "checkpoints/state.pth", weights_only=True)


def lines(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def losses(folder: Path, name: str) -> list[float]:
    """Return the recorded means of a term of the loss."""
    return [value for _, value in read_curves(folder)[f"train/{name}"]]


def update_difference(start: Tensors, one: Tensors, other: Tensors) -> float:
    """Return the distance between the weights `one` and `other`, relative to the distance of `one` from `start`.

    Adam divides a gradient by its size, so that rounding moves single weights whose gradient is almost 0 by as much as
    the learning rate. The distance of all weights is the smaller the fewer these are.
    """
    flat = [torch.cat([tensor.double().flatten() for tensor in each.values()]) for each in (start, one, other)]
    return float((flat[2] - flat[1]).norm() / (flat[1] - flat[0]).norm())


def assert_same(one: object, other: object) -> None:
    """Compare nested dicts, numbers and tensors to the bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other
