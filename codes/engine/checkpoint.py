"""A checkpoint: a named set of things with `state_dict`, and how far the run had come."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from codes.archives import read_tensors
from codes.errors import InputError
from codes.files import replacing
from codes.recipe import PUBLISHED, Recipe

FORMAT = 1


def save(path: str | Path, content: Any) -> None:
    """Write tensors, numbers and dicts of them, whole or not at all."""
    with replacing(path) as file:
        torch.save(content, file)


def save_weights(path: str | Path, net: nn.Module, recipe: Recipe | None) -> None:
    """Write a state dict: bare, as everyone reads it, if it is of the published recipe; else with what it is for."""
    bare = recipe is None or recipe["spike_input"] == PUBLISHED["spike_input"]
    save(path, net.state_dict() if bare else {"net": net.state_dict(), "recipe": recipe})


def save_state(path: str | Path, progress: dict[str, int], **things: Any) -> None:
    """Write the state of `things` (each has `state_dict`) and the progress of the run."""
    states = {name: thing.state_dict() for name, thing in things.items()}
    save(path, {"format": FORMAT, "progress": progress, **states})


def load_state(path: str | Path, **things: Any) -> dict[str, int] | None:
    """Bring `things` back to a saved state, executing nothing; return the progress, None if nothing was saved yet.

    Raises: InputError naming the file if it cannot be read or was written by another version.
    """
    if not Path(path).exists():
        return None
    try:
        state = read_tensors(path)
        found = state["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a state of a run ({type(error).__name__}); move it away to start anew") from None
    if found != FORMAT:
        raise InputError(f"{path}: state of format {found}, this code reads {FORMAT}; move it away to start anew")
    try:
        for name, thing in things.items():
            thing.load_state_dict(state[name])
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: state of another network ({str(error).splitlines()[0]}); use another --exp_name"
        ) from None
    return state["progress"]
