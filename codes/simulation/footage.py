"""Raw footage, read only: folders of pictures and video files, found under one folder and read one frame at a time."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median_low

import numpy as np

from codes.data.images import image_size, is_deep, read_image
from codes.data.listing import PICTURES, VIDEOS, files_in, has_suffix, is_ignored
from codes.data.video import count_frames, read_frames, video_size
from codes.errors import InputError

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Footage:
    """One raw sequence: a folder of pictures in the order of their numbers, or a video file."""

    split: str
    name: str
    path: Path

    def count(self) -> int:
        """Count the frames; a video is decoded, since its header cannot be relied on.

        Raises: InputError if frames are missing, or frames of a video are damaged or unevenly spaced in time.
        """
        if not self.path.is_dir():
            return count_frames(self.path)
        _refuse_gaps(pictures := _pictures(self.path))
        return len(pictures)

    def files(self) -> dict[str, Path]:
        """Return the files of the sequence by name, wherever it lies."""
        return {path.name: path for path in (_pictures(self.path) if self.path.is_dir() else [self.path])}

    def size(self) -> tuple[int, int]:
        """Return (height, width) of the first frame."""
        return _size(self.path)

    def is_deep(self) -> bool:
        """Say whether the first picture has 16 bits a channel; videos are read in 8."""
        return self.path.is_dir() and is_deep(_pictures(self.path)[0])

    def read(self, first: int, last: int, *, white: int = 0) -> Iterator[np.ndarray]:
        """Yield the frames first..last as [H,W,3] uint8 BGR; `white` as in `read_image`.

        Raises: InputError naming a frame that is broken or has another size than the first of the sequence.
        """
        height, width = self.size()
        is_folder = self.path.is_dir()
        frames = _pictures_of(self.path, first, last, white) if is_folder else read_frames(self.path, first, last)
        for name, frame in frames:
            if frame.shape[:2] != (height, width):
                found = f"{frame.shape[0]}x{frame.shape[1]}"
                raise InputError(f"{name}: a frame of {found} in a sequence of {height}x{width}")
            yield frame


def find(root: str | Path, *, test_sequences: Iterable[str] = ()) -> list[Footage]:
    """Find the raw sequences under `root`, sorted by split and name.

    With folders train and test (with or without raw_data, above or below them) each sequence belongs to its split.
    Else `root` is one sequence (a video, or a folder of pictures) or a folder of them; those named in `test_sequences`
    are test, the others train.
    Raises: InputError if there is nothing, a name is met twice, or one in `test_sequences` is not there.
    """
    root, wanted = Path(root), set(test_sequences)
    if not root.exists():
        raise InputError(f"{root}: no such folder or video")
    if root.is_file() and not _is_sequence(root):
        raise InputError(f"{root}: is no video ({' '.join(VIDEOS)}) and no folder; name the folder of the pictures")
    found = []
    for split in SPLITS:
        places = (root / split / "raw_data", root / "raw_data" / split, root / split)
        folder = next((place for place in places if place.is_dir()), None)
        found += [Footage(split, path.stem if path.is_file() else path.name, path) for path in _sequences(folder)]
    if found and wanted:
        raise InputError(f"{root}: has folders train and test, which say what is test; leave out --test_sequences")
    if not found:
        paths = [root] if _is_sequence(root) else _sequences(root)
        names = [path.stem if path.is_file() else path.name for path in map(Path.resolve, paths)]
        found = [
            Footage("test" if name in wanted else "train", name, path) for name, path in zip(names, paths, strict=True)
        ]
    if not found:
        raise InputError(
            f"{root}: no folder of pictures ({' '.join(PICTURES)}) and no video ({' '.join(VIDEOS)}) in it"
        )
    names = [(footage.split, footage.name) for footage in found]
    if twice := [name for split, name in names if names.count((split, name)) > 1]:
        raise InputError(f"{root}: two sequences are named {twice[0]!r}; rename one")
    if missing := wanted - {footage.name for footage in found}:
        raise InputError(f"{root}: no sequence named {min(missing)!r}; there are {', '.join(n for _, n in names)}")
    return sorted(found, key=lambda footage: (footage.split, footage.name))


def _sequences(folder: Path | None) -> list[Path]:
    paths = sorted(folder.iterdir()) if folder else []
    return [path for path in paths if not is_ignored(path.name) and _is_sequence(path)]


def _is_sequence(path: Path) -> bool:
    if path.is_dir():
        return any(has_suffix(file, PICTURES) and not is_ignored(file.name) for file in path.iterdir())
    return has_suffix(path, VIDEOS)


def _pictures(folder: Path) -> list[Path]:
    """List the pictures in the order of the numbers in their names: 2.png before 10.png."""
    return sorted(files_in(folder, PICTURES).values(), key=lambda path: _pieces(path.stem))


def _pieces(name: str) -> list[str | int]:
    """Split a name into text and numbers, alternately, text first and last."""
    return [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", name)]


def _refuse_gaps(pictures: list[Path]) -> None:
    """Refuse frames that are not numbered evenly, up to the jitter of time stamps.

    Interpolation would otherwise bridge frames that are missing.
    Raises: InputError naming the two frames around the gap, or a frame without a number.
    """
    names = [_pieces(path.stem) for path in pictures]
    numbered = [len(pieces) > 1 for pieces in names]
    if any(numbered) and not all(numbered):
        path = pictures[numbered.index(False)]
        raise InputError(f"{path}: has no number, unlike the other frames of the sequence; move it elsewhere")
    neighbours = [
        (before[-2], after[-2], index)
        for index, (before, after) in enumerate(pairwise(names))
        if len(before) == len(after) > 1 and before[:-2] == after[:-2]
    ]
    usual = median_low([after - before for before, after, _ in neighbours if after > before] or [1])
    for before, after, index in neighbours:
        paths = f"{pictures[index]} and {pictures[index + 1].name}"
        if before == after:
            raise InputError(f"{paths}: two frames of number {before}; remove one of them")
        if after - before >= 1.5 * usual:
            raise InputError(
                f"{paths}: the frames between them are missing (numbers rise by {usual} elsewhere); "
                "copy them again, or make a sequence of each part"
            )


def _pictures_of(folder: Path, first: int, last: int, white: int) -> Iterator[tuple[Path, np.ndarray]]:
    for path in _pictures(folder)[first : last + 1]:
        yield path, read_image(path, white=white)


@cache  # a folder is listed for every window
def _size(path: Path) -> tuple[int, int]:
    return image_size(_pictures(path)[0]) if path.is_dir() else video_size(path)
