"""Make a training set with exact truth from recordings that have none, by simulating new spikes of restored scenes.

    python scripts/resimulate.py --base_folder data/demo data/films --output data/resimulated
    python train_deblur.py --base_folder data/resimulated --lr 6e-4 --roi_size 96 --bs 2 --tea_loss ssim --augment \\
        --exp_name resim

The closed form on multi-frame super-resolution restores every sample of the training split. Reduced by 2, which makes
most of its errors smaller than a pixel, and played at 1 to 2 times its speed, the sequence is a scene from which the
simulator makes a blurry picture and spikes with new phases, noise and threshold. No sharp picture is read. The same
command continues an interrupted run. The test split is that of the first data set.
"""

import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codes.cli import check_range, check_used, option, program
from codes.data import manifest
from codes.data.batches import Packed
from codes.data.dataset import SpikeDataset
from codes.data.fingerprint import fingerprint, source_fingerprint
from codes.data.layout import SPIKE_SIZES
from codes.data.spikes import SEQUENCE_STEP, Exposure
from codes.distillation.teachers import ClosedFormTeacher
from codes.engine import distributed
from codes.errors import InputError
from codes.motion.warping import FLOWS, flow_by_name
from codes.simulation.camera import THRESHOLDS
from codes.simulation.resimulation import restored_scene, write_sample

FORMER_DEFAULTS = {"data_type": "GOPRO", "flow": "dis", "raft_path": ""}  # older records do not have these options


@dataclass(frozen=True)
class Options:
    base_folder: tuple[str, ...] = option(("data/demo",), "data sets; their training splits are re-simulated")
    data_type: str = option(
        "GOPRO",
        "GOPRO: samples in train/; real: in the folder itself, without truth",
        choices=tuple(SPIKE_SIZES),
    )
    output: str = option("data/resimulated", "folder of the new set")
    threshold: tuple[float, ...] = option((1.0, 4.0), "smallest and largest V_th, drawn evenly on a logarithmic scale")
    seed: int = option(0, "random seed of phases, noise, thresholds and speeds")
    flow: str = option("dis", "optical flow of the restoration; dis: OpenCV, on the CPU; raft: RAFT", choices=FLOWS)
    raft_path: str = option("", "weights of RAFT: a state dict of torchvision's raft_large or raft_small",
                            unused=lambda o: o.flow != "raft" and f"with --flow {o.flow}")  # fmt: skip
    device: str = option("", "device of the restoration: cpu, cuda, cuda:1 [cuda where there is one]")


def main(o: Options) -> None:
    """Simulate all samples that do not exist yet."""
    check_range(o, "threshold", *THRESHOLDS)
    check_range(o, "seed", 0)
    check_used(o)
    if len(o.threshold) != 2 or o.threshold[0] > o.threshold[1]:
        raise InputError(f"--threshold {' '.join(map(str, o.threshold))}: smallest and largest are accepted")
    if len({Path(base).resolve() for base in o.base_folder}) < len(o.base_folder):
        raise InputError(f"--base_folder {' '.join(o.base_folder)}: names a data set twice; once is accepted")
    folder, device = Path(o.output), distributed.initialize(o.device)
    teacher = ClosedFormTeacher(flow=flow_by_name(o.flow, raft_path=o.raft_path, device=device))
    sources = [SpikeDataset(base, "train", fields=("spikes", "blur"), data_type=o.data_type) for base in o.base_folder]
    begin(o, sources)
    tested = Path(o.base_folder[0], "test")
    if tested.is_dir() and not (folder / "test").exists():
        (folder / "test").unlink(missing_ok=True)  # a link whose target was moved
        (folder / "test").symlink_to(tested.resolve())
    jobs = [(source, number, index) for number, source in enumerate(sources) for index in range(len(source))]
    for source, number, index in tqdm(jobs, str(folder), unit="sample"):
        files = sample_files(folder, f"{number}-{source.names[index]}")
        if not all(path.exists() for path in files.values()):
            rng = np.random.default_rng((o.seed, number, index))
            sample = Packed.collate([source[index]]).to(device)
            write_sample(restored_scene(teacher, sample.blur, sample.spikes), files, o.threshold, rng)


def begin(o: Options, sources: list[SpikeDataset]) -> None:
    """Record options, sources and code, or check that the set was begun with the same."""
    folder = Path(o.output)
    options = asdict(o)
    del options["output"], options["device"]
    options = {name: value for name, value in options.items() if (name, value) not in FORMER_DEFAULTS.items()}
    record, *former = manifest.RESIMULATED
    several = len(sources) > 1
    files = {
        f"{number}/{name}" if several else name: path
        for number, source in enumerate(sources)
        for name, path in source.split.files().items()
    }
    versions = {package: version(package) for package in ("numpy", "torch")} | {"opencv": cv2.__version__}
    changed = manifest.claim(
        folder,
        options,
        versions,
        name=next((name for name in former if (folder / name).is_file()), record),
        sources=fingerprint(files),
        by_content=("base_folder",),
        code=source_fingerprint("codes.simulation.resimulation"),
    )
    for name, was in changed.items():
        now = f", this is {versions[name]}" if name in versions else ""
        print(f"note: {folder} was begun with another {name} ({was}{now}); samples made now may differ")


def sample_files(folder: Path, name: str) -> dict[str | int, Path]:
    """Return the files of a sample: blur, sharp, spikes, and the sharp sequence by its times."""
    train = folder / "train"
    return {
        "blur": train / "blur_data" / f"{name}.png",
        "sharp": train / "sharp_data" / f"{name}.png",
        "spikes": train / "spike_data" / f"{name}.dat",
        **{t: train / "sharp_sequence" / name / f"{t:03d}.png" for t in Exposure().centers(SEQUENCE_STEP)},
    }


if __name__ == "__main__":
    program(main, Options, __doc__)
