"""Pairs of blurry pictures and spike files that are named on the command line."""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from codes.data.listing import PICTURES, SPIKES, files_in
from codes.errors import InputError

SHOWN = 3  # names in a message
MOST_NUMBERS = 1.5  # for each picture; where more are missing, names are not numbers of exposures


class Pair(NamedTuple):
    """A blurry picture and the file of its spikes."""

    picture: Path
    spikes: Path
    number: int | None = None  # of the picture among those of a folder, from 0, in the order of their names


def find_pairs(picture: str | Path, spikes: str | Path = "", *, is_recording: bool = False) -> dict[str, Pair]:
    """Return the pairs by name: one of two files, whose name is empty, or those of equal names in two folders.

    spikes: empty: in the folder of the pictures, or beside it in the layout of a data set. Pictures without spikes and
    spikes without a picture are named on standard output and left out, as in training. is_recording: the pictures of a
    folder may have one stream.
    Raises: InputError if there is no pair.
    """
    pictures, streams = Path(picture), Path(spikes or picture)
    if is_recording and pictures.is_dir() and not streams.is_dir():
        return pictures_of_stream(pictures, streams)
    for given, kind in ((pictures, "picture"), (streams, "spike file")):
        if not given.exists():
            raise InputError(f"{given}: no such {kind} or folder")
    if not pictures.is_dir():
        if not spikes:
            raise InputError(f"{pictures}: name the spike file of this picture after it")
        if streams.is_dir():
            raise InputError(f"{streams}: is a folder, {pictures} is none; two files or two folders are accepted")
        return {"": Pair(pictures, streams)}
    if not spikes and (pictures / "blur_data").is_dir():
        pictures, streams = pictures / "blur_data", streams / "spike_data"
    splits = [pictures / name for name in ("test", "train") if (pictures / name / "blur_data").is_dir()]
    if splits:
        raise InputError(f"{pictures}: is a data set; name one of its splits: {' or '.join(map(str, splits))}")
    found, recorded = files_in(pictures, PICTURES, depth=None), files_in(streams, SPIKES, depth=None)
    if not found:
        raise InputError(f"{pictures}: no pictures in it ({', '.join(PICTURES)})")
    names = sorted(found.keys() & recorded.keys())
    if not names:
        raise InputError(f"{next(iter(found.values()))}: no spike file of the same name in {streams}, nor of any other")
    _report(found.keys() - recorded.keys(), found, "pictures without spikes")
    _report(recorded.keys() - found.keys(), recorded, "spike files without a picture")
    return {name: Pair(found[name], recorded[name], number) for number, name in enumerate(names)}


def pictures_of_stream(pictures: str | Path, stream: str | Path) -> dict[str, Pair]:
    """Return the pictures of a recording by name, each with the one stream of all.

    Raises: InputError if there is no picture.
    """
    found = files_in(pictures, PICTURES)
    if not found:
        raise InputError(f"{pictures}: no pictures in it ({', '.join(PICTURES)})")
    return {name: Pair(found[name], Path(stream), number) for name, number in zip(found, numbered(found), strict=True)}


def numbered(names: Iterable[str]) -> list[int]:
    """Return the numbers of the pictures of a recording, in the order of their names, from 0.

    Those that the names end with, if they differ in nothing else and few are missing: the camera dropped these.
    """
    parts = [re.fullmatch(r"(.*?)(\d+)", name) for name in names]
    if all(parts) and len({part[1] for part in parts}) == 1:
        numbers = [int(part[2]) - int(parts[0][2]) for part in parts]
        if all(one < other for one, other in pairwise(numbers)) and numbers[-1] < MOST_NUMBERS * len(numbers):
            return numbers
    return list(range(len(parts)))


def _report(names: set[str], files: dict[str, Path], kind: str) -> None:
    """Print how many files have no partner, and the first of them."""
    if names:
        listed = ", ".join(str(files[name]) for name in sorted(names)[:SHOWN])
        print(f"{len(names)} {kind} left out: {listed}{', ...' if len(names) > SHOWN else ''}")
