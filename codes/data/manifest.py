"""Record of how a data set was made, in its folder: options, versions, sources, and the sequences that are finished."""

import json
import re
from pathlib import Path
from typing import Any

from codes.data.fingerprint import Digests, changes
from codes.errors import InputError
from codes.files import replacing

PARTS = ("options", "sources", "versions", "code", "spikes")  # of a manifest or record, each a dictionary
RESIMULATED = ("resimulated.json", "refilmed.json")  # of resimulate.py; the last is the name in older sets
NOTES = ("manifest.json", "demo.json", *RESIMULATED)  # the first of make_gopro.py, the second of make_demo.py


def claim(
    folder: Path,
    options: dict[str, Any],
    versions: dict[str, str],
    *,
    name: str = "manifest.json",
    sources: Digests | None = None,
    by_content: tuple[str, ...] = (),
    code: Digests | None = None,
) -> dict[str, str]:
    """Make `folder` a data set of these options and sources, or check that it is one.

    name: file in the folder that records it. sources: fingerprint of the files that it is made from, which are compared
    instead of the options `by_content`, their paths. code: fingerprint of the source code that makes it.
    Returns: what changed since among versions and code, by name.
    Raises: InputError naming each difference if it was made with other options or from other sources, or if it holds
    data that no record describes.
    """
    path = folder / name
    options = json.loads(json.dumps(options))
    added = {part: value for part, value in (("sources", sources), ("code", code)) if value is not None}
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: not a folder; choose another --output")
    if not path.exists():
        if any(folder.glob("**/blur_data")):
            raise InputError(f"{folder}: holds a data set without a {name}; choose another --output")
        write(path, {"options": options, "versions": versions} | added)
        return {}
    held = read(path)
    before = held.get("options", {})
    differences = [
        f"{name} was {before.get(name)!r}, now {options.get(name)!r}"
        for name in {**options, **before}
        if before.get(name) != options.get(name) and not (name in by_content and "sources" in held)
    ]
    if differences:
        raise InputError(f"{folder}: made with other options ({'; '.join(differences)}); choose another --output")
    if "sources" in held and sources is not None and held["sources"] != sources:
        raise InputError(
            f"{folder}: made from files that changed since ({changes(held['sources'], sources)}); choose another "
            "--output, or remove this set to make it again"
        )
    write(path, held | {part: value for part, value in added.items() if part not in held})  # of an older record
    found = {name: was for name, was in held.get("versions", {}).items() if name in versions and versions[name] != was}
    if code is not None and held.get("code", code) != code:
        found["code"] = changes(held["code"], code)
    return found


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
    """Return the lowest and highest V_th that a data set was simulated at: by its folder name, else by its record.

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


def is_resimulated(folder: str | Path) -> bool:
    """Return whether scripts/resimulate.py made a data set."""
    return any(Path(folder, name).is_file() for name in RESIMULATED)
