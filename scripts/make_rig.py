"""Make recordings of a simulated rig: pictures and spikes whose views, clocks and sensors differ by known amounts.

    python scripts/make_rig.py --output data/rig                                     # 40 rigs of rendered scenes
    python scripts/make_rig.py VIDEOS --output data/rig --factor 24 --threshold 1 4  # of sharp video, 24-30 fps
    python scripts/make_rig.py --output data/recording --pictures 40 --frames 20000  # one rig, one long stream

OUTPUT holds {blur_data,spike_data,truth}/NAME.{png,dat,json} and the sharp frames of each picture,
sharp_sequence/NAME/TIME.png, named by the spike frame of the stream. A recording of several pictures has one stream,
stream.dat, and one truth.json. The truth holds geometry, clock, response of the picture and defects of the sensor. Its
homography maps pixels (x, y) of the picture to pixels of the upright spikes. The same command again makes what is
missing.
"""

import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from tqdm import tqdm

from codes.cli import check_range, option, program
from codes.data import manifest
from codes.data.images import write_image
from codes.data.spikes import pack
from codes.errors import InputError
from codes.files import replacing
from codes.motion.interpolation import INTERPOLATORS
from codes.simulation.camera import THRESHOLDS
from codes.simulation.demo_scenes import PHOTOGRAPHS, amplitude_for, draw, endless
from codes.simulation.footage import Footage, find
from codes.simulation.frames import Interpolation, cropped
from codes.simulation.gopro import FACTORS
from codes.simulation.rig import PARTS, Picture, Rig, SpikeCamera, Views, largest_views, random_rig, record, views

WITHOUT_VIDEO = "without a video"


@dataclass(frozen=True)
class Options:
    input: str = option("", "video, or a folder of videos [rendered scenes]", positional=True)
    output: str = option("data/rig", "folder of the recordings")
    pairs: int = option(40, "number of pairs of a picture and a stream, each of a rig of its own",
                        unused=lambda o: o.pictures and "beside --pictures")  # fmt: skip
    pictures: int = option(
        0, "number of pictures of one rig, exposed one after the other with one stream, instead of pairs"
    )
    frames: int = option(0, "length of that stream in spike frames [as the pictures need; of a video, all]",
                         unused=lambda o: not o.pictures and "without --pictures")  # fmt: skip
    vary: tuple[str, ...] = option(tuple(PARTS), "properties in which the two cameras differ", choices=tuple(PARTS))
    severity: float = option(
        1.0, "size of the differences; 1: up to 5 degrees, 10 % of scale, 8 % of shift, 3 % of perspective"
    )
    ratio: tuple[float, ...] = option(
        (4.0,), "picture pixels per spike pixel along each side; of several, each rig takes the next"
    )
    threshold: tuple[float, ...] = option((1.0,), "V_th in the paper's units; of several, each rig takes the next")
    noise: bool = option(True, "add noise spikes of the sensor")
    size: int = option(256, "side of a rendered picture in pixels, a multiple of 16",
                       unused=lambda o: o.input and "beside a video")  # fmt: skip
    factor: int = option(8, "spike frames from one frame of the video to the next", choices=FACTORS,
                         unused=lambda o: not o.input and WITHOUT_VIDEO)  # fmt: skip
    interpolator: str = option("dis", "interpolation of frames; none: the video is interpolated", choices=INTERPOLATORS,
                               unused=lambda o: not o.input and WITHOUT_VIDEO)  # fmt: skip
    seed: int = option(0, "random seed of rigs, scenes and noise")


def main(o: Options) -> None:
    check(o)
    footage = find(o.input) if o.input else []
    begin(o)
    if o.pictures:
        make_recording(o, footage)
        return
    for number in tqdm(range(o.pairs), desc=o.output, unit="pair"):
        make_pair(o, number, footage)


def check(o: Options) -> None:
    """Raise InputError for values out of range."""
    check_range(o, "threshold", *THRESHOLDS)
    check_range(o, "ratio", 1, 8)
    check_range(o, "severity", 0, 1)
    check_range(o, "pairs", 1, 10**6)
    check_range(o, ("pictures", "frames"), 0, 10**6)
    check_range(o, "seed", 0)
    check_range(o, "size", 64, 4096)
    if o.size % 16:
        raise InputError(f"--size {o.size}: a multiple of 16 is accepted")
    if not o.threshold or not o.ratio:
        raise InputError("--threshold and --ratio: one value or several are accepted")


def begin(o: Options) -> None:
    """Write the manifest, or compare it; more pairs may be added."""
    options = {name: value for name, value in asdict(o).items() if name not in ("output", "pairs")}
    options["input"] = str(Path(o.input).resolve()) if o.input else ""
    versions = {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__}
    for name, version in manifest.claim(Path(o.output), options, versions).items():
        print(f"note: the set was begun with {name} {version}, this is {versions[name]}; bytes may differ")


def make_pair(o: Options, number: int, footage: list[Footage]) -> None:
    """Write the files of a pair unless its truth, the last of them, is there."""
    sequence = footage[number % len(footage)] if footage else None
    name = f"{number:03d}" + (f"-{sequence.name}" if sequence else "")
    truth = Path(o.output, "truth", f"{name}.json")
    if truth.exists():
        return
    rig = random_rig(1000 * o.seed + number, o.severity, vary=o.vary, ratio=o.ratio[number % len(o.ratio)])
    total = rig.before + rig.length + rig.after
    source, seen, first = source_of(o, rig, number, sequence, total=total, middle=rig.before + rig.length // 2)
    camera = camera_of(o, rig, seen, number, total)
    exposures = {name: (rig.before, rig.length)}
    content = write(o, camera, source, exposures, Path(o.output, "spike_data", f"{name}.dat"), truth.parent)
    manifest.write(truth, content | ({"sequence": sequence.name, "first_frame": first} if sequence else {}))


def make_recording(o: Options, footage: list[Footage]) -> None:
    """Write the files of a recording of several pictures, which start one period after the other."""
    if (truth := Path(o.output, "truth.json")).exists():
        print(f"{truth}: the recording is there")
        return
    if len(footage) > 1:
        raise InputError(f"{o.input}: {len(footage)} videos; --pictures takes one")
    sequence = footage[0] if footage else None
    rig = random_rig(1000 * o.seed, o.severity, vary=o.vary, ratio=o.ratio[0])
    needed = rig.before + o.pictures * (rig.length + 1) + rig.after
    total = o.frames or (available(o, sequence) if sequence else needed)
    if total < needed:
        raise InputError(f"--pictures {o.pictures}: need {needed} spike frames, there are {total}")
    period = (total - rig.before - rig.length - rig.after) / max(o.pictures - 1, 1)
    starts = [rig.before + round(number * period) for number in range(o.pictures)]
    exposures = {f"{number:03d}": (start, rig.length) for number, start in enumerate(starts)}
    source, seen, _ = source_of(o, rig, 0, sequence, total=total, middle=starts[0] + rig.length // 2)
    camera = camera_of(o, rig, seen, 0, total)
    content = write(o, camera, source, exposures, Path(o.output, "stream.dat"), truth.parent)
    manifest.write(truth, content | {"clock": {"first": rig.before, "period": period, "length": rig.length}})


def source_of(
    o: Options, rig: Rig, number: int, sequence: Footage | None, *, total: int, middle: int
) -> tuple[Iterator[np.ndarray], Views, int]:
    """Return `total` sharp source frames, the views of a rig in them, and the interpolated frame they begin with.

    middle: spike frame of a rendered scene around which the blur is set.
    """
    rng = np.random.default_rng((o.seed, number))
    if sequence:
        seen = largest_views(rig, *cropped(*sequence.size()))
        held = available(o, sequence)
        if held < total:
            raise InputError(f"{sequence.path}: {held} spike frames, {total} are needed; name a larger --factor")
        first = int(rng.integers(held - total + 1))
        return video(o, sequence, first, total), seen, first
    seen = views(rig, o.size, o.size)
    side = -(-max(seen.source) // 16) * 16
    photographs = PHOTOGRAPHS["train"] | PHOTOGRAPHS["test"]
    scene = endless(draw(photographs, list(photographs)[number % len(photographs)], size=side, rng=rng), rng)
    amplitude = amplitude_for(scene, rng.uniform(18.5, 21.5))
    return (scene.picture((time - middle) / 96, amplitude) for time in range(total)), seen, 0


def video(o: Options, sequence: Footage, first: int, total: int) -> Iterator[np.ndarray]:
    """Yield `total` interpolated frames of a video from frame `first` on.

    Raises: InputError if a scene ends among them.
    """
    last = first + total - 1
    interpolation = Interpolation(o.factor, o.interpolator)
    for index, frame, is_cut in interpolation.frames(sequence, first, last):
        if is_cut:
            raise InputError(f"{sequence.path}: a scene cut at spike frame {index}; cut the video there")
        if first <= index <= last:
            yield frame


def available(o: Options, sequence: Footage) -> int:
    """Return the spike frames that a video makes."""
    return sequence.count() if o.interpolator == "none" else (sequence.count() - 1) * o.factor + 1


def camera_of(o: Options, rig: Rig, seen: Views, number: int, total: int) -> SpikeCamera:
    """Return the spike camera of a rig that records `total` spike frames."""
    threshold, rng = o.threshold[number % len(o.threshold)], np.random.default_rng((o.seed, number, 1))
    return SpikeCamera(rig, seen, total=total, threshold=threshold, has_noise=o.noise, rng=rng)


def write(
    o: Options,
    camera: SpikeCamera,
    source: Iterator[np.ndarray],
    exposures: dict[str, tuple[int, int]],
    path: Path,
    truth: Path,
) -> dict[str, Any]:
    """Write pictures by name, their stream `path` frame by frame, and the gain map into `truth`; return the truth."""
    names = list(exposures)
    frames = tqdm(source, total=camera.total, unit="frame", disable=not o.pictures)
    with replacing(path) as file:
        for picture in record(frames, camera, list(exposures.values()), lambda spikes: file.write(pack(spikes))):
            write_picture(Path(o.output), names[picture.number], picture)
    content = camera.truth() | {"exposures": exposures}
    if camera.rig.gain:
        content["gain_map"] = f"{path.stem}_gain.npy"
        with replacing(truth / content["gain_map"]) as file:
            np.save(file, camera.gain)
    return content


def write_picture(folder: Path, name: str, picture: Picture) -> None:
    """Write a blurry picture and its sharp frames."""
    write_image(folder / "blur_data" / f"{name}.png", picture.blurry)
    for time, image in picture.sharp.items():
        write_image(folder / "sharp_sequence" / name / f"{time:03d}.png", image)


if __name__ == "__main__":
    program(main, Options, __doc__)
