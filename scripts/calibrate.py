"""Calibrate a rig: find from one recording how the pictures lie in the stream of spikes, when, and what is defective.

    python scripts/calibrate.py PICTURES stream.dat --out rig.json    # pictures in the order of their names, one stream
    python scripts/calibrate.py PICTURES SPIKES --out rig.json        # two folders, files of the same name
    python scripts/calibrate.py PICTURES stream.dat --flat flat.dat --out rig.json    # and the gain of each spike pixel

Writes rig.json for deblur.py --rig and make_real.py, and beside it a report, rig.html: look at it before you trust the
rig. Record a scene with texture that moves, and change the view between the pictures.
"""

import platform
import sys
from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import torch
from tqdm import tqdm

from codes.cli import check_range, option, program
from codes.data.images import read_image
from codes.data.listing import PICTURES, files_in
from codes.data.sensor import Defects, defective_pixels, fixed_pattern_gain, lost_frames, repair
from codes.errors import InputError
from codes.files import replacing
from codes.registration.calibration import Calibrated, calibrate
from codes.registration.evidence import Shot
from codes.registration.geometry import ratio_in_middle
from codes.registration.intensity import Read
from codes.registration.rig_file import CalibratedRig, gain_file, write_rig
from codes.reporting.calibration_report import calibration_report
from codes.restoration.pairs import find_pairs, numbered
from codes.restoration.spike_file import SpikeFormat, guess, read

BLOCK = 256  # spike frames unpacked at a time: recordings may be longer than memory
# Accepted of a uniform scene: spikes of a pixel at least, and a spike frame at most, in the median; deviation of gains.
FEWEST, BRIGHTEST, UNEVEN = 500, 0.8, 0.2
ROWS, BITS = ("", "bottom", "top"), ("", "lowest", "highest")


@dataclass(frozen=True)
class Options:
    pictures: str = option(MISSING, "folder of blurry pictures, in the order of their names", positional=True)
    stream: str = option(MISSING, "spike file of all pictures, or a folder with one for each", positional=True)
    out: str = option("rig.json", "file of the rig; the report lies beside it, as .html")
    flat: str = option("", "spike file of a uniform scene: the gain of each pixel, which is undone with the rig")
    geometry: tuple[int, ...] = option((), "height and width of the spikes [guessed]")
    rows: str = option("", "the row that a spike file starts with [bottom; top in .npz, .npy]", choices=ROWS)
    bits: str = option("", "the bit of a byte that is its leftmost pixel [lowest]", choices=BITS)
    ratio: float = option(0.0, "picture pixels per spike pixel, to within a quarter [as if both show the same view]")
    force: bool = option(False, "overwrite an existing rig")


class Flat(NamedTuple):
    """What a recording of a uniform scene tells of the spike pixels, each [h,w]."""

    frames: int
    hot: np.ndarray
    dead: np.ndarray
    gain: np.ndarray

    @property
    def deviation(self) -> float:
        """Standard deviation of the gain of the pixels that are not defective."""
        return float(self.gain[~(self.hot | self.dead)].std())


def main(o: Options) -> None:
    check(o)
    pictures, streams = sources(o)
    first = next(iter(streams))
    spike_format = format_of(o, first)
    flat = flat_of(o, spike_format) if o.flat else None
    hot, dead = (flat.hot, flat.dead) if flat else np.zeros((2, spike_format.height, spike_format.width), bool)
    shots: list[Shot] = []
    for path, names in tqdm(streams.items(), desc="spike files", disable=len(streams) < 2):
        of_file = format_of(o, path, like=spike_format)
        of_hot, of_dead = defective_pixels(count(path, of_file), of_file.frames)
        hot, dead = hot | of_hot, dead | of_dead
        shots += shots_of(path, of_file, of_file.frames, [(name, pictures[name]) for name in names])
    sides = {shot.picture.shape for shot in shots}
    if len(sides) > 1:
        raise InputError(f"{o.pictures}: pictures of several sizes; those of one camera are accepted")
    gain = flat.gain if flat else None
    shots = [shot._replace(read=partial(repaired, shot.read, hot, dead), gain=gain) for shot in shots]
    result = run(shots, o.ratio)
    if result.registration is None:
        raise InputError(f"{o.pictures}: no picture could be placed with certainty ({result.reason})")
    rig = rig_of(result, shots[0], spike_format, hot, dead, gain)
    found_by = {
        "pictures": o.pictures,
        "stream": o.stream,
        "flat": o.flat or None,
        "flat_frames": flat.frames if flat else None,
        "pictures_placed": sum(one.is_placed for one in result.located),
        "exposures_found": sum(one.is_sure for one in result.located),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__,
                     "torch": torch.__version__},
    }  # fmt: skip
    write_rig(o.out, rig, found_by=found_by)
    report = Path(o.out).with_suffix(".html")
    with replacing(report) as file:
        file.write(calibration_report(o.pictures, rig, shots, result).encode())
    print_summary(o, rig, result, report)
    if flat:
        print_gain(o, flat)


def check(o: Options) -> None:
    """Raise InputError for values out of range, and for a rig that exists."""
    if o.ratio:
        check_range(o, "ratio", 0.8, 10)
    if len(o.geometry) not in (0, 2) or min(o.geometry, default=1) < 1:
        raise InputError(f"--geometry {' '.join(map(str, o.geometry))}: height and width are accepted")
    if Path(o.out).suffix != ".json":
        raise InputError(f"--out {o.out}: a name that ends with .json is accepted")
    if o.flat and not Path(o.flat).is_file():
        raise InputError(f"--flat {o.flat}: no such spike file")
    for path in (Path(o.out), gain_file(o.out)) if o.flat else (Path(o.out),):
        if path.exists() and not o.force:
            raise InputError(f"--out {path}: exists; name another one, or write over it with --force")


def sources(o: Options) -> tuple[dict[str, Path], dict[Path, list[str]]]:
    """Return the pictures by name, and the names of the pictures of each spike file."""
    if not Path(o.pictures).is_dir():
        raise InputError(f"{o.pictures}: a folder of pictures is accepted")
    if Path(o.stream).is_dir():
        pairs = find_pairs(o.pictures, o.stream)
        return {name: pair[0] for name, pair in pairs.items()}, {pair[1]: [name] for name, pair in pairs.items()}
    pictures = files_in(o.pictures, PICTURES)
    if not pictures:
        raise InputError(f"{o.pictures}: no pictures in it ({', '.join(PICTURES)})")
    return pictures, {Path(o.stream): list(pictures)}


def format_of(o: Options, path: Path, *, like: SpikeFormat | None = None) -> SpikeFormat:
    """Return how a spike file is to be read: as stated, as the other files of the recording, as the format says."""
    found = guess(path) if not o.geometry else guess(path, geometry=(o.geometry[0], o.geometry[1]))
    rows = o.rows or ("bottom" if path.suffix.lower() == ".dat" else "top")
    wanted = {"flip": rows == "bottom", "low_bit_first": (o.bits or "lowest") == "lowest"}
    if like:
        wanted |= {"height": like.height, "width": like.width, "time_last": like.time_last}
    fitting = [one for one in found if all(getattr(one, name) == value for name, value in wanted.items())]
    if not fitting:
        raise InputError(f"{path}: cannot be read as stated or as the others; it may be {found[0]}")
    return fitting[0]


def count(path: Path, spike_format: SpikeFormat) -> np.ndarray:
    """Count the spikes of each pixel of a file, [h,w]."""
    total = np.zeros((spike_format.height, spike_format.width), np.int64)
    for first in range(0, spike_format.frames, BLOCK):
        total += read(path, spike_format, first=first, stop=first + BLOCK).sum(0, dtype=np.int64)
    return total


def flat_of(o: Options, like: SpikeFormat) -> Flat:
    """Return what the recording of a uniform scene tells.

    Raises: InputError if its pixels fire too seldom, or in nearly every spike frame.
    """
    path = Path(o.flat)
    spike_format = format_of(o, path, like=like)
    total = count(path, spike_format)
    spikes, rate = np.median(total), np.median(total) / spike_format.frames
    if spikes < FEWEST:
        raise InputError(f"--flat {path}: {spikes:.0f} spikes a pixel; record longer, or light: {FEWEST} are accepted")
    if rate > BRIGHTEST:
        raise InputError(f"--flat {path}: pixels fire in {rate:.0%} of the spike frames; at most {BRIGHTEST:.0%} are "
                         "accepted: record less light")  # fmt: skip
    hot, dead = defective_pixels(total, spike_format.frames)
    flat = Flat(spike_format.frames, hot, dead, fixed_pattern_gain(total, hot | dead))
    if flat.deviation > UNEVEN:
        raise InputError(f"--flat {path}: neighbouring pixels differ by {flat.deviation:.0%}, at most {UNEVEN:.0%} are "
                         "accepted: record a uniform scene, out of focus")  # fmt: skip
    return flat


def shots_of(path: Path, spike_format: SpikeFormat, total: int, pictures: list[tuple[str, Path]]) -> list[Shot]:
    """Return the pictures of a spike file; several are expected to fill it evenly."""
    numbers = numbered([name for name, _ in pictures])
    period = total / (numbers[-1] + 1)

    def read_part(first: int, stop: int) -> np.ndarray:
        return read(path, spike_format, first=first, stop=stop)

    return [
        Shot(name, read_image(picture), read_part, total, number, (number + 0.25) * period, period)
        for number, (name, picture) in zip(numbers, pictures, strict=True)
    ]


def repaired(read_part: Read, hot: np.ndarray, dead: np.ndarray, first: int, stop: int) -> np.ndarray:
    """Read spike frames whose defects are repaired."""
    spikes = read_part(first, stop)
    return repair(spikes, Defects(hot, dead, lost_frames(spikes.sum((1, 2), dtype=np.int64))))


def run(shots: list[Shot], ratio: float) -> Calibrated:
    """Calibrate with a progress bar."""
    with tqdm(total=len(shots), desc="pictures", unit="picture") as bar:
        for result in calibrate(shots, ratio=ratio):
            if isinstance(result, Calibrated):
                return result
            bar.n = max(bar.n, result + 1)
            bar.refresh()


def rig_of(
    result: Calibrated,
    shot: Shot,
    spike_format: SpikeFormat,
    hot: np.ndarray,
    dead: np.ndarray,
    gain: np.ndarray | None,
) -> CalibratedRig:
    registration, clock = result.registration, result.clock
    return CalibratedRig(
        picture=shot.picture.shape[:2],
        spikes=(spike_format.height, spike_format.width),
        spike_format=str(spike_format),
        orientation=registration.orientation,
        homography=registration.homography,
        ratio=ratio_in_middle(registration.homography, shot.picture.shape),
        clock={"first": clock.first, "period": clock.period, "length": clock.length} if clock else None,
        response=result.response,
        hot=tuple(map(tuple, np.argwhere(hot).tolist())),
        dead=tuple(map(tuple, np.argwhere(dead).tolist())),
        gain=gain,
    )


def print_summary(o: Options, rig: CalibratedRig, result: Calibrated, report: Path) -> None:
    """Print what was found."""
    placed = [one for one in result.located if one.is_placed]
    errors = [one.corner_error for one in placed]
    found = sum(one.is_sure for one in placed)
    print(f"{len(placed)} of {len(result.located)} pictures placed, exposures of {found} found")
    print(f"the spikes are {rig.orientation}, {rig.ratio:.2f} picture pixels a spike pixel")
    print(f"corners agree to {np.median(errors):.2f} picture pixels in the median, {max(errors):.2f} at worst")
    clock = rig.clock
    described = (
        f"first {clock['first']:.1f}, period {clock['period']:.2f}, length {clock['length']}"
        if clock
        else f"not found: {result.reason}"
    )
    print(f"clock, in spike frames: {described}")
    print(f"response: exponent {rig.response.exponent:.2f}, black level {255 * rig.response.black:.0f} of 255")
    print(f"defective pixels: {len(rig.hot)} hot, {len(rig.dead)} dead")
    print(f"{o.out}, report {report}")


def print_gain(o: Options, flat: Flat) -> None:
    """Print what was found of the gain."""
    print(f"gain: standard deviation {flat.deviation:.1%} over {flat.frames} spike frames, in {gain_file(o.out)}")


if __name__ == "__main__":
    program(main, Options, __doc__)
