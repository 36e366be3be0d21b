"""`--recipe reference` trains as the reference implementation: its losses, rates and weights in the first steps."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import train_bsn
import train_deblur
import train_sr
from codes.data.batches import unpack
from codes.data.images import write_image
from codes.data.spikes import write_spikes
from codes.engine.loss_meter import LossMeter
from codes.evaluation.lpips import TRUNKS
from codes.networks import read_weights

GOLDEN = Path(__file__).resolve().parent / "golden_training"
FACTS = json.loads((GOLDEN / "training.json").read_text())
# Adam divides by the size of gradients that are almost zero, so that rounding grows from step to step.
LATER, WEIGHTS = 2e-3, 2e-3
FIRST = {torch.float32: 1e-5, torch.float64: 1e-6}


def start(net: nn.Module, base: int) -> dict[str, torch.Tensor]:
    """Return the state dict with the start weights that tests/golden_training/README.md defines."""
    filled = {}
    for k, (name, tensor) in enumerate(net.state_dict().items()):
        if name.startswith(("sub_mean", "add_mean")):
            filled[name] = tensor
            continue
        scale = 0.01 if tensor.ndim == 1 else 1 / np.sqrt(tensor[0].numel())
        normal = np.random.RandomState(base + k).standard_normal(tuple(tensor.shape))
        filled[name] = torch.from_numpy(np.float32(scale) * normal.astype(np.float32))  # a product in float32
    return filled


@pytest.fixture(params=[torch.float64], ids=["float64"])
def precision(request):
    """Compute in this type of numbers."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@pytest.fixture
def options(tmp_path, monkeypatch) -> dict:
    """Write the golden samples as a data set, and the random VGG16 where torchvision reads it."""
    with np.load(GOLDEN / "training.npz") as arrays:
        spikes, blur = unpack(torch.from_numpy(arrays["spikes"]), 16).numpy(), arrays["blur"]
    for i in range(2):
        write_spikes(tmp_path / f"data/train/spike_data/a/00000{i}.dat", spikes[i])
        write_image(tmp_path / f"data/train/blur_data/a/00000{i}.png", blur[i].transpose(1, 2, 0))
    place = tmp_path / "torch/hub/checkpoints"
    place.mkdir(parents=True)
    torch.save(start(torchvision.models.vgg16(weights=None), 9000), place / TRUNKS["vgg"])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    settings = {"base_folder": str(tmp_path / "data"), "save_folder": str(tmp_path / "log"), "exp_name": "golden"}
    settings |= {"recipe": "reference", "roi_size": (0,), "bs": 2, "evaluate_every": 0, "device": "cpu", "workers": 0}
    return settings


def steps_of(
    module, monkeypatch, network: str, base: int, **options
) -> tuple[list[dict], dict[str, torch.Tensor], str]:
    """Run a stage from the golden start weights; return the terms and rate of every step, the last weights, their file.

    Only the initialisation of the network is replaced.
    """
    rows, add = [], LossMeter.add

    def noted(self, step, terms, samples, rate):
        rows.append({name: term.item() for name, term in terms.items()} | {"lr": rate})
        add(self, step, terms, samples, rate)

    built = getattr(module, network)

    def filled(*arguments, **settings):
        net = built(*arguments, **settings)
        weights = start(net, base)
        if network == "LDN":
            weights["pred.bias"] = torch.full((3,), 0.5)
        net.load_state_dict(weights)
        return net

    with monkeypatch.context() as patch:
        patch.setattr(LossMeter, "add", noted)
        patch.setattr(module, network, filled)
        module.main(module.Options(**options))
    stage, name = {"BSN": ("bsn", "BSN"), "EDSR": ("sr", "SR"), "LDN": ("deblur", "LDN")}[network]
    folder = Path(options["save_folder"]) / stage / options["exp_name"] / "checkpoints"
    path = next(path for path in sorted(folder.glob(f"{name}_*.pth")))
    return rows, read_weights(path), str(path)


def check_losses(found: list[float], golden: list[float], precision: torch.dtype) -> None:
    assert len(found) == len(golden)
    assert found[0] == pytest.approx(golden[0], rel=FIRST[precision])
    assert found == pytest.approx(golden, rel=LATER)


def check_weights(found: dict[str, torch.Tensor], golden: dict[str, list[float]]) -> None:
    """Compare the sum of each tensor, relative to the sum of its absolute values, and that."""
    assert found.keys() == golden.keys()
    for name, (total, absolute) in golden.items():
        assert found[name].double().abs().sum().item() == pytest.approx(absolute, rel=WEIGHTS), name
        assert abs(found[name].double().sum().item() - total) <= WEIGHTS * absolute, name


def test_the_first_steps_are_those_of_the_reference(options, monkeypatch, precision):
    """All three stages in a row, each with the networks that the one before has trained."""
    rows, weights, bsn = steps_of(train_bsn, monkeypatch, "BSN", 100, **options, steps=10)
    check_losses([row["self"] for row in rows], FACTS["bsn"]["losses"], precision)
    check_weights(weights, FACTS["bsn"]["sums"])
    rows, weights, sr = steps_of(train_sr, monkeypatch, "EDSR", 300, **options, steps=6)
    check_losses([row["sr"] for row in rows], FACTS["sr"]["losses"], precision)
    check_weights(weights, FACTS["sr"]["sums"])
    for stage, use_ssim in (("ldn", False), ("ldn_ssim", True)):
        more = options | {"exp_name": stage, "bsn_path": bsn, "sr_path": sr, "use_ssim": use_ssim, "steps": 3}
        rows, weights, _ = steps_of(train_deblur, monkeypatch, "LDN", 500, **more)
        golden = FACTS[stage]["rows"]
        check_losses([row["teacher"] + row.get("ssim", 0.0) for row in rows], [row[0] for row in golden], precision)
        check_losses([row["reblur"] for row in rows], [row[1] for row in golden], precision)
        assert [row["lr"] for row in rows] == pytest.approx([row[2] for row in golden], rel=1e-9)
        check_weights(weights, FACTS[stage]["sums"])
