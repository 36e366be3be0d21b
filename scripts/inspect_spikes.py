"""Inspect a spike file: geometry, order of rows and bits, firing rate, defective pixels, alignment with a picture.

python scripts/inspect_spikes.py recording.dat                         # also .npz and .npy
python scripts/inspect_spikes.py recording.dat --picture blurry.png    # are the two aligned?
"""

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np

from codes.cli import check_range, option, program
from codes.data.images import read_image, write_image
from codes.data.orientation import DESCRIBED
from codes.data.sensor import defective_pixels, lost_frames
from codes.errors import InputError
from codes.restoration.alignment import align, better_orientation, better_start, is_aligned, is_flat
from codes.restoration.spike_file import SpikeFormat, guess, read

LONG, SHORT = 97, 9  # spike frames of the two TFPs, as the method takes them
BLOCK = 256  # spike frames unpacked at a time: recordings may be longer than memory


@dataclass(frozen=True)
class Options:
    files: tuple[str, ...] = option(MISSING, "spike files: .dat, .npz, .npy", positional=True)
    picture: str = option("", "picture of the same scene, sharp or blurry, to align one spike file with")
    time: int = option(
        -1, "spike frame in the middle of the exposure; -1: in the middle of the file", aliases=("instant",)
    )
    output: str = option(".", "folder of the written picture, FOLDER_NAME_inspected.png")


def main(o: Options) -> None:
    check_range(o, "time", -1)
    if o.picture and len(o.files) > 1:
        raise InputError(f"--picture {o.picture}: belongs to one file, {len(o.files)} were given")
    picture = read_image(o.picture) if o.picture else None
    for file in o.files:
        inspect(o, file, picture)


def inspect(o: Options, file: str, picture: np.ndarray | None) -> None:
    """Print how a file is to be read and what is wrong with it, and draw its page."""
    formats = guess(file, picture=picture)
    best = formats[0]
    if o.time >= best.frames:
        raise InputError(f"--time {o.time}: {file} has the spike frames 0..{best.frames - 1}")
    time = best.frames // 2 if o.time < 0 else o.time
    print(file)
    for spike_format in formats[:3]:
        print(f"  {spike_format.confidence:6.1%}  {spike_format}")
    curve, rate = firing(file, best)
    hot, dead = defective_pixels(rate * best.frames, best.frames)
    print(f"  firing rate {rate.mean():.4f}, over time {curve.min():.4f} to {curve.max():.4f}")
    if len(empty := lost_frames(curve * best.height * best.width)):
        print(f"  NO SPIKE in {len(empty)} frames, first in {empty[0]}: lost on the way from the camera")
    print(f"  pixels that are dead {dead.sum()}, hot {hot.sum()}{_some(dead | hot)}")
    long, short = (tfp(file, best, time, length) for length in (LONG, SHORT))
    if is_flat(long):
        print("  IT SHOWS NOTHING: all pixels fire alike; there is nothing to compare with a picture")
    elif picture is not None:
        compare(o, file, best, long=long, picture=picture, time=time)
    path = Path(o.output, f"{Path(file).resolve().parent.name}_{Path(file).stem}_inspected.png")
    write_image(path, page(long, short, curve))
    print(f"  {path}")


def compare(
    o: Options, file: str, spike_format: SpikeFormat, *, long: np.ndarray, picture: np.ndarray, time: int
) -> None:
    """Print whether the spikes around a spike frame show what the picture shows, upright and at the same time."""
    correlation, (x, y) = align(long, picture)
    verdict = "aligned" if is_aligned(correlation, (x, y)) else "NOT ALIGNED"
    x, y = round(x, 1) + 0.0, round(y, 1) + 0.0  # -0.0 becomes 0.0
    print(f"  {verdict} with {o.picture}: correlation {correlation:.3f}, the spikes lie {x:+.1f} pixels")
    print(f"  to the right and {y:+.1f} below the picture, compared around spike frame {time}")
    if better := better_orientation([long], picture):
        name, best = better
        print(
            f"  the spikes show the picture {DESCRIBED[name]} (correlation {best:.3f}): deblur.py --orientation {name}"
        )
    first = max(0, time - LONG // 2 - LONG)
    spikes = read(file, spike_format, first=first, stop=time + LONG // 2 + LONG + 1)
    start = max(0, time - LONG // 2) - first
    if len(spikes) >= start + LONG and (better := better_start(spikes, picture, start=start, length=LONG)):
        found, best, _ = better
        print(f"  an exposure around spike frame {first + found + LONG // 2} fits better: correlation {best:.3f}")


def firing(file: str, spike_format: SpikeFormat) -> tuple[np.ndarray, np.ndarray]:
    """Return the spikes a pixel of each frame, [T], and the spikes a frame of each pixel, [h,w]."""
    curve, total = np.empty(spike_format.frames), np.zeros((spike_format.height, spike_format.width))
    for first in range(0, spike_format.frames, BLOCK):
        spikes = read(file, spike_format, first=first, stop=first + BLOCK)
        curve[first : first + BLOCK] = spikes.mean((1, 2))
        total += spikes.sum(0)
    return curve, total / spike_format.frames


def tfp(file: str, spike_format: SpikeFormat, center: int, length: int) -> np.ndarray:
    """Average as many of `length` frames around `center` as there are."""
    return read(file, spike_format, first=max(0, center - length // 2), stop=center + length // 2 + 1).mean(0)


def page(long: np.ndarray, short: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Draw the two TFPs side by side, each as bright as it can be shown, and the firing rate over time below."""
    shown = [np.clip(image / max(np.percentile(image, 99.5), 1e-6), 0, 1) for image in (long, short)]
    above = (np.hstack(shown) * 255).astype(np.uint8)
    width, height = above.shape[1], 80
    across = np.linspace(0, width - 1, len(curve))
    up = (height - 1) * (1 - curve / max(curve.max(), 1e-6))
    below = np.full((height, width), 255, np.uint8)
    cv2.polylines(below, [np.rint(np.stack((across, up), 1)).astype(np.int32)], False, 0)
    return np.vstack((above, below))


def _some(mask: np.ndarray) -> str:
    places = [f"({row},{column})" for row, column in np.argwhere(mask)[:5]]
    return f"; row, column: {' '.join(places)}{' ...' if mask.sum() > 5 else ''}" if places else ""


if __name__ == "__main__":
    program(main, Options, __doc__)
