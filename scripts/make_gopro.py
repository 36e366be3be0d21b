"""Make a data set of blurry pictures, spikes and sharp pictures out of sharp video.

    python scripts/make_gopro.py GOPRO_Large_all --output GOPRO --workers 8           # the published set
    python scripts/make_gopro.py clip.mp4 --output data/clip --factor 32              # a video of your own, 24-30 fps
    python scripts/make_gopro.py FRAMES --output OUT --interpolator none              # already interpolated, by 8
    python scripts/make_gopro.py clip.mp4 --output data/film --factor 24 --film 60    # a recording: film and stream

The same command again makes what is missing and nothing else. See scripts/GOPRO_dataset.md.
"""

import math
import platform
import shutil
import sys
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from tqdm import tqdm

from codes import parallel
from codes.cli import check_range, option, program, shown
from codes.data import manifest
from codes.errors import InputError
from codes.motion.flow import raft_flow
from codes.motion.interpolation import INTERPOLATORS
from codes.simulation.camera import NOISE_GAP_MEAN, NOISE_GAP_STD, THRESHOLDS
from codes.simulation.conversion import Conversion, FilmTiming, Work
from codes.simulation.film import DUTIES, LONGEST
from codes.simulation.footage import Footage, find
from codes.simulation.frames import Interpolation, cropped
from codes.simulation.gopro import EXPOSURE, FACTORS, spans

CHANGES_NOTHING = ("output", "workers", "shard", "device")  # options that the data do not depend on
OF_FILMS = ("film", "exposure", "truth_step", "spike_rate")


def without_film(o: "Options") -> str:
    return "" if o.film else "without --film"


def without_noise(o: "Options") -> str:
    return "" if o.noise else "with --no-noise"


def without_raft(o: "Options") -> str:
    return "" if o.interpolator == "raft" else f"with --interpolator {o.interpolator}, only with raft"


@dataclass(frozen=True)
class Options:
    input: str = option(
        MISSING, "GOPRO_Large_all, a folder of videos or of folders of frames, or one of these", positional=True
    )
    output: str = option(MISSING, "folder of the data set")
    factor: int = option(8, "spike frames from one raw frame to the next", choices=FACTORS)
    interpolator: str = option("dis", "interpolation of frames; none: the input is interpolated", choices=INTERPOLATORS)
    weights: str = option("", "weights of RAFT [those that torchvision downloads]", unused=without_raft)
    test_sequences: tuple[str, ...] = option(
        (), "names of the test sequences, where the input has no folders train and test"
    )
    threshold: tuple[float, ...] = option((1.0,), "V_th in the paper's units; of several, each gets a data set")
    white: int = option(0, "value of white in 16-bit pictures, such as 4095 for 12 bits [65535]")
    noise: bool = option(True, "add noise spikes of the sensor")
    noise_mean: float = option(
        NOISE_GAP_MEAN, "mean gap between noise spikes, in pixels times spike frames", unused=without_noise
    )
    noise_std: float = option(NOISE_GAP_STD, "standard deviation of these gaps", unused=without_noise)
    seed: int = option(0, "random seed of phases and noise")
    spike_full: bool = option(
        False, "also write spikes at the size of the picture", unused=lambda o: "with --film" if o.film else ""
    )
    sequence: bool = option(
        False,
        "also write the seven sharp pictures of each test sample, in sharp_sequence",
        unused=lambda o: "with --film" if o.film else "",
    )
    workers: int = option(1, "number of processes")
    shard: str = option("1/1", "make the i-th of n shares of the sequences, as i/n")
    device: str = option("", "device of RAFT [cuda where there is one]", idle=without_raft)
    film: int = option(
        0,
        "make one recording of each whole sequence instead of samples: a film exposed for this percentage of the time, "
        "one spike stream, and true pictures",
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
    conversion = conversion_of(o)
    unfinished, failures = list_unfinished(conversion, footage[share - 1 :: shares])
    if shares == 1 and not failures and not any(conversion.film or conversion.windows(one) for one in footage):
        raise InputError(
            f"{o.input}: no sequence is long enough for one sample; record more frames, or give a larger --factor, and "
            "another --output"
        )
    jobs = split(unfinished, o.workers)
    count = sum(len(windows) for _, windows in jobs)
    print(f"{len(unfinished)} sequences, {count} {'films' if o.film else 'samples'} to make")
    check_space(conversion, jobs)
    failures |= run(conversion, unfinished, jobs, o.workers)
    print(f"{o.output}: {len(unfinished.keys() - failures.keys())} sequences complete")
    if failures:
        print(f"{len(failures)} incomplete; repair them and run the same command again:", file=sys.stderr)
        for sequence, error in failures.items():
            print(f"  {label(sequence)}: {error}", file=sys.stderr)
        sys.exit(2 if all(isinstance(error, InputError) for error in failures.values()) else 1)


def conversion_of(o: Options) -> Conversion:
    """Return what the options ask for."""
    return Conversion(
        output=Path(o.output),
        thresholds=o.threshold,
        interpolation=Interpolation(
            factor=o.factor, method=o.interpolator, weights=o.weights, device=o.device, white=o.white
        ),
        noise=(o.noise_mean, o.noise_std) if o.noise else None,
        seed=o.seed,
        spike_full=o.spike_full,
        sequence=o.sequence,
        film=FilmTiming(o.film, o.exposure, o.truth_step, o.spike_rate) if o.film else None,
    )


def list_unfinished(
    conversion: Conversion, footage: list[Footage]
) -> tuple[dict[Footage, Work], dict[Footage, Exception]]:
    """List the samples to make of each sequence, and the sequences that cannot be read."""
    unfinished, failures = {}, {}
    for sequence in footage:
        try:
            size, missing = sequence.size(), conversion.missing(sequence)
            if (kept := cropped(*size)) != size:
                print(f"{label(sequence)}: {size[0]}x{size[1]} is cropped to its middle, {kept[0]}x{kept[1]}")
            if not (conversion.film or conversion.windows(sequence)):
                print(f"{label(sequence)}: {sequence.count()} frames are too few for one sample of 97 spike frames")
            unfinished[sequence] = missing
        except InputError as error:
            failures[sequence] = error
    return unfinished, failures


def run(
    conversion: Conversion, unfinished: dict[Footage, Work], jobs: list[tuple[Footage, Work]], workers: int
) -> dict[Footage, Exception]:
    """Make the samples in several processes and record each finished sequence; return the sequences that failed."""
    failures: dict[Footage, Exception] = {}
    left_out: dict[Footage, dict[int, str]] = {sequence: {} for sequence in unfinished}
    open_jobs = [sequence for sequence, _ in jobs]
    for sequence in unfinished.keys() - set(open_jobs):
        conversion.finish(sequence, {})
    total = sum(last - first + 1 for _, windows in jobs for first, last in spans(windows))
    with tqdm(total=total, unit="frame", mininterval=1, smoothing=0.05, disable=not jobs) as bar:
        ended = parallel.run(conversion.make, jobs, workers=workers, progress=lambda done: bar.update(done - bar.n))
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
                conversion.finish(sequence, left_out[sequence])
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


def split(unfinished: dict[Footage, Work], workers: int) -> list[tuple[Footage, Work]]:
    """Make a job of each sequence, or several where there are fewer sequences than workers."""
    unfinished = {sequence: windows for sequence, windows in unfinished.items() if windows}
    jobs = []
    for sequence, windows in unfinished.items():
        size = math.ceil(len(windows) / math.ceil(workers / len(unfinished)))
        jobs += [(sequence, windows[start : start + size]) for start in range(0, len(windows), size)]
    return sorted(jobs, key=lambda job: -len(job[1]))  # the longest first, so that none is left alone at the end


def check_space(conversion: Conversion, jobs: list[tuple[Footage, Work]]) -> None:
    """Estimate what will be written, and refuse if the disk cannot hold it."""
    needed = sum(conversion.bytes_of(part, sequence) for sequence, work in jobs for part in work)
    free = shutil.disk_usage(conversion.output).free
    print(f"about {needed / 1e9:.2f} GB to write, {free / 1e9:.1f} GB free")
    if needed > free:
        raise InputError(
            f"{conversion.output}: {needed / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free; make room and start again"
        )


def label(sequence: Footage) -> str:
    return f"{sequence.split}/{sequence.name}"


if __name__ == "__main__":
    program(main, Options, __doc__)
