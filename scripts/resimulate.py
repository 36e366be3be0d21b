"""Make scenes whose sharp truth is known out of recordings that have none: film once more what the teacher restored.

    python scripts/resimulate.py --base_folder data/demo data/films --output data/refilmed
    python train_deblur.py --base_folder data/refilmed --lr 6e-4 --roi_size 96 --bs 2 --tea_loss ssim --augment

The teacher (closed form, light fused along motion) restores instants of every sample of the training split. Shrunk to
half, where most of its faults are smaller than a pixel, and played up to twice as fast, so that motion is about as many
pixels as it was, they are a scene like any other: the simulator films it with fresh phases, noise and threshold. What
LDN is then taught is exact and carries other noise than what it is fed; no sharp picture is read. Stopped, the same
command makes what is missing. What is tested on are the recordings of the first data set.
"""

import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codes.cli import option, program
from codes.data import manifest
from codes.data.batches import Packed
from codes.data.dataset import SPIKE_SIZES, SpikeDataset
from codes.data.images import write_image
from codes.data.spikes import SEQUENCE_STEP, Exposure, write_spikes
from codes.distillation.teachers import LABELS, ClosedFormTeacher
from codes.errors import InputError
from codes.simulation.camera import add_noise, integrate, sense
from codes.simulation.demo_scenes import blurry
from codes.simulation.resimulation import FASTEST, NOTE, played, restored

OLD = ("data_type", "GOPRO")


@dataclass(frozen=True)
class Options:
    base_folder: tuple[str, ...] = option(("data/demo",), "data sets; their training splits are filmed again")
    data_type: str = option("GOPRO", "GOPRO: png pictures in train/; real: jpg, no truth", choices=tuple(SPIKE_SIZES))
    output: str = option("data/refilmed", "folder to make")
    threshold: tuple[float, ...] = option((1.0, 4.0), "smallest and largest V_th, drawn evenly on a logarithmic scale")
    seed: int = option(0, "other phases, noise, thresholds and speeds")


def main(o: Options) -> None:
    """Film the samples that are not there yet."""
    if len(o.threshold) != 2 or not 0 < o.threshold[0] <= o.threshold[1]:
        raise InputError(f"--threshold {' '.join(map(str, o.threshold))}: smallest and largest, above 0, are accepted")
    folder, teacher, exposure = Path(o.output), ClosedFormTeacher(), Exposure()
    sources = [SpikeDataset(base, "train", parts=("spikes", "blur"), data_type=o.data_type) for base in o.base_folder]
    # Written as sets were before there were types.
    held = {name: value for name, value in asdict(o).items() if name != "output" and (name, value) != OLD}
    versions = {package: version(package) for package in ("numpy", "torch")}
    versions |= {"opencv": cv2.__version__, "teacher": str(LABELS)}
    manifest.claim(folder, held, versions, name=NOTE)
    tested = Path(o.base_folder[0], "test")
    if tested.is_dir() and not (folder / "test").exists():
        (folder / "test").symlink_to(tested.resolve())
    jobs = [(source, number, index) for number, source in enumerate(sources) for index in range(len(source))]
    for source, number, index in tqdm(jobs, str(folder), unit="sample"):
        name = f"{number}-{source.names[index]}"
        blur, sharp, spikes = (
            folder / "train" / kind / f"{name}{suffix}"
            for kind, suffix in (("blur_data", ".png"), ("sharp_data", ".png"), ("spike_data", ".dat"))
        )
        sequence = {t: folder / "train/sharp_sequence" / name / f"{t:03d}.png" for t in exposure.centers(SEQUENCE_STEP)}
        if all(path.exists() for path in (blur, sharp, spikes, *sequence.values())):
            continue
        rng = np.random.default_rng((o.seed, number, index))
        sample = Packed.collate([source[index]]).to(torch.device("cpu"))
        scene = restored(teacher, sample.blur, sample.spikes)
        frames = scene[played(rng.uniform(1, FASTEST), exposure, len(scene))]
        light = np.stack([sense(frame) for frame in frames])
        threshold = float(np.exp(rng.uniform(*np.log(o.threshold))))
        fired = integrate(light, threshold=threshold, first=rng.random(light.shape[1:], np.float32))
        for instant, path in sequence.items():
            write_image(path, frames[instant])
        write_image(sharp, frames[exposure.center])
        write_image(blur, blurry(frames[exposure.margin : -exposure.margin]))
        write_spikes(spikes, add_noise(fired, rng))


if __name__ == "__main__":
    program(main, Options, __doc__)
