"""Weight files: ours, with the input specification that they were trained for, and the published state dicts."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codes.archives import read_tensors
from codes.errors import InputError
from codes.networks.bsn import BSN
from codes.networks.edsr import EDSR
from codes.networks.ldn import LDN
from codes.recipe import CONSISTENCIES, PICTURES, PUBLISHED, SPIKE_INPUTS, TEACHERS, Recipe

STAGES = {"BSN": BSN, "SR (EDSR)": EDSR, "LDN": LDN}


def load(net: nn.Module, path: str | Path) -> nn.Module:
    """Fill `net` with the weights in a file, ours or the authors' bare state dict, and return it.

    Every tensor must be there with its shape and finite, and no other.
    Raises: InputError naming the file, the stage it seems to belong to, and what is missing, unexpected or misshapen.
    """
    found, wanted = read_weights(path), net.state_dict()
    missing, unexpected = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    misshapen = {
        f"{name} {list(found[name].shape)} for {list(wanted[name].shape)}"
        for name in wanted.keys() & found.keys()
        if found[name].shape != wanted[name].shape
    }
    if missing or unexpected or misshapen:
        faults = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
        listed = "; ".join(f"{len(names)} {fault}: {_few(names)}" for fault, names in faults.items() if names)
        if missing or unexpected:
            raise InputError(f"{path}: not weights of {_stage(wanted)}; it seems to hold {_stage(found)}. {listed}")
        raise InputError(f"{path}: weights of {_stage(wanted)}, but built otherwise: {listed}{_window(net, found)}")
    if broken := {name for name, value in found.items() if not value.isfinite().all()}:
        raise InputError(f"{path}: weights that are not finite, in {_few(broken)}: of a training that failed")
    net.load_state_dict(found)
    return net


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the state dict of a network from a weight file or a checkpoint of a run, executing nothing.

    Raises: InputError if the file is missing or holds no state dict.
    """
    found = _read(path)
    if isinstance(found, dict) and isinstance(found.get("net"), dict):
        found = found["net"]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path}: holds no state dict (tensors by name) and no checkpoint of ours")
    return {name.removeprefix("module."): value for name, value in found.items()}  # "module.": saved from DataParallel


def read_recipe(path: str | Path) -> Recipe:
    """Read what the weights in a file were made for; a bare state dict is of the published recipe."""
    found = _read(path)
    recipe = found.get("recipe", PUBLISHED) if isinstance(found, dict) else PUBLISHED
    known = {"spike_input": SPIKE_INPUTS, "picture": PICTURES, "consistency": CONSISTENCIES, "teacher": TEACHERS}
    for name, accepted in known.items():
        if not isinstance(recipe, dict) or recipe.get(name, accepted[0]) not in accepted or "spike_input" not in recipe:
            raise InputError(f"{path}: of a recipe that this code does not know; {name} is {' or '.join(accepted)}")
    return {"picture": PICTURES[0], "consistency": CONSISTENCIES[0]} | recipe  # files from before there was another


def _read(path: str | Path) -> Any:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such weight file")
    try:
        return read_tensors(path)
    except ValueError as error:
        raise InputError(f"{path}: not a weight file of PyTorch ({error})") from None


def _stage(names: dict[str, Tensor]) -> str:
    """Name the stage most of whose tensors are among `names`."""
    shares = {stage: len(net().state_dict().keys() & names.keys()) / len(names) for stage, net in STAGES.items()}
    stage = max(shares, key=shares.get)
    return stage if shares[stage] > 0.5 else "no network of this project"


def _window(net: nn.Module, found: dict[str, Tensor]) -> str:
    """Say which option fits the weights of an LDN that sees another number of spike frames."""
    shape = found.get("spike_enc.0.weight", torch.empty(0)).shape
    if isinstance(net, LDN) and len(shape) == 4:
        return f"; they see {shape[1]} spike frames: --spike_deblur_len {shape[1]}"
    return ""


def _few(names: set[str], shown: int = 3) -> str:
    return ", ".join(sorted(names)[:shown]) + (", ..." if len(names) > shown else "")
