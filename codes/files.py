"""Atomic file writes: a file is complete or not there."""

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

DAY = 86400  # seconds


@contextmanager
def replacing(path: str | Path, *, keep: str | Path | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; move it there when the block ends well, else remove it.

    What is at `path` before is moved to `keep`, if that is named.
    Raises: OSError naming `path` if it cannot be written.
    """
    path = Path(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes it private, other files are not
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)
        of_temporary = isinstance(error, OSError) and str(error.filename or ".partial").endswith(".partial")
        if of_temporary and error.errno:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


@cache
def _sweep(folder: Path) -> None:
    """Remove what killed processes left half written, once a process: what nobody touched for a day.

    A younger one may be of a process that lives, here or on another machine.
    """
    for left in folder.glob(".*.partial"):
        with suppress(OSError):  # another process was faster
            if left.stat().st_mtime < time.time() - DAY:
                left.unlink()


def sync_folder(folder: str | Path) -> None:
    """Bring to the disk that files of a folder were moved: until then a power failure may undo it."""
    with suppress(OSError):  # not every system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def short_hash(path: str | Path) -> str:
    """Return 16 digits of the SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
