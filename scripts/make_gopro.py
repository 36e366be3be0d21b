"""Make a data set of blurry pictures, spikes and sharp pictures out of sharp video.

    python scripts/make_gopro.py GOPRO_Large_all --output GOPRO --workers 8           # the published set
    python scripts/make_gopro.py clip.mp4 --output data/clip --factor 32              # a video of your own, 24-30 fps
    python scripts/make_gopro.py FRAMES --output OUT --interpolator none              # already interpolated, by 8
    python scripts/make_gopro.py clip.mp4 --output data/film --factor 24 --film 60    # whole recordings: see --help

The same command again makes what is missing and nothing else. See scripts/GOPRO_dataset.md.
"""

import glob
import math
import platform
import shutil
import sys
from dataclasses import MISSING, asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from tqdm import tqdm

from codes import parallel
from codes.cli import check_range, option, program, shown
from codes.data import manifest
from codes.data.fingerprint import changes, fingerprint
from codes.errors import InputError
from codes.motion.flow import raft_flow
from codes.motion.interpolation import INTERPOLATORS
from codes.simulation.camera import NOISE_GAP_MEAN, NOISE_GAP_STD, THRESHOLDS, Window
from codes.simulation.film import DUTIES, LONGEST, Film, bytes_of_film, folder_of, plan, record
from codes.simulation.footage import Footage, find
from codes.simulation.gopro import EXPOSURE, FACTORS, bytes_needed, convert, cropped, files, samples, spans

CHANGES_NOTHING = ("output", "workers", "shard", "device")  # options that the data do not depend on
OF_FILMS = ("film", "exposure", "truth_step", "spike_rate")

Work = list[Window] | list[Film]  # of one sequence: its samples, or its film


def without_film(o: "Options") -> str:
    return "" if o.film else "without --film"


def without_noise(o: "Options") -> str:
    return "" if o.noise else "with --no-noise"


def without_raft(o: "Options") -> str:
    return "" if o.interpolator == "raft" else f"with --interpolator {o.interpolator}, only with raft"


@dataclass(frozen=True)
class Options:
    input: str = option(
        MISSING, "GOPRO_Large_all, a folder of frame folders or videos, or one of those", positional=True
    )
    output: str = option(MISSING, "folder of the data set")
    factor: int = option(8, "spike frames from one raw frame to the next", choices=FACTORS)
    interpolator: str = option("dis", "how the frames between are made; none: they are there", choices=INTERPOLATORS)
    weights: str = option("", "file with RAFT weights; without it torchvision downloads them", unused=without_raft)
    test_sequences: tuple[str, ...] = option((), "sequences for test, where the input has no folders train and test")
    threshold: tuple[float, ...] = option((1.0,), "V_th in the paper's units; several make a set for each")
    white: int = option(0, "value of white in 16-bit pictures, 4095 for 12 bits [65535]")
    noise: bool = option(True, "noise spikes of the sensor")
    noise_mean: float = option(
        NOISE_GAP_MEAN, "mean gap between noise spikes, in pixels times spike frames", unused=without_noise
    )
    noise_std: float = option(NOISE_GAP_STD, "its standard deviation", unused=without_noise)
    seed: int = option(0, "seed of phases and noise")
    spike_full: bool = option(
        False, "also spikes at the size of the picture", unused=lambda o: "with --film" if o.film else ""
    )
    sequence: bool = option(
        False,
        "also the 7 sharp pictures of each test sample, in sharp_sequence",
        unused=lambda o: "with --film" if o.film else "",
    )
    workers: int = option(1, "processes")
    shard: str = option("1/1", "make the i-th of n shares of the sequences, as i/n")
    device: str = option("", "where RAFT runs; by default on the GPU if there is one", idle=without_raft)
    film: int = option(
        0,
        "instead of samples, make one recording of each sequence: a film exposed for so many per cent of the time, one "
        "spike stream, and true pictures",
        group="films",
    )
    exposure: int = option(EXPOSURE.length, "spike frames of an exposure", group="films", unused=without_film)
    truth_step: int = option(8, "spike frames from one true picture to the next", group="films", unused=without_film)
    spike_rate: float = option(20_000.0, "spike frames a second, for film.json", group="films", unused=without_film)


def main(o: Options) -> None:
    share, shares = check(o)
    footage = find(o.input, test_sequences=o.test_sequences)
    keep_off_raw(o, footage)
    if o.white and not any(sequence.is_deep() for sequence in footage):
        raise InputError(f"--white {o.white}: not used, {o.input} has no pictures of 16 bits; leave it out")
    if o.sequence and not any(sequence.split == "test" for sequence in footage):
        print("--sequence has no effect without test sequences; see --test_sequences", file=sys.stderr)
    if o.interpolator == "raft":
        raft_flow(o.weights, "cpu")  # weights that are missing are named before anything is written
    begin(o)
    unfinished, failures = list_unfinished(o, footage[share - 1 :: shares])
    jobs = split(unfinished, o.workers)
    count = sum(len(windows) for _, windows in jobs)
    print(f"{len(unfinished)} sequences, {count} {'films' if o.film else 'samples'} to make")
    check_space(o, jobs)
    failures |= run(o, unfinished, jobs)
    print(f"{o.output}: {len(unfinished.keys() - failures.keys())} sequences complete")
    if failures:
        print(f"{len(failures)} incomplete; repair them and run the same command again:", file=sys.stderr)
        for sequence, error in failures.items():
            print(f"  {label(sequence)}: {error}", file=sys.stderr)
        sys.exit(2 if all(isinstance(error, InputError) for error in failures.values()) else 1)


def list_unfinished(o: Options, footage: list[Footage]) -> tuple[dict[Footage, Work], dict[Footage, Exception]]:
    """List the samples to make of each sequence, and the sequences that cannot be read."""
    unfinished, failures = {}, {}
    for sequence in footage:
        try:
            size, windows = sequence.size(), missing(o, sequence)
            if (kept := cropped(*size)) != size:
                print(f"{label(sequence)}: {size[0]}x{size[1]} is cropped to its middle, {kept[0]}x{kept[1]}")
            unfinished[sequence] = windows
        except InputError as error:
            failures[sequence] = error
    return unfinished, failures


def run(o: Options, unfinished: dict[Footage, Work], jobs: list[tuple[Footage, Work]]) -> dict[Footage, Exception]:
    """Make the samples in several processes and record each finished sequence; return the sequences that failed."""
    kind = (
        partial(record, spike_rate=o.spike_rate)
        if o.film
        else partial(convert, spike_full=o.spike_full, sequence=o.sequence)
    )
    task = partial(
        kind,
        folders=folders(o),
        factor=o.factor,
        interpolation=o.interpolator,
        weights=o.weights,
        device=o.device,
        noise=(o.noise_mean, o.noise_std) if o.noise else None,
        seed=o.seed,
        white=o.white,
    )
    failures: dict[Footage, Exception] = {}
    left_out: dict[Footage, dict[int, str]] = {sequence: {} for sequence in unfinished}
    open_jobs = [sequence for sequence, _ in jobs]
    for sequence in unfinished.keys() - set(open_jobs):
        finish(o, sequence, {})
    total = sum(last - first + 1 for _, windows in jobs for first, last in spans(windows))
    with tqdm(total=total, unit="frame", mininterval=1, smoothing=0.05, disable=not jobs) as bar:
        ended = parallel.run(task, jobs, workers=o.workers, progress=lambda done: bar.update(done - bar.n))
        for (sequence, _), result in ended:
            open_jobs.remove(sequence)
            if isinstance(result, Exception):
                failures[sequence] = result
                bar.write(f"{label(sequence)}: stopped: {result}")
                continue
            left_out[sequence] |= result
            for name, why in result.items():
                bar.write(f"{label(sequence)}: sample {name:06d} left out: {why}")
            if sequence not in failures and sequence not in open_jobs:
                finish(o, sequence, left_out[sequence])
    return failures


def check(o: Options) -> tuple[int, int]:
    """Refuse values out of range; return the share and the number of shares."""
    check_range(o, "threshold", *THRESHOLDS)
    check_range(o, "seed", 0)
    check_range(o, "workers", 1, 1024)
    check_range(o, "noise_mean", 1)
    check_range(o, "noise_std", 0, o.noise_mean)
    if o.film:
        check_range(o, "film", *DUTIES)
        check_range(o, "exposure", 2, LONGEST)
        check_range(o, "truth_step", 1)
        check_range(o, "spike_rate", 1)
    if o.white:
        check_range(o, "white", 255, 65535)
    if not o.threshold or len(set(o.threshold)) < len(o.threshold):
        raise InputError(f"--threshold {shown(o.threshold)}: one or several different values are accepted")
    share, _, shares = o.shard.partition("/")
    if not (share.isdecimal() and shares.isdecimal() and 1 <= int(share) <= int(shares)):
        raise InputError(f"--shard {o.shard}: i/n with 1 <= i <= n is accepted, as 3/8")
    return int(share), int(shares)


def keep_off_raw(o: Options, footage: list[Footage]) -> None:
    """Refuse an output among the raw data, which are read only; beside a folder raw_data it may be."""
    output, raw = Path(o.output).resolve(), {Path(o.input).resolve()}
    above = {folder for sequence in footage for folder in sequence.path.resolve().parents}
    raw = {folder for folder in above if folder.name == "raw_data"} or raw
    if raw & {output, *output.parents}:
        raise InputError(f"--output {output}: lies among the raw data; choose a folder beside them")


def begin(o: Options) -> None:
    """Write the manifest, or compare it."""
    options = {name: value for name, value in asdict(o).items() if name not in CHANGES_NOTHING}
    if not o.white:
        del options["white"]  # records of older sets do not have it
    options = {name: value for name, value in options.items() if o.film or name not in OF_FILMS}
    options["input"] = str(Path(o.input).resolve())
    # The same raw data on a disk that is mounted elsewhere now: nothing is where it was, but its name is the same.
    before = manifest.read(Path(o.output) / "manifest.json").get("options", {}).get("input", "")
    if not Path(before).exists() and Path(before).name == Path(options["input"]).name:
        options["input"] = before
    versions = {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__}
    for name, version in manifest.claim(Path(o.output), options, versions).items():
        print(f"note: the set was begun with {name} {version}, this is {versions[name]}; bytes may differ")


def folders(o: Options) -> dict[float, Path]:
    """Return the set's folder for each threshold."""
    if len(o.threshold) == 1:
        return {o.threshold[0]: Path(o.output)}
    return {threshold: Path(o.output) / f"threshold_{threshold:g}" for threshold in o.threshold}


def missing(o: Options, sequence: Footage) -> Work:
    """List the samples of a sequence of which a file is missing, but those that a scene cut leaves out, or its film."""
    before = manifest.read(record_path(o, sequence))
    left_out, content = before.get("left_out", {}), fingerprint(sequence.files())
    if changed := changes(before.get("content", content), content):
        raise InputError(
            f"{sequence.path}: changed since samples of {o.output} were made from it ({changed}); choose another "
            "--output, or remove these samples and their record in manifest/"
        )
    frames = sequence.count()
    if o.film:
        film = film_of(o, frames)
        places = [folder_of(folder, sequence) for folder in folders(o).values()]
        return [] if all((place / name).exists() for place in places for name in film.files()) else [film]
    windows = samples(frames, factor=o.factor, interpolated=o.interpolator == "none")
    if not windows:
        print(f"{label(sequence)}: {frames} frames are too few for one sample of 97 spike frames")
    return [
        window
        for window in windows
        if f"{window.name:06d}" not in left_out
        and not all(
            (folder / path).exists()
            for folder in folders(o).values()
            for path in files(window, sequence, spike_full=o.spike_full, sequence=o.sequence)
        )
    ]


def film_of(o: Options, raw_frames: int) -> Film:
    """Return the film of a sequence of `raw_frames` frames."""
    return plan(
        raw_frames,
        factor=o.factor,
        interpolated=o.interpolator == "none",
        duty=o.film,
        exposure=o.exposure,
        step=o.truth_step,
    )


def split(unfinished: dict[Footage, Work], workers: int) -> list[tuple[Footage, Work]]:
    """Make a job of each sequence, or several where there are fewer sequences than workers."""
    unfinished = {sequence: windows for sequence, windows in unfinished.items() if windows}
    jobs = []
    for sequence, windows in unfinished.items():
        size = math.ceil(len(windows) / math.ceil(workers / len(unfinished)))
        jobs += [(sequence, windows[start : start + size]) for start in range(0, len(windows), size)]
    return sorted(jobs, key=lambda job: -len(job[1]))  # the longest first, so that none is left alone at the end


def check_space(o: Options, jobs: list[tuple[Footage, Work]]) -> None:
    """Estimate what will be written, and refuse if the disk cannot hold it."""
    size = (
        partial(bytes_of_film, thresholds=len(o.threshold))
        if o.film
        else partial(bytes_needed, thresholds=len(o.threshold), spike_full=o.spike_full, sequence=o.sequence)
    )
    needed = sum(size(part, sequence) for sequence, work in jobs for part in work)
    free = shutil.disk_usage(o.output).free
    print(f"about {needed / 1e9:.2f} GB to write, {free / 1e9:.1f} GB free")
    if needed > free:
        raise InputError(
            f"{o.output}: {needed / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free; make room and start again"
        )


def finish(o: Options, sequence: Footage, left_out: dict[int, str]) -> None:
    """Write the record of a finished sequence, and remove what a killed process may have left half written."""
    below = glob.escape(sequence.name)
    for folder in folders(o).values():
        for partial_file in folder.glob(f"{sequence.split}/{below if o.film else f'*/{below}'}/**/.*.partial"):
            partial_file.unlink()
    path = record_path(o, sequence)
    height, width = sequence.size()
    made = {
        "source": str(sequence.path.resolve()),
        "content": fingerprint(sequence.files()),
        "raw_frames": sequence.count(),
        "raw_size": [height, width],
        "size": cropped(height, width),
    }
    if not o.film:
        windows = samples(sequence.count(), factor=o.factor, interpolated=o.interpolator == "none")
        left = manifest.read(path).get("left_out", {}) | {f"{name:06d}": why for name, why in left_out.items()}
        made["samples"] = {f"{w.name:06d}": asdict(w) for w in windows if f"{w.name:06d}" not in left}
        made["left_out"] = dict(sorted(left.items()))
    manifest.write(path, made)


def record_path(o: Options, sequence: Footage) -> Path:
    return Path(o.output) / "manifest" / sequence.split / f"{sequence.name}.json"


def label(sequence: Footage) -> str:
    return f"{sequence.split}/{sequence.name}"


if __name__ == "__main__":
    program(main, Options, __doc__)
