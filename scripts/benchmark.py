"""Measure what the project promises, each thing beside the yardstick it is promised against.

python scripts/benchmark.py data FRAMES              # making a data set, beside cv2.imread of its frames
python scripts/benchmark.py interpolation FOLDER     # frames left out and rebuilt, beside simpler ways
python scripts/benchmark.py metrics                  # of one output, beside reading the files of its sample
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from codes.cli import option, program
from codes.errors import InputError
from codes.footage import find
from codes.interpolation import INTERPOLATORS, dis_flow, interpolator

MAKE = Path(__file__).resolve().parent / "make_gopro.py"


@dataclass(frozen=True)
class DataOptions:
    frames: str = option(MISSING, "folder of frames, taken as already interpolated", positional=True)
    count: int = option(250, "how many of them")
    workers: tuple[int, ...] = option((1, 2), "numbers of processes; each gets such a folder of its own")
    repeats: int = option(5, "runs of each, in turn; medians are told")
    interpolator: str = option("none", "as of make_gopro.py", choices=INTERPOLATORS)


def data(o: DataOptions) -> None:
    """Time make_gopro.py from start to end, per frame, in turn with cv2.imread of the same frames."""
    frames = sorted(path for path in Path(o.frames).resolve().iterdir() if path.suffix in (".png", ".jpg"))[: o.count]
    if len(frames) < o.count:
        raise InputError(f"{o.frames}: {len(frames)} frames; --count {o.count} were asked for")
    reading, making = ({workers: [] for workers in o.workers} for _ in range(2))
    with tempfile.TemporaryDirectory() as place:
        for workers in o.workers:
            for copy in range(workers):
                for frame in frames:
                    link = Path(place, f"raw{workers}", str(copy), frame.name)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(frame)
        for run in range(o.repeats):
            for workers in o.workers:
                with ProcessPoolExecutor(workers) as pool:
                    call = partial(list, pool.map(_read, [frames] * workers))
                    reading[workers].append(_seconds(call) / (workers * len(frames)))
                command = [sys.executable, MAKE, f"{place}/raw{workers}", "--output", f"{place}/set{workers}_{run}"]
                command += ["--interpolator", o.interpolator, "--workers", str(workers)]
                call = partial(subprocess.run, command, check=True, capture_output=True)
                making[workers].append(_seconds(call) / (workers * len(frames)))
    height, width = cv2.imread(str(frames[0])).shape[:2]
    print(f"{len(frames)} frames of {height}x{width} for each process, medians of {o.repeats}, ms a frame")
    print("processes  cv2.imread  make_gopro  ratio")
    for workers in o.workers:
        ratio = median(make / read for make, read in zip(making[workers], reading[workers], strict=True))
        read, make = 1e3 * median(reading[workers]), 1e3 * median(making[workers])
        print(f"{workers:9d}  {read:10.1f}  {make:10.1f}  {ratio:5.2f}")
    print(f"largest process {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3:.0f} MB")


def _read(frames: list[Path]) -> None:
    cv2.setNumThreads(1)
    for frame in frames:
        cv2.imread(str(frame))


@dataclass(frozen=True)
class InterpolationOptions:
    folder: str = option(MISSING, "folder of frame folders or videos", positional=True)
    frames: int = option(24, "frames left out of each sequence, spread over it")
    weights: str = option("", "RAFT weights, to compare RAFT too")


def interpolation(o: InterpolationOptions) -> None:
    """Leave frames out, rebuild each from its neighbours, compare."""
    from skimage.metrics import structural_similarity

    def ours(flow: str, **settings: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        return lambda before, after: next(interpolator(flow, **settings)(before, after, (0.5,)))

    ways = {"blend": _blend, "forward DIS flow": _forward_only, "ours, DIS": ours("dis")}
    if o.weights:
        ways["ours, RAFT"] = ours("raft", weights=o.weights)
    scores = {way: [] for way in ways}
    for sequence in find(o.folder):
        of_sequence = {way: [] for way in ways}
        for middle in np.unique(np.linspace(1, sequence.count() - 2, o.frames).astype(int) // 2 * 2 + 1):
            if middle + 1 >= sequence.count():
                continue
            before, truth, after = sequence.read(middle - 1, middle + 1)
            for way, rebuild in ways.items():
                frame = rebuild(before, after)
                ssim = structural_similarity(frame, truth, channel_axis=2)
                of_sequence[way].append((cv2.PSNR(frame, truth), ssim))
        for way, rows in of_sequence.items():
            _print_score(sequence.name, way, rows)
            scores[way] += rows
    for way, rows in scores.items():
        _print_score("all", way, rows)


def _print_score(name: str, way: str, rows: list[tuple[float, float]]) -> None:
    print(f"{name:20s} {way:18s} PSNR {mean(p for p, _ in rows):6.2f}  SSIM {mean(s for _, s in rows):.4f}", flush=True)


def _blend(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return cv2.addWeighted(before, 0.5, after, 0.5, 0)


def _forward_only(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    height, width = before.shape[:2]
    grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
    places = grid - 0.5 * dis_flow(before, after)
    return cv2.remap(before, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@dataclass(frozen=True)
class MetricsOptions:
    base_folder: str = option("", "data set, of which the first test sample is taken [a demo scene of --size]")
    size: tuple[int, ...] = option((720, 1280), "height and width of that scene")
    repeats: int = option(30, "runs of each, in turn; medians are told")
    threads: int = option(1, "threads that may compute")


def metrics(o: MetricsOptions) -> None:
    """Time psnr, ssim and ssim_paper of one output, as evaluation measures them, in turn with reading the sample."""
    import torch

    from codes.dataset import Packed, SpikeDataset
    from codes.metrics import measure

    torch.set_num_threads(o.threads)
    cv2.setNumThreads(o.threads)
    with tempfile.TemporaryDirectory() as place:
        if not o.base_folder:
            _one_sample(Path(place), *o.size)
        samples = SpikeDataset(o.base_folder or place, "test")
        batch = Packed.collate([samples[0]]).to(torch.device("cpu"))
        calls = {"reading": lambda: samples[0], "metrics": lambda: measure(batch.blur, batch.sharp)}
        seconds = {name: [] for name in calls}
        for _ in range(o.repeats):
            for name, call in calls.items():
                seconds[name].append(_seconds(call))
    print("{}x{} x3, {} thread(s), medians of {}, ms".format(*samples.shape(0), o.threads, o.repeats))
    for name, times in seconds.items():
        print(f"{name:10s} {1e3 * median(times):6.1f}   fastest {1e3 * min(times):6.1f}")
    print(f"ratio      {median(seconds['metrics']) / median(seconds['reading']):6.2f}")


def _one_sample(folder: Path, height: int, width: int) -> None:
    """Write the three files of a sample: a photograph of scikit-image, blurred, and spikes at a rate that is usual."""
    from skimage.data import astronaut

    from codes.images import write_image
    from codes.spikes import Exposure, write_spikes

    sharp = cv2.resize(astronaut()[..., ::-1], (width, height), interpolation=cv2.INTER_CUBIC)
    write_image(folder / "test/sharp_data/scene/000019.png", sharp)
    write_image(folder / "test/blur_data/scene/000019.png", cv2.blur(sharp, (25, 1)))
    spikes = np.random.default_rng(0).random((Exposure().total, height // 4, width // 4)) < 0.3
    write_spikes(folder / "test/spike_data/scene/000019.dat", spikes)


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


BENCHMARKS = {
    "data": (data, DataOptions),
    "interpolation": (interpolation, InterpolationOptions),
    "metrics": (metrics, MetricsOptions),
}

if __name__ == "__main__":
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        sys.exit(f"{__doc__}\n{name or 'nothing'}: one of {', '.join(BENCHMARKS)} is accepted")
    program(*BENCHMARKS[name], __doc__)
