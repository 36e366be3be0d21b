"""List the data files of a folder: one rule for suffixes, hidden files and duplicates, for all programs.

Suffixes are compared without regard to case. Hidden files and what operating systems, storage devices and editors add
(`._a.png`, `__MACOSX/`, `Thumbs.db`, `@eaDir/`, `.ipynb_checkpoints/`, `.a.png.partial`) never count.
"""

from collections.abc import Iterator
from pathlib import Path

from codes.errors import InputError

PICTURES = (".png", ".jpg", ".jpeg")
STREAMS = (".dat",)  # packed spikes, the only format of data sets
ARRAYS = (".npz", ".npy")
SPIKES = (*STREAMS, *ARRAYS)  # formats of recordings
VIDEOS = (".mp4", ".avi", ".mov", ".mkv")
SYSTEM = {"__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found"}


def has_suffix(path: str | Path, suffixes: tuple[str, ...]) -> bool:
    """Return whether a file has one of the suffixes, in upper or lower case."""
    return Path(path).suffix.lower() in suffixes


def is_ignored(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or belongs to the operating system or a storage device."""
    return name.startswith(".") or name.lower() in SYSTEM


def files_in(folder: str | Path, suffixes: tuple[str, ...], *, depth: int | None = 1) -> dict[str, Path]:
    """List the files of a folder by name: path below the folder, without suffix -> file, in the order of the names.

    depth: how many levels below the folder the files lie (2: FOLDER/SEQUENCE/NAME); None: at any level. Links to
    folders are followed. A folder that does not exist is empty.
    Raises: InputError naming two files of the same name with different suffixes.
    """
    found: dict[str, Path] = {}
    for path in _walk(Path(folder), suffixes, depth, ()):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise InputError(f"{found[name]} and {path.name}: two files of one sample; remove one of them")
        found[name] = path
    return dict(sorted(found.items()))


def _walk(folder: Path, suffixes: tuple[str, ...], depth: int | None, above: tuple[Path, ...]) -> Iterator[Path]:
    if not folder.is_dir() or (resolved := folder.resolve()) in above:  # a link to a folder above would never end
        return
    for path in sorted(folder.iterdir()):
        if is_ignored(path.name):
            continue
        if depth != 1 and path.is_dir():
            yield from _walk(path, suffixes, depth and depth - 1, (*above, resolved))
        elif depth in (1, None) and has_suffix(path, suffixes):
            yield path
