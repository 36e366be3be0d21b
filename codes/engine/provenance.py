"""Options, versions and content of the files that a run is made of: recorded, and compared when it goes on."""

import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codes.data import manifest
from codes.data.fingerprint import Digests, changes
from codes.errors import InputError
from codes.files import replacing

OPTIONS, FINGERPRINT = "options.json", "fingerprint.json"  # in the folder of a run
HASHES = re.compile(r"sha256 (\w+)(?:, content sha256 (\w+))?$")


def record_options(
    folder: Path,
    options: dict,
    *,
    defaults: dict | None = None,
    same_but: set[str] | None = None,
    by_content: Iterable[str] = (),
    translated: Callable[[dict], dict] = dict,
) -> None:
    """Keep the options of a run, with the versions it runs on.

    An option that the record of an older run does not have is taken to have been at its default. Options that are
    compared `by_content` name files, which `record_sources` compares; records from before it did are compared by path.
    `translated` replaces former names and values in a record by those of today.
    Raises: InputError if they differ from those kept before in any that is not in `same_but` (None: all may), or
    nothing was kept.
    """
    path, options = folder / OPTIONS, json.loads(json.dumps(options))
    record = {}
    if same_but is not None:
        if not path.exists():
            raise InputError(
                f"{path}: missing, so what this run was started with is not known; bring it back, choose another "
                "--exp_name, or go on knowingly with --force_resume"
            )
        record = _read_json(path)
        before = {name: value for name, value in json.loads(json.dumps(defaults or {})).items() if name in options}
        before |= translated(record.get("options", {}))
        free = same_but | set(by_content if record.get("sources") else ())
        _refuse(
            folder,
            (
                f"--{name}: {_told(before.get(name))} then, {_told(options.get(name))} now"
                for name in before | options
                if name not in free and before.get(name) != options.get(name)
            ),
        )
    write_json(path, record | {"options": options, "versions": versions(), "command": sys.argv})


def record_sources(folder: Path, sources: dict[str, str], digests: dict[str, Digests], *, same: bool) -> None:
    """Record what a run is made of: name -> description with a hash of content, and the digests of its files.

    Raises: InputError naming what changed, if the content is another than that of the record and has to be the
    `same`. Where files lie does not count.
    """
    path, files = folder / OPTIONS, folder / FINGERPRINT
    record, found = _read_json(path), read_or_nothing(files)
    before = record.get("sources", {}) if same else {}
    differences = []
    for name in before | sources:
        now = sources.get(name, "nothing")
        # An older record may not have every source; weight files it has always had.
        was = before.get(name, "nothing" if before and name.endswith("_path") else now)
        if not same_content(was, now):
            changed = changes(found[name], digests[name]) if name in found and name in digests else ""
            differences.append(f"{name}: {changed or f'{was} then, {now} now'}")
    _refuse(folder, differences)
    write_json(files, digests)
    write_json(path, record | {"sources": sources})


def _refuse(folder: Path, changes: Iterable[str]) -> None:
    if listed := "; ".join(changes):
        raise InputError(
            f"{folder} holds a run with other options ({listed}). Choose another --exp_name, "
            "or go on knowingly with --force_resume"
        )


def same_content(before: str, now: str) -> bool:
    """Compare two descriptions by the hashes of content that they end in, not by the paths that they begin with.

    Descriptions of data sets in older records have a hash of names and sizes alone, which is compared there.
    """
    hashes = [HASHES.search(text) for text in (before, now)]
    if not all(hashes):
        return before == now
    (names, content), (names_now, content_now) = (found.groups() for found in hashes)
    return content == content_now if content and content_now else names == names_now


@cache
def versions() -> dict[str, str]:
    """Say what a run was made with: Python, torch, numpy, and the commit where there is one."""
    root = Path(__file__).resolve().parents[2]
    found = {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__}
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, timeout=10, check=True
        )
        found["commit"] = commit.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass  # a copy without git
    return found


def _told(value: Any) -> str:
    """Write the value of an option; of one that is not given there is nothing to write."""
    return "nothing" if value in (None, "", []) else str(value)


def _read_json(path: Path) -> dict:
    return manifest.read(path, otherwise="--force_resume writes a new one")


def read_or_nothing(path: Path) -> dict:
    """Read a record that can be done without; empty if it is missing or damaged."""
    with suppress(InputError):
        return manifest.read(path)
    return {}


def write_json(path: Path, record: dict) -> None:
    """Write a record, whole or not at all."""
    with replacing(path) as file:
        file.write(json.dumps(record, indent=1).encode())
