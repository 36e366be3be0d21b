"""Raw footage, read only: folders of pictures and video files, found under one folder and read one frame at a time."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from codes.data.images import image_size, read_image
from codes.errors import InputError

PICTURES, VIDEOS = (".png", ".jpg", ".jpeg"), (".mp4", ".avi", ".mov")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Footage:
    """One raw sequence: a folder of pictures in the order of their numbers, or a video file."""

    split: str
    name: str
    path: Path

    def count(self) -> int:
        """Count the frames; a video is walked through, since its header cannot be relied on.

        Raises: InputError if a video ends before its header says.
        """
        if self.path.is_dir():
            return len(_pictures(self.path))
        frames, promised = _walked(self.path), self.promised()
        if frames < promised - 2:
            raise InputError(f"{self.path}: the video breaks off after {frames} of {promised} frames; mend or cut it")
        return frames

    def promised(self) -> int:
        """Return the number of frames in the folder or by the video's header, without decoding any."""
        if self.path.is_dir():
            return len(_pictures(self.path))
        return max(0, int(_open(self.path).get(cv2.CAP_PROP_FRAME_COUNT)))

    def size(self) -> tuple[int, int]:
        """Return (height, width) of the first picture or by the video's header."""
        return _size(self.path)

    def read(self, first: int, last: int) -> Iterator[np.ndarray]:
        """Yield the frames first..last as [H,W,3] uint8 BGR.

        Raises: InputError naming a frame that is broken or has another size than the first of the sequence.
        """
        height, width = self.size()
        frames = _pictures_of if self.path.is_dir() else _video_of
        for name, frame in frames(self.path, first, last):
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
    return [path for path in sorted(folder.iterdir()) if _is_sequence(path)] if folder else []


def _is_sequence(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return bool(_pictures(path)) if path.is_dir() else path.suffix.lower() in VIDEOS


def _pictures(folder: Path) -> list[Path]:
    """List the pictures in the order of the numbers in their names: 2.png before 10.png."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES and not path.name.startswith(".")]
    return sorted(paths, key=lambda p: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", p.stem)])


def _pictures_of(folder: Path, first: int, last: int) -> Iterator[tuple[Path, np.ndarray]]:
    for path in _pictures(folder)[first : last + 1]:
        yield path, read_image(path)


def _video_of(path: Path, first: int, last: int) -> Iterator[tuple[str, np.ndarray]]:
    video = _open(path)
    for number in range(last + 1):
        if not video.grab():
            raise InputError(f"{path}: frame {number} cannot be read")
        if number >= first:
            yield f"{path}, frame {number}", video.retrieve()[1]


@cache  # a walk through a video costs as much as decoding it, and a folder is listed for every window
def _walked(path: Path) -> int:
    video, frames = _open(path), 0
    while video.grab():
        frames += 1
    return frames


@cache
def _size(path: Path) -> tuple[int, int]:
    if path.is_dir():
        return image_size(_pictures(path)[0])
    video = _open(path)
    return int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(video.get(cv2.CAP_PROP_FRAME_WIDTH))


def _open(path: Path) -> cv2.VideoCapture:
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise InputError(f"{path}: no video that OpenCV can read; make it an H.264 mp4 or a folder of PNGs")
    return video
