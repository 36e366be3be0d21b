"""Make a small data set, laid out as GOPRO is, from the photographs inside scikit-image: nothing is downloaded.

    python scripts/make_demo.py                       # 32 + 8 scenes of 256x256 in data/demo, about a minute
    python scripts/make_demo.py --output data/dark --threshold 4 --seed 1
    python scripts/make_demo.py --output data/variety --variety --threshold 1 4 --train 320 --test 0

The motion of every scene is known exactly. The sharp picture of the middle of the exposure is written, and of test
scenes those of seven times: OUTPUT/test/sharp_sequence/SCENE/000019/{020,036,...,116}.png, named by spike frame. The
same command again makes what is missing. With a range of thresholds every scene has its own, which its name contains:
leaves-001-v2.17.
"""

import sys
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codes.cli import check_range, option, program, shown
from codes.data import manifest
from codes.data.fingerprint import source_fingerprint
from codes.data.images import read_image, write_image
from codes.data.spikes import SEQUENCE_STEP, UPSCALE, Exposure, write_spikes
from codes.errors import InputError
from codes.simulation import varied_scenes
from codes.simulation.camera import THRESHOLDS, add_noise, integrate, sense
from codes.simulation.demo_scenes import EXPOSED, PHOTOGRAPHS, blurry, film

SAMPLE = "000019"  # the published name of the first sample of a sequence


def only_tested(o: "Options") -> str:
    return "" if o.train else "with --train 0"


@dataclass(frozen=True)
class Options:
    output: str = option("data/demo", "folder of the data set")
    train: int = option(32, "number of training scenes")
    test: int = option(8, "number of test scenes, drawn from other photographs")
    size: int = option(256, "side of a picture in pixels, a multiple of 16; spike frames have a quarter of it")
    threshold: tuple[float, ...] = option((1.0,), "V_th of the spike camera in the paper's units (1, 2, 4), or a range")
    noise: bool = option(True, "add noise spikes of the sensor")
    seed: int = option(0, "random seed of the scenes")
    sequence: bool = option(False, "also write the seven sharp pictures of each training scene", idle=only_tested)
    variety: bool = option(
        False,
        "draw more kinds of training scenes: textures, text, faces; slow to fast, dark to bright",
        idle=only_tested,
    )


def main(options: Options) -> None:
    """Make the scenes that are missing, then print a summary of the set."""
    folder = Path(options.output)
    check(options)
    claim(options)
    scenes = [(split, number) for split in PHOTOGRAPHS for number in range(getattr(options, split))]
    blur_psnr = [make_scene(options, split, number) for split, number in tqdm(scenes, desc=str(folder), unit="scene")]
    small = options.size // UPSCALE
    print(f"{folder}: {options.train} training scenes, {options.test} test scenes")
    print(f"pictures {options.size}x{options.size}, spikes {small}x{small}, threshold {shown(options.threshold)}")
    print(f"blurry against sharp: {np.mean(blur_psnr):.2f} dB, {min(blur_psnr):.2f} to {max(blur_psnr):.2f}")


def check(options: Options) -> None:
    """Raises: InputError naming the first option that is out of range."""
    check_range(options, "threshold", *THRESHOLDS)
    check_range(options, ("train", "test"), 0, 10**6)
    check_range(options, "seed", 0)
    check_range(options, "size", 32, 4096)
    if options.size % 16:
        raise InputError(f"--size {options.size}: a multiple of 16 is accepted")
    if len(options.threshold) not in (1, 2) or options.threshold[0] > options.threshold[-1]:
        raise InputError(f"--threshold {shown(options.threshold)}: one V_th, or a lower and a higher one, are accepted")
    if options.train + options.test == 0:
        raise InputError("--train 0 --test 0: at least one scene is needed")


def claim(options: Options) -> None:
    """Write the record of the set, or compare it with the options."""
    # Records have the form that they had before there were ranges and variety: such sets are continued.
    made_with = asdict(options)
    del made_with["output"]
    if not options.variety:
        del made_with["variety"]
    if options.threshold[0] == options.threshold[-1]:
        made_with["threshold"] = options.threshold[0]
    versions = {package: version(package) for package in ("numpy", "scikit-image")} | {"opencv": cv2.__version__}
    code = source_fingerprint(
        "codes.simulation.demo_scenes", "codes.simulation.varied_scenes", "codes.simulation.camera"
    )
    changed = manifest.claim(Path(options.output), made_with, versions, name="demo.json", code=code)
    for name, was in changed.items():
        print(f"note: {options.output} was begun with another {name} ({was}); scenes made now may differ")


def make_scene(options: Options, split: str, number: int) -> float:
    """Write the files of a scene unless all exist; return the PSNR of its blurry against its sharp picture in dB."""
    low, high = options.threshold[0], options.threshold[-1]
    is_varied = options.variety and split == "train"
    backgrounds = varied_scenes.BACKGROUNDS if is_varied else list(PHOTOGRAPHS[split])
    background = backgrounds[number % len(backgrounds)]
    rng = np.random.default_rng((options.seed, list(PHOTOGRAPHS).index(split), number))
    threshold = low if low == high else low * (high / low) ** rng.random()
    scene = f"{Path(background).stem}-{number:03d}" + ("" if low == high else f"-v{threshold:.2f}")
    root = Path(options.output, split)
    blur, sharp = (root / kind / scene / f"{SAMPLE}.png" for kind in ("blur_data", "sharp_data"))
    spikes = root / "spike_data" / scene / f"{SAMPLE}.dat"
    times = Exposure().centers(SEQUENCE_STEP) if split == "test" or options.sequence else []
    sequence = {time: root / "sharp_sequence" / scene / SAMPLE / f"{time:03d}.png" for time in times}
    if not all(path.exists() for path in (blur, sharp, spikes, *sequence.values())):
        draw = varied_scenes.film if is_varied else partial(film, PHOTOGRAPHS[split])
        frames = draw(background, size=options.size, rng=rng)
        write_image(blur, blurry(frames[EXPOSED]))
        write_image(sharp, frames[Exposure().center])
        for time, path in sequence.items():
            write_image(path, frames[time])
        write_spikes(spikes, record(frames, threshold=threshold, noise=options.noise, rng=rng))
    return cv2.PSNR(read_image(blur), read_image(sharp))


def record(frames: np.ndarray, *, threshold: float, noise: bool, rng: np.random.Generator) -> np.ndarray:
    """Simulate the spikes [T,H/4,W/4] uint8 of pictures [T,H,W,3] uint8 BGR, starting at random phases."""
    intensity = np.stack([sense(frame) for frame in frames])
    spikes = integrate(intensity, threshold=threshold, first=rng.random(intensity.shape[1:], np.float32))
    return add_noise(spikes, rng) if noise else spikes


if __name__ == "__main__":
    program(main, Options, __doc__)
