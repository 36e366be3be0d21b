"""Weight files: ours, with the input specification that they were trained for, and the published state dicts."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codes.archives import read_tensors
from codes.errors import InputError
from codes.networks.bsn import BSN
from codes.networks.edsr import EDSR
from codes.networks.ldn import LDN
from codes.recipe import CONSISTENCIES, INPUTS, PUBLISHED, SPIKE_INPUTS, TEACHERS, Recipe, translated

STAGES = {"BSN": BSN, "SR (EDSR)": EDSR, "LDN": LDN}
# Names under which training programs keep the state dict of a network; the first that a file has is read.
WRAPPINGS = ("net", "params_ema", "params", "state_dict", "model_state_dict", "model", "net_state_dict", "generator")
ADDED = re.compile(r"^(?:module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")  # to names, by DataParallel and torch.compile


def load(net: nn.Module, path: str | Path) -> nn.Module:
    """Fill `net` with the weights in a file, ours or the authors' bare state dict, and return it.

    Every tensor must be there with its shape and finite, and no other.
    Raises: InputError naming the file, the stage it seems to belong to, and what is missing, unexpected or misshapen.
    """
    wanted = net.state_dict()
    found = _without_prefix(read_weights(path), wanted)
    missing, unexpected = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    misshapen = {
        f"{name} {list(found[name].shape)} for {list(wanted[name].shape)}"
        for name in wanted.keys() & found.keys()
        if found[name].shape != wanted[name].shape
    }
    if missing or unexpected or misshapen:
        faults = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
        listed = "; ".join(f"{len(names)} {fault}: {_few(names)}" for fault, names in faults.items() if names)
        if unexpected or (missing and _stage(found) != _stage(wanted)):
            raise InputError(f"{path}: not weights of {_stage(wanted)}; it seems to hold {_stage(found)}. {listed}")
        if missing:
            raise InputError(f"{path}: weights of {_stage(wanted)}, but not all of them: {listed}")
        raise InputError(f"{path}: weights of {_stage(wanted)}, but built otherwise: {listed}{_window(net, found)}")
    if broken := {name for name, value in found.items() if not value.isfinite().all()}:
        raise InputError(f"{path}: weights that are not finite, in {_few(broken)}: of a training that failed")
    if whole := {name for name, value in found.items() if not value.is_floating_point()}:
        raise InputError(f"{path}: weights that are no floating-point numbers, in {_few(whole)}: converted wrongly")
    if not any(value.any() for value in found.values()):
        raise InputError(f"{path}: all weights are 0; copy the file again, or train again")
    net.load_state_dict(found)
    return net


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the state dict of a network from a weight file or a checkpoint, executing nothing.

    A state dict that other programs wrap is unwrapped: one that lies in dicts under WRAPPINGS, or alone in dicts of any
    name. The prefixes that torch.compile and DataParallel add to names are removed.
    Raises: InputError if the file is missing, or holds no state dict or several.
    """
    found = _state_dicts(_read(path))
    if not found:
        raise InputError(f"{path}: holds no state dict (tensors by name); save net.state_dict() of the network alone")
    named = [name for name in WRAPPINGS if name in map(_last, found)]
    if len(found) > 1 and not named:
        listed = ", ".join(map("/".join, found))
        raise InputError(f"{path}: holds several state dicts ({listed}); save the one of the network alone")
    chosen = next(state for place, state in found.items() if not named or _last(place) == named[0])
    return {ADDED.sub("", name): value for name, value in chosen.items()}


def _state_dicts(content: Any, place: tuple[str, ...] = ()) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """Return the dicts of tensors in nested dicts, by the names that lead to each."""
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
        return {}
    if all(isinstance(value, Tensor) for value in content.values()):
        return {place: content}
    inner = (_state_dicts(value, (*place, name)) for name, value in content.items())
    return {name: state for states in inner for name, state in states.items()}


def _last(place: tuple[str, ...]) -> str:
    return place[-1] if place else ""


def _without_prefix(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefix that all names share, such as "model.", if that makes them the wanted ones."""
    parts = next(iter(found)).split(".")
    for length in range(1, len(parts)):
        prefix = ".".join(parts[:length]) + "."
        stripped = {name.removeprefix(prefix): value for name, value in found.items()}
        if stripped.keys() == wanted.keys() and all(name.startswith(prefix) for name in found):
            return stripped
    return found


def read_recipe(path: str | Path) -> Recipe:
    """Read what the weights in a file were made for; a bare state dict is of the published recipe."""
    found = _read(path)
    recipe = found.get("recipe", PUBLISHED) if isinstance(found, dict) else PUBLISHED
    known = {"spike_input": SPIKE_INPUTS, "input": INPUTS, "consistency": CONSISTENCIES, "teacher": TEACHERS}
    recipe = translated(recipe) if isinstance(recipe, dict) else recipe
    for name, accepted in known.items():
        if not isinstance(recipe, dict) or recipe.get(name, accepted[0]) not in accepted or "spike_input" not in recipe:
            raise InputError(f"{path}: of a recipe unknown to this code; {name} is {' or '.join(accepted)}")
    return {"input": INPUTS[0], "consistency": CONSISTENCIES[0]} | recipe  # files from before there was another


def _read(path: str | Path) -> Any:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such weight file")
    try:
        return read_tensors(path)
    except ValueError as error:
        raise InputError(f"{path}: weights cannot be read: {error}") from None


def _stage(names: dict[str, Tensor]) -> str:
    """Name the stage most of whose tensors are among `names`."""
    shares = {stage: len(net().state_dict().keys() & names.keys()) / len(names) for stage, net in STAGES.items()}
    stage = max(shares, key=shares.get)
    return stage if shares[stage] > 0.5 else "no network of this project"


def _window(net: nn.Module, found: dict[str, Tensor]) -> str:
    """Return which option fits the weights of an LDN with another number of spike frames."""
    shape = found.get("spike_enc.0.weight", torch.empty(0)).shape
    if isinstance(net, LDN) and len(shape) == 4:
        return f"; their input is {shape[1]} spike frames: --spike_deblur_len {shape[1]}"
    return ""


def _few(names: set[str], shown: int = 3) -> str:
    return ", ".join(sorted(names)[:shown]) + (", ..." if len(names) > shown else "")
