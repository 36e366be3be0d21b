"""What a data set was made of: options and versions in manifest.json, and a record of each finished sequence."""

import json
import re
from pathlib import Path
from typing import Any

from codes.errors import InputError
from codes.files import replacing

PARTS = ("options", "sources", "versions", "code", "spikes")  # of a manifest or record, each a dictionary
NOTES = ("manifest.json", "demo.json", "refilmed.json")  # of make_gopro.py, make_demo.py, refilm.py


def claim(
    folder: Path, options: dict[str, Any], versions: dict[str, str], *, name: str = "manifest.json"
) -> dict[str, str]:
    """Make `folder` a data set of these options, or find that it is one; return the versions that have changed since.

    name: of the file in it that says so.
    Raises: InputError naming each difference if it was made with other options, or holds data of unknown making.
    """
    path = folder / name
    options = json.loads(json.dumps(options))
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: not a folder; choose another --output")
    if not path.exists():
        if any(folder.glob("**/blur_data")):
            raise InputError(f"{folder}: holds a data set without a {name}; choose another --output")
        write(path, {"options": options, "versions": versions})
        return {}
    held = read(path)
    before = held.get("options", {})
    differences = [
        f"{name} was {before.get(name)!r}, now {options.get(name)!r}"
        for name in {**options, **before}
        if before.get(name) != options.get(name)
    ]
    if differences:
        raise InputError(f"{folder}: made with other options ({'; '.join(differences)}); choose another --output")
    return {name: version for name, version in held.get("versions", {}).items() if versions.get(name) != version}


def read(path: Path, *, otherwise: str = "delete it to make the set again") -> dict[str, Any]:
    """Read a manifest or a record; a record that is not there is empty.

    Raises: InputError if it is no JSON object, saying what to do `otherwise`.
    """
    try:
        content = json.loads(path.read_text("utf-8")) if path.exists() else {}
        parts = [content, *(content.get(name, {}) for name in PARTS)]
        if not all(isinstance(part, dict) for part in parts):
            raise ValueError("not what was written")
        return content
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: no readable JSON ({error}); {otherwise}") from None


def thresholds(folder: str | Path) -> list[float]:
    """Return the V_th that a data set was filmed at, the lowest and the highest: by its name, else as its maker noted.

    Empty if neither says.
    """
    name = Path(folder).resolve().name
    if named := re.fullmatch(r"threshold_(\d+(?:\.\d+)?)", name):
        return [float(named[1])]
    notes = (read(Path(folder, name)).get("options", {}) for name in NOTES)
    noted = next((note["threshold"] for note in notes if "threshold" in note), [])
    noted = [value for value in (noted if isinstance(noted, list) else [noted]) if isinstance(value, int | float)]
    return sorted({min(noted), max(noted)}) if noted else []


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a manifest or a record, whole or not at all, if it is not there already."""
    data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
    if not path.exists() or path.read_bytes() != data:
        with replacing(path) as file:
            file.write(data)
