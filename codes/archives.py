"""Safe reading of weights and arrays (.pth, .npz, .npy): nothing in them is executed, their size is checked first."""

import io
import math
import os
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from codes.errors import InputError

LARGEST = 2**32  # bytes of an array in a compressed file, which may be far smaller than what it holds


def read_tensors(path: str | Path) -> Any:
    """Read what torch.save wrote: tensors, numbers, and dicts and lists of them.

    Raises: ValueError saying why, if the file is anything else: damaged, with Python objects in it, or a bomb.
    """
    import torch  # it is slow to import, and readers of arrays do without

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                held = sum(entry.file_size for entry in archive.infolist())
            # torch.save compresses nothing, so what it wrote is never larger than its file.
            if held > Path(path).stat().st_size:
                raise ValueError(f"it would unpack to {held / 1e9:.3g} GB")
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()  # torch.load compares no checksums
            if damaged:
                raise ValueError(f"damaged in {damaged} (its checksum differs); copy it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except ValueError:
        raise
    except PermissionError as error:
        raise ValueError(error.strerror) from None
    except Exception as error:  # any of a dozen types, by where the file is damaged
        if name := _object_in(path, str(error)):
            raise ValueError(
                f"it holds Python objects ({name}), which are not read since they could run code; save its state_dict "
                "instead: torch.save(net.state_dict(), path)"
            ) from None
        raise ValueError(f"damaged, or not a file of PyTorch ({type(error).__name__})") from None


def _object_in(path: str | Path, refusal: str) -> str:
    """Return the class or function that torch refused in a file, empty if the file is damaged instead.

    refusal: the message of torch, which names it in most versions; else the first one that is not torch's is returned.
    """
    named = re.search(r"(?:GLOBAL|[Uu]nsupported (?:global|class)[: ]+(?:GLOBAL )?)\s*([\w.]+)", refusal)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if archive.testzip():
                    return ""
                pickles = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
        else:
            pickles = Path(path).read_bytes()
        names = _globals_in(pickles)
    except Exception:  # as many types as above
        return ""
    foreign = (name for name in names if not name.startswith(("torch.", "collections.")))
    return named[1] if named else next(foreign, "")


def _globals_in(pickles: bytes) -> list[str]:
    """List the classes and functions that pickles name; storages may follow them, in files of older versions of torch.

    Raises: an error of one of many types if not even the first pickle is whole.
    """
    file, found, ended = io.BytesIO(pickles), [], False
    while True:
        names, strings = [], []
        try:
            for operation, value, _ in pickletools.genops(file):
                if operation.name == "GLOBAL":
                    names.append(value.replace(" ", "."))
                elif operation.name == "STACK_GLOBAL":
                    names.append(".".join(strings[-2:]))
                elif isinstance(value, str):
                    strings.append(value)
        except Exception:
            if ended:
                return found
            raise
        found, ended = found + names, True


def read_arrays(path: str | Path) -> list[np.ndarray]:
    """Read the arrays of an .npz file, or map that of an .npy file into memory; see `read_named_arrays`."""
    return list(read_named_arrays(path).values())


def read_named_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file by name, or map that of an .npy file, called "array", into memory.

    Raises: InputError naming the file if it is damaged, holds objects, or claims to hold more than it can.
    """
    try:
        if not zipfile.is_zipfile(path):
            with open(path, "rb") as file:
                _check(path, "the array", os.path.getsize(path), file, limit=math.inf)  # mapped, not read
            return {"array": np.load(path, mmap_mode="r", allow_pickle=False)}
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    _check(path, entry.filename, entry.file_size, file, limit=LARGEST)
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except InputError:
        raise
    except Exception as error:  # likewise
        raise InputError(f"{path}: no numpy file ({error or type(error).__name__})") from None


def _check(path: str | Path, name: str, size: int, file: Any, *, limit: float) -> None:
    """Compare what an array's header promises with the bytes that hold it, before numpy computes or allocates."""
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read_header:
        raise InputError(f"{path}: {name} is of the numpy format {version}; 1.0 and 2.0 are read")
    shape, _, dtype = read_header[version](file)
    promised = math.prod(shape) * dtype.itemsize  # Python's integers do not overflow
    if promised > min(size, limit):
        most = "" if math.isinf(limit) else f", and at most {limit / 1e9:.3g} GB are read"
        raise InputError(
            f"{path}: {name} says that it is {list(shape)} {dtype}, {promised / 1e9:.3g} GB; it holds "
            f"{size / 1e9:.3g} GB{most}"
        )
