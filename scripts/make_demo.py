"""Make a small data set, laid out as GOPRO is, from the photographs inside scikit-image: nothing is downloaded.

    python scripts/make_demo.py                       # 32 + 8 scenes of 256x256 in data/demo, about a minute
    python scripts/make_demo.py --output data/dark --threshold 4 --seed 1
    python scripts/make_demo.py --output data/variety --variety --threshold 1 4 --train 320 --test 0

Every scene moves exactly, so beside the truth of the middle instant that of seven instants of the exposure is written:
OUTPUT/test/sharp_sequence/SCENE/000019/{020,036,...,116}.png, named by their spike frames. The same command again
makes what is missing. Of a range of thresholds every scene has its own, which its name tells: leaves-001-v2.17.
"""

import math
import sys
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codes.cli import option, program, shown
from codes.data import manifest
from codes.data.images import read_image, write_image
from codes.data.spikes import SEQUENCE_STEP, UPSCALE, Exposure, write_spikes
from codes.errors import InputError
from codes.simulation import varied_scenes
from codes.simulation.camera import add_noise, integrate, sense
from codes.simulation.demo_scenes import EXPOSED, PHOTOGRAPHS, blurry, film

SAMPLE = "000019"  # the published name of the first sample of a sequence


@dataclass(frozen=True)
class Options:
    output: str = option("data/demo", "folder to make")
    train: int = option(32, "scenes to train on")
    test: int = option(8, "scenes to test on, of other photographs")
    size: int = option(256, "picture pixels along a side, a multiple of 16; spikes are a quarter")
    threshold: tuple[float, ...] = option((1.0,), "V_th of the spike camera in the paper's units (1, 2, 4), or a range")
    noise: bool = option(True, "add the sensor's false spikes")
    seed: int = option(0, "another seed, other scenes")
    sequence: bool = option(False, "write the seven instants of the training scenes too")
    variety: bool = option(False, "train on textures, text, faces too, slow to violent, dark to bright")


def main(options: Options) -> None:
    """Make the scenes that are not there yet, then say what is."""
    folder = Path(options.output)
    check(options)
    low, high = options.threshold[0], options.threshold[-1]
    # Written as sets were before they had ranges and variety, which therefore stay what they are.
    held = asdict(options) | ({"threshold": low} if low == high else {})
    held = {name: value for name, value in held.items() if name != "output" and (name, value) != ("variety", False)}
    versions = {package: version(package) for package in ("numpy", "scikit-image")} | {"opencv": cv2.__version__}
    manifest.claim(folder, held, versions, name="demo.json")
    scenes = [(split, number) for split in PHOTOGRAPHS for number in range(getattr(options, split))]
    blur_psnr = []
    for split, number in tqdm(scenes, desc=str(folder), unit="scene"):
        varied = options.variety and split == "train"
        backgrounds = varied_scenes.BACKGROUNDS if varied else list(PHOTOGRAPHS[split])
        background = backgrounds[number % len(backgrounds)]
        rng = np.random.default_rng((options.seed, list(PHOTOGRAPHS).index(split), number))
        threshold = low if low == high else low * (high / low) ** rng.random()
        scene = f"{Path(background).stem}-{number:03d}" + ("" if low == high else f"-v{threshold:.2f}")
        blur, sharp, spikes = (
            folder / split / kind / scene / f"{SAMPLE}{suffix}"
            for kind, suffix in (("blur_data", ".png"), ("sharp_data", ".png"), ("spike_data", ".dat"))
        )
        instants = Exposure().centers(SEQUENCE_STEP) if split == "test" or options.sequence else []
        sequence = {t: folder / split / "sharp_sequence" / scene / SAMPLE / f"{t:03d}.png" for t in instants}
        if not all(path.exists() for path in (blur, sharp, spikes, *sequence.values())):
            draw = varied_scenes.film if varied else partial(film, PHOTOGRAPHS[split])
            frames = draw(background, size=options.size, rng=rng)
            write_image(blur, blurry(frames[EXPOSED]))
            write_image(sharp, frames[Exposure().center])
            for instant, path in sequence.items():
                write_image(path, frames[instant])
            write_spikes(spikes, record(frames, threshold=threshold, noise=options.noise, rng=rng))
        blur_psnr.append(cv2.PSNR(read_image(blur), read_image(sharp)))
    small = options.size // UPSCALE
    print(f"{folder}: {options.train} scenes to train on, {options.test} to test on")
    print(f"pictures {options.size}x{options.size}, spikes {small}x{small}, threshold {shown(options.threshold)}")
    print(f"blurry against sharp: {np.mean(blur_psnr):.2f} dB, {min(blur_psnr):.2f} to {max(blur_psnr):.2f}")


def record(frames: np.ndarray, *, threshold: float, noise: bool, rng: np.random.Generator) -> np.ndarray:
    """Film pictures [T,H,W,3] uint8 BGR with the spike camera, from random phases on: spikes [T,H/4,W/4] uint8."""
    light = np.stack([sense(frame) for frame in frames])
    spikes = integrate(light, threshold=threshold, first=rng.random(light.shape[1:], np.float32))
    return add_noise(spikes, rng) if noise else spikes


def check(options: Options) -> None:
    """Raises: InputError naming the first option that is out of range."""
    for name, accepted, holds in (
        ("size", "a multiple of 16 from 32 on", options.size >= 32 and options.size % 16 == 0),
        (
            "threshold",
            "a number above 0, or a lower and a higher one",
            len(options.threshold) in (1, 2) and 0 < options.threshold[0] <= options.threshold[-1] < math.inf,
        ),
        ("train", "0 and more", options.train >= 0),
        ("test", "0 and more, not 0 as --train", options.test >= 0 and options.train + options.test > 0),
        ("seed", "0 and more", options.seed >= 0),
    ):
        if not holds:
            raise InputError(f"--{name} {shown(getattr(options, name))}: accepted is {accepted}")


if __name__ == "__main__":
    program(main, Options, __doc__)
