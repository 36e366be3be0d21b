"""Time make_gopro.py per frame, alternating with cv2.imread of the same frames.

python scripts/dev/benchmark.py data FRAMES
"""

import resource
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import cv2

from codes.cli import option
from codes.errors import InputError
from codes.motion.interpolation import INTERPOLATORS
from codes.reporting.machine import seconds_of, spread
from scripts.dev.benchmarks.common import Row, print_table

MAKE_GOPRO = Path(__file__).resolve().parents[2] / "make_gopro.py"


@dataclass(frozen=True)
class Options:
    frames: str = option(MISSING, "folder of PNG or JPEG frames at the rate of the spike camera", positional=True)
    count: int = option(250, "number of frames")
    workers: tuple[int, ...] = option((1, 2), "numbers of processes; each process gets its own copy of the frames")
    repeats: int = option(5, "runs of each, in turn; the median is reported")
    interpolator: str = option("none", "--interpolator of make_gopro.py", choices=INTERPOLATORS)
    json: bool = option(False, "print one JSON object a line")


def main(o: Options) -> None:
    frames = sorted(path for path in Path(o.frames).resolve().iterdir() if path.suffix in (".png", ".jpg"))[: o.count]
    if len(frames) < o.count:
        raise InputError(f"{o.frames}: {len(frames)} frames found, --count {o.count} needs more")
    with tempfile.TemporaryDirectory() as place:
        for workers in o.workers:
            link_frames(frames, Path(place, f"raw{workers}"), copies=workers)
        reading: dict[int, list[float]] = {workers: [] for workers in o.workers}
        making: dict[int, list[float]] = {workers: [] for workers in o.workers}
        for run in range(o.repeats):
            for workers in o.workers:
                count = workers * len(frames)
                reading[workers].append(seconds_to_read(frames, workers=workers) / count)
                output = f"{place}/set{workers}_{run}"
                making[workers].append(
                    seconds_to_make(f"{place}/raw{workers}", output, workers=workers, interpolator=o.interpolator)
                    / count
                )
    height, width = cv2.imread(str(frames[0])).shape[:2]
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    print(f"{len(frames)} frames of {height}x{width} for each process, medians of {o.repeats}", file=sys.stderr)
    print(f"largest process {largest:.0f} MB", file=sys.stderr)
    print_table([row(workers, reading[workers], making[workers]) for workers in o.workers], as_json=o.json)


def row(workers: int, reading: list[float], making: list[float]) -> Row:
    """Compare the seconds per frame of both programs."""
    ratios = [make / read for make, read in zip(making, reading, strict=True)]
    return {
        "processes": workers,
        "cv2.imread, ms a frame": 1e3 * median(reading),
        "make_gopro, ms a frame": 1e3 * median(making),
        "of cv2.imread": median(ratios),
        "spread": spread(ratios),
    }


def link_frames(frames: list[Path], folder: Path, *, copies: int) -> None:
    """Make sequences FOLDER/0, FOLDER/1 ... of links to the same frames."""
    for copy in range(copies):
        sequence = folder / str(copy)
        sequence.mkdir(parents=True)
        for frame in frames:
            (sequence / frame.name).symlink_to(frame)


def seconds_to_read(frames: list[Path], *, workers: int) -> float:
    with ProcessPoolExecutor(workers) as pool:
        return seconds_of(partial(list, pool.map(read_all, [frames] * workers)))


def read_all(frames: list[Path]) -> None:
    cv2.setNumThreads(1)
    for frame in frames:
        cv2.imread(str(frame))


def seconds_to_make(raw: str, output: str, *, workers: int, interpolator: str) -> float:
    command = [sys.executable, str(MAKE_GOPRO), raw, "--output", output]
    command += ["--interpolator", interpolator, "--workers", str(workers)]
    return seconds_of(partial(subprocess.run, command, check=True, capture_output=True))
