"""Checkpoint files: weights, and the state of a training, written with a checksum and read back.

The newest two states of a run are kept, state.pth and state.before.pth: if the newest is damaged, the one before it is
what the run goes on from.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from codes.archives import read_tensors
from codes.errors import InputError
from codes.files import replacing, sync_folder
from codes.recipe import PUBLISHED

FORMAT = 2
READABLE = (1, 2)  # 1: without checksum


def save(path: str | Path, content: Any, *, keep: Path | None = None) -> None:
    """Write tensors, numbers and dicts of them, whole or not at all; what was there is kept as `keep`."""
    data = io.BytesIO()  # torch does not report a full disk as such, a file does
    torch.save(content, data)
    with replacing(path, keep=keep) as file:
        file.write(data.getbuffer())
    sync_folder(Path(path).parent)


def save_weights(path: str | Path, net: nn.Module, recipe: dict[str, str] | None) -> None:
    """Write a state dict: bare, as everyone reads it, if it is of the published recipe; else with what it is for.

    Its tensors are those of a CPU: a machine without a GPU reads no others.
    """
    tensors = {name: tensor.cpu() for name, tensor in net.state_dict().items()}
    save(path, tensors if recipe in (None, PUBLISHED) else {"net": tensors, "recipe": recipe})


def save_state(path: str | Path, progress: dict[str, int], recipe: dict[str, str] | None = None, **things: Any) -> None:
    """Write the state of `things` (each has `state_dict`) and the progress of the run; keep the state before.

    With the `recipe` its network is as good as a weight file.
    """
    states = {name: thing.state_dict() for name, thing in things.items()}
    content = {"format": FORMAT, "progress": progress, "recipe": recipe or PUBLISHED, **states}
    try:
        keep = _before(path) if Path(path).exists() and _read(path) else None
    except InputError:
        keep = None  # a damaged one must not take the place of a good one
    save(path, content | {"checksum": digest(content)}, keep=keep)


def is_saved(path: str | Path) -> bool:
    """Say whether a state was saved at `path`, damaged or not."""
    return Path(path).exists() or _before(path).exists()


def load_state(path: str | Path, log: Callable[[str], None] = print, **things: Any) -> dict[str, int] | None:
    """Bring `things` back to the newest state that is whole, executing nothing; `log` says if it is not the newest.

    Returns the progress, None if nothing was saved yet.
    Raises: InputError naming the file if none can be read, or it is of another version or another network.
    """
    faults = []
    for place in (Path(path), _before(path)):
        if not place.exists():
            continue
        try:
            state = _read(place)
        except InputError as error:
            faults.append(str(error))
            continue
        if state["format"] not in READABLE:
            known = " and ".join(map(str, READABLE))
            raise InputError(
                f"{place}: state of format {state['format']}, this code reads {known}; move it away to start anew"
            )
        try:
            for name, thing in things.items():
                thing.load_state_dict(state[name])
        except (RuntimeError, KeyError, ValueError) as error:
            raise InputError(
                f"{place}: state of another network ({str(error).splitlines()[0]}); use another --exp_name"
            ) from None
        for fault in faults:
            log(f"WARNING: {fault}. The run goes on from the state before it, {place}")
        return state["progress"]
    if faults:
        raise InputError(f"{'; '.join(faults)}; move {'them' if len(faults) > 1 else 'it'} away to start anew")
    return None


def digest(content: Any) -> str:
    """Return the SHA-256 of nested dicts and lists of tensors and numbers, names, types and shapes among it."""
    total = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            total.update(f"{value.dtype}{list(value.shape)}".encode())
            total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        elif isinstance(value, dict):
            total.update(f"dict{len(value)}".encode())
            for key, item in value.items():
                add(key)
                add(item)
        elif isinstance(value, list | tuple):
            total.update(f"list{len(value)}".encode())
            for item in value:
                add(item)
        else:
            total.update(f"{type(value).__name__}:{value!r};".encode())

    add(content)
    return total.hexdigest()


def _before(path: str | Path) -> Path:
    return Path(path).with_suffix(f".before{Path(path).suffix}")


def _read(path: str | Path) -> dict:
    """Read a state that is what was written.

    Raises: InputError naming the file.
    """
    try:
        state = read_tensors(path)
        written = state.pop("checksum", "")
        if (written or state["format"] == FORMAT) and written != digest(state):
            raise ValueError("its checksum does not fit: it is damaged")
        if state["format"] in READABLE and not isinstance(state["progress"], dict):
            raise ValueError("it holds no progress")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a state of a run ({error})") from None
    return state
