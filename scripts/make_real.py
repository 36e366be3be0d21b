"""Make a training set of a calibrated rig, laid out for --data_type real.

    python scripts/make_real.py PICTURES stream.dat --rig rig.json --output data/mine
    python scripts/make_real.py PICTURES SPIKES --rig rig.json --output data/mine      # files of the same name
    python train_deblur.py --base_folder data/mine --data_type real --recipe isi --bs 2

Writes OUTPUT/{blur_data,spike_data}/recording/NAME.{png,dat}: 137 spike frames around each exposure, their defects
repaired, and the picture with its response undone, at four times their size. The gain of spike pixels is not undone:
spikes are binary, and integrating them anew costs more than the gain does. Pictures without 20 spike frames on either
side are left out. The same command again makes what is missing.
"""

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from tqdm import tqdm

from codes.cli import option, program
from codes.data import manifest
from codes.data.fingerprint import fingerprint
from codes.data.images import read_image, write_image
from codes.data.orientation import upright
from codes.data.sensor import repair
from codes.data.spikes import UPSCALE, Exposure, write_spikes
from codes.errors import InputError
from codes.registration.geometry import in_view_of_spikes
from codes.registration.resampling import at_pace, largest_inside, picture_on_spike_grid
from codes.registration.rig_file import CalibratedRig, read_rig
from codes.restoration.pairs import Pair, find_pairs, pictures_of_stream
from codes.restoration.placement import check_picture_size, defects_of_rig, format_of_rig
from codes.restoration.spike_file import SpikeFormat, read

SEQUENCE = "recording"
SMALLEST = 16  # spike pixels along a side of a sample


@dataclass(frozen=True)
class Options:
    pictures: str = option(MISSING, "folder of blurry pictures, in the order of their names", positional=True)
    stream: str = option(MISSING, "spike file of all pictures, or a folder with one for each", positional=True)
    rig: str = option(MISSING, "rig.json of scripts/calibrate.py")
    output: str = option(MISSING, "folder of the training set")


def main(o: Options) -> None:
    rig, pairs = read_rig(o.rig), sources(o)
    used = crop(rig)
    claimed = {"pictures": o.pictures, "stream": o.stream, "rig": fingerprint({"rig": Path(o.rig)})["rig"]}
    manifest.claim(Path(o.output), claimed, {}, name="manifest.json")
    formats = {path: format_of_rig(path, rig) for path in {pair.spikes for pair in pairs.values()}}
    left_out = 0
    for name, (picture, stream, number) in tqdm(pairs.items(), desc=o.output, unit="picture"):
        blur, spikes = (
            Path(o.output, kind, SEQUENCE, f"{name}{suffix}")
            for kind, suffix in (("blur_data", ".png"), ("spike_data", ".dat"))
        )
        exposure = rig.exposure(number)
        if not has_margins(exposure, formats[stream].frames):
            left_out += 1
        elif not (blur.exists() and spikes.exists()):
            write_image(blur, picture_of(rig, picture, used))
            write_spikes(spikes, spikes_of(rig, stream, formats[stream], exposure, used))
    height, width = (side.stop - side.start for side in used)
    size = f"pictures {UPSCALE * height}x{UPSCALE * width}, spikes {height}x{width}"
    print(f"{o.output}: {len(pairs) - left_out} samples, {size}")
    if rig.gain is not None:
        print(f"{o.rig}: its gain is not undone: spikes are binary, and integrating them anew costs more")
    if left_out:
        print(f"{left_out} pictures left out: the stream has no {Exposure().margin} spike frames around their exposure")


def sources(o: Options) -> dict[str, Pair]:
    """Return picture and spike file by name, in the order of the pictures."""
    if Path(o.stream).is_dir():
        return find_pairs(o.pictures, o.stream)
    return pictures_of_stream(o.pictures, o.stream)


def crop(rig: CalibratedRig) -> tuple[slice, slice]:
    """Return the rows and columns of the upright spikes that lie in the picture, in whole bytes.

    Raises: InputError if they are too few.
    """
    shape = upright(np.empty(rig.spikes), rig.orientation).shape
    _, mask = in_view_of_spikes(np.zeros(rig.picture, np.float32), rig.homography, shape)
    used = largest_inside(mask, rows=2, columns=8)
    if min(side.stop - side.start for side in used) < SMALLEST:
        raise InputError(f"{rig.picture[0]}x{rig.picture[1]} pixels of the picture hardly overlap with the spikes")
    return used


def has_margins(exposure: tuple[int, int], total: int) -> bool:
    """Return whether the stream extends by the margins of a sample around an exposure."""
    start, length = exposure
    margin = round(Exposure().margin * length / Exposure().length)
    return start >= margin and start + length + margin <= total


def picture_of(rig: CalibratedRig, path: Path, used: tuple[slice, slice]) -> np.ndarray:
    """Return the intensity of a picture at 4 times the grid of the upright spikes, [4h,4w,3] uint8."""
    picture = read_image(path)
    check_picture_size(rig, path, picture)
    shape = upright(np.empty(rig.spikes), rig.orientation).shape
    intensity = picture_on_spike_grid(rig.response.undo(picture / np.float32(255)), rig.homography, shape)
    rows, columns = (slice(UPSCALE * side.start, UPSCALE * side.stop) for side in used)
    return np.rint(255 * intensity[rows, columns].clip(0, 1)).astype(np.uint8)


def spikes_of(
    rig: CalibratedRig, path: Path, spike_format: SpikeFormat, exposure: tuple[int, int], used: tuple[slice, slice]
) -> np.ndarray:
    """Return the upright spikes of a sample, [137,h,w], repaired; an exposure of another length is brought to 97."""
    start, length = exposure
    margin = round(Exposure().margin * length / Exposure().length)
    spikes = read(path, spike_format, first=start - margin, stop=start + length + margin)
    spikes = repair(spikes, defects_of_rig(rig, spikes))
    rows, columns = used
    return at_pace(upright(spikes, rig.orientation)[:, rows, columns], Exposure().total)


if __name__ == "__main__":
    program(main, Options, __doc__)
