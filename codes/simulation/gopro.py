"""Make blurry pictures and spikes of a sequence of raw footage, in one pass: each raw frame is decoded once.

Source: the conversion of S-SDM (arXiv 2403.09486): a blurry picture is the mean of the 97 8-bit frames of an exposure.
"""

import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from codes.data.images import write_image
from codes.data.spikes import SEQUENCE_STEP, UPSCALE, Exposure
from codes.files import replacing
from codes.simulation.camera import Window, exposures, sense
from codes.simulation.footage import Footage
from codes.simulation.frames import Interpolation, cropped
from codes.simulation.stream import Stream

EXPOSURE = Exposure()
TARGET_TIMES = EXPOSURE.centers(SEQUENCE_STEP)  # of the 7-frame protocol, in spike frames: 20, 36, ..., 116
PNG_BYTES_A_PIXEL = 1.6  # of a photograph in colour
FACTORS = tuple(factor for factor in range(1, EXPOSURE.length) if (EXPOSURE.length - 1) % factor == 0)


def samples(raw_frames: int, *, factor: int, interpolated: bool) -> list[Window]:
    """List the samples of a sequence of `raw_frames` frames; `interpolated` if the frames between are among them."""
    frames = raw_frames if interpolated else (raw_frames - 1) * factor + 1
    raw_per_blur = (EXPOSURE.length - 1) // factor + 1
    return exposures(frames, raw_per_blur=raw_per_blur, interpolated=factor - 1, overlap=factor - 1)


def pictures(window: Window, footage: Footage, *, sequence: bool = False) -> dict[str, int | None]:
    """List the pictures of a sample: path in the data set -> interpolated frame, None for the blurry one."""
    split, name = footage.split, f"{footage.name}/{window.name:06d}"
    paths = {f"{split}/blur_data/{name}.png": None, f"{split}/sharp_data/{name}.png": window.sharp}
    if sequence and split == "test" and window.spike_first is not None:
        paths |= {f"{split}/sharp_sequence/{name}/{at:03d}.png": window.spike_first + at for at in TARGET_TIMES}
    return paths


def streams(window: Window, footage: Footage, *, spike_full: bool = False) -> dict[str, bool]:
    """List the spike files of a sample: path in the data set -> whether it has the size of the picture."""
    if window.spike_first is None:
        return {}
    kinds = {"spike_data": False} | ({"spike_full": True} if spike_full else {})
    return {f"{footage.split}/{kind}/{footage.name}/{window.name:06d}.dat": full for kind, full in kinds.items()}


def files(window: Window, footage: Footage, *, sequence: bool = False, spike_full: bool = False) -> list[str]:
    """List the files of a sample, as paths in the data set."""
    return [*pictures(window, footage, sequence=sequence), *streams(window, footage, spike_full=spike_full)]


def bytes_needed(
    window: Window, footage: Footage, *, thresholds: int = 1, sequence: bool = False, spike_full: bool = False
) -> int:
    """Estimate the bytes of a sample's files; pictures are stored once for all thresholds."""
    height, width = cropped(*footage.size())
    pixels = sum(
        EXPOSURE.total * height * width // (1 if full else UPSCALE**2)
        for full in streams(window, footage, spike_full=spike_full).values()
    )
    return round(
        len(pictures(window, footage, sequence=sequence)) * height * width * PNG_BYTES_A_PIXEL + thresholds * pixels / 8
    )


def convert(
    footage: Footage,
    windows: list[Window],
    advance: Callable[[int], None],
    *,
    folders: dict[float, Path],
    interpolation: Interpolation,
    noise: tuple[float, float] | None = (140.0, 50.0),
    seed: int = 0,
    spike_full: bool = False,
    sequence: bool = False,
) -> dict[int, str]:
    """Write what is missing of the samples `windows` of one sequence.

    folders: V_th -> folder of the data set. noise: mean and standard deviation of the gaps between noise spikes.
    `advance` is called with numbers of interpolated frames that are done. Returns the samples that a scene cut leaves
    out: name -> why. The bytes of a sample depend on its frames, the options and the seed alone.
    Raises: InputError naming a damaged frame.
    """
    left_out, filling = {}, []
    for first, last in spans(windows):
        waiting = deque(window for window in windows if first <= window.begin <= last)
        behind = first
        for index, frame, cut in interpolation.frames(footage, first, last):
            if cut:
                why = f"a scene cut before raw frame {index // interpolation.step}"
                left_out |= {sample.window.name: why for sample in filling}
                filling = []
            while waiting and waiting[0].begin <= index:
                window = waiting.popleft()
                if window.begin < index:
                    left_out[window.name] = why  # it would begin among the frames that the cut leaves out
                    continue
                size = frame.shape[:2]
                sample = Sample(
                    window, footage, folders, size, noise=noise, seed=seed, spike_full=spike_full, sequence=sequence
                )
                filling.append(sample)
            intensities: dict[bool, np.ndarray] = {}
            for sample in filling:
                sample.add(index, frame, intensities)
            filling = [sample for sample in filling if not sample.write_if_full(index)]
            advance(max(0, min(index, last) + 1 - behind))
            behind = max(behind, index + 1)
    return left_out


def spans(windows: Iterable[Window]) -> list[tuple[int, int]]:
    """Join the frames of overlapping windows: [(first, last)]."""
    spans: list[tuple[int, int]] = []
    for window in sorted(windows, key=lambda window: window.begin):
        if spans and window.begin <= spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], window.end)
        else:
            spans.append((window.begin, window.end))
    return spans


class Sample:
    """One sample while its frames are read: only the files that are missing are made."""

    def __init__(
        self,
        window: Window,
        footage: Footage,
        folders: dict[float, Path],
        size: tuple[int, int],
        *,
        noise: tuple[float, float] | None,
        seed: int,
        spike_full: bool,
        sequence: bool,
    ):
        self.window, self.folders = window, list(folders.values())
        self.pictures = {
            path: index
            for path, index in pictures(window, footage, sequence=sequence).items()
            if not all((folder / path).exists() for folder in self.folders)
        }
        self.kept: dict[int | None, np.ndarray] = {}
        self.streams: dict[Path, tuple[Stream, list[bytes]]] = {}  # and the spike frames so far
        for path, full in streams(window, footage, spike_full=spike_full).items():
            scale = 1 if full else UPSCALE
            for threshold, folder in folders.items():
                if not (folder / path).exists():
                    # The same phases and noise for each threshold: the sets differ in it alone.
                    rng = np.random.default_rng((seed, zlib.crc32(footage.name.encode()), window.name, full))
                    shape = (EXPOSURE.total, size[0] // scale, size[1] // scale)
                    stream = Stream(shape, full=full, threshold=threshold, noise=noise, rng=rng)
                    self.streams[folder / path] = stream, []

    def add(self, index: int, frame: np.ndarray, intensities: dict[bool, np.ndarray]) -> None:
        """Take one frame [H,W,3] uint8; `intensities` keeps its intensity at the spike camera, for the next sample."""
        if index in self.pictures.values():
            self.kept[index] = frame
        if None in self.pictures.values() and self.window.first <= index <= self.window.last:
            total = self.kept.setdefault(None, np.zeros(frame.shape, np.uint16))
            np.add(total, frame, out=total)
        for stream, packed in self.streams.values():
            if stream.full not in intensities:
                intensities[stream.full] = sense(frame, full=stream.full)
            packed.append(stream.step(intensities[stream.full]))

    def write_if_full(self, index: int) -> bool:
        """Write the files if the frame `index` is the last one; return whether it is."""
        if index < self.window.end:
            return False
        for path, place in self.pictures.items():
            image = self.kept[place]
            if place is None:
                image = np.rint(image / np.float32(EXPOSURE.length)).astype(np.uint8)
            write_or_link([folder / path for folder in self.folders], image)
        for path, (_, packed) in self.streams.items():
            with replacing(path) as file:
                file.writelines(packed)
        return True


def write_or_link(paths: list[Path], image: np.ndarray) -> None:
    """Write a picture once; the other paths become names of the same file where the disk allows it."""
    there = next((path for path in paths if path.exists()), None)
    if there is None:
        there = paths[0]
        write_image(there, image)
    for path in paths:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(there, path)
            except OSError:
                with replacing(path) as file:
                    shutil.copyfileobj(there.open("rb"), file)
