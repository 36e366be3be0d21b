"""Fingerprints of file content and of source code, which decide whether cached results are still valid.

A fingerprint maps names to SHA-256 digests. Names are relative to the root of a data set, so a data set that was moved
or copied keeps its fingerprint.
"""

import ast
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import time_ns
from typing import Any

from tqdm import tqdm

from codes.errors import InputError
from codes.files import replacing

Digests = dict[str, str]  # name -> hexadecimal digest
DIGITS = 32  # of the 64 hexadecimal digits of SHA-256
CHUNK = 2**20  # bytes read at once
SETTLED = 2 * 10**9  # nanoseconds; a file that changed later can change again within the resolution of its time stamps
ROOT = Path(__file__).resolve().parents[2]


def fingerprint(files: Mapping[str, str | Path]) -> Digests:
    """Return the digest of the content of each file, under the name that the caller gives to it.

    Digests are cached in the user's cache directory, so that unchanged files are not read again. A file counts as
    unchanged if its size, its times of modification and of status change, and its inode are the same: rewriting it in
    place sets the time of status change even where the time of modification is restored.
    Raises: InputError naming a file that is missing.
    """
    paths = {name: os.path.abspath(path) for name, path in files.items()}
    if not paths:
        return {}
    place = _cache_file(os.path.commonpath([os.path.dirname(path) for path in paths.values()]))
    known = _read_cache(place)
    states = {path: _state(path) for path in paths.values()}
    digests = {path: known[path][-1] for path, state in states.items() if known.get(path, [])[:-1] == state}
    unknown = [path for path in states if path not in digests]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashlib and reading release the GIL
        read = zip(unknown, pool.map(_digest, unknown), strict=True)
        digests |= tqdm(read, "fingerprint", total=len(unknown), unit="file", leave=False, delay=2)
    oldest = time_ns() - SETTLED
    new = {path: [*states[path], digests[path]] for path in unknown if states[path][2] < oldest}
    if new and place:
        with suppress(OSError), replacing(place) as file:  # without a cache files are read again, nothing is lost
            file.write(json.dumps(_read_cache(place) | new).encode())
    return {name: digests[path] for name, path in paths.items()}


def source_fingerprint(*modules: str) -> Digests:
    """Return a digest of the syntax tree of each module and of every module of this repository that it imports.

    Comments, docstrings and layout do not count. modules: dotted names, such as "codes.distillation.teachers".
    """
    found: Digests = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name not in found and path:
            found[name], imported = _parsed(path)
            waiting += imported
            waiting += [name.rpartition(".")[0]]  # importing a module runs its package
    return dict(sorted(found.items()))


def combined(digests: Digests) -> str:
    """Return one short digest of all names and digests."""
    listed = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(listed.encode(errors="surrogateescape")).hexdigest()[:16]


def changes(before: Digests, now: Digests, *, shown: int = 3) -> str:
    """Name the files that differ between two fingerprints, the first few of them; empty if none does."""
    listed = [
        f"{name} {'added' if name not in before else 'missing' if name not in now else 'changed'}"
        for name in sorted(before | now)
        if before.get(name) != now.get(name)
    ]
    more = [f"and {len(listed) - shown} more"] if len(listed) > shown else []
    return ", ".join(listed[:shown] + more)


def _state(path: str) -> list[int]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _digest(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()[:DIGITS]


def _cache_file(folder: str) -> Path | None:
    """Return the file that caches the digests of files below a folder; None for a user without a home directory."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    name = f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:DIGITS]}.json"
    return base / "s-sdm" / "fingerprints" / name if base.is_absolute() else None


def _read_cache(place: Path | None) -> dict[str, list]:
    """Read cached states and digests by path; none if the file is missing or damaged."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(place.read_bytes()) if place else {}
        if isinstance(found, dict) and all(_is_entry(entry) for entry in found.values()):
            return found
    return {}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 5 and isinstance(entry[-1], str) and len(entry[-1]) == DIGITS


def _source(name: str) -> Path | None:
    """Return the source file of a module of this repository."""
    base = ROOT.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if name and path.is_file()), None)


@cache
def _parsed(path: Path) -> tuple[str, list[str]]:
    """Return the digest of a source file and the names that it imports."""
    tree = ast.parse(path.read_bytes())
    imported = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return hashlib.sha256(repr(_plain(tree)).encode()).hexdigest()[:DIGITS], imported


def _plain(node: Any) -> Any:
    """Reduce a syntax tree to nested lists, without docstrings, in the same form for every version of Python."""
    if isinstance(node, Iterable) and not isinstance(node, str | bytes):
        return [_plain(one) for one in node]
    if not isinstance(node, ast.AST):
        return node
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
        fields["body"] = node.body[1:]
    return [type(node).__name__, *([name, _plain(value)] for name, value in fields.items() if value not in (None, []))]
