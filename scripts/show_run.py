"""Show what a run of train_deblur.py came to: its table, a strip of pictures, a restored sequence as GIF.

python scripts/show_run.py log/deblur/quickstart --base_folder data/demo
"""

import csv
import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
import torch
from PIL import Image

from codes.cli import option, program
from codes.dataset import Packed, SpikeDataset
from codes.engine.journal import as_text
from codes.errors import InputError
from codes.files import replacing
from codes.images import write_image
from codes.networks import LDN, load
from codes.sdm import window
from codes.spikes import Exposure

COLUMNS = ("blurry", "teacher", "LDN", "truth")


@dataclass(frozen=True)
class Options:
    run: str = option(MISSING, "folder of the run", positional=True)
    base_folder: str = option("GOPRO/", "the data set it was evaluated on")
    samples: int = option(3, "test samples in the strip")
    frames: int = option(25, "frames of the GIF")
    better_by: float = option(0.0, "dB that LDN has to be over the blurry picture; exit code 1 if it is not")


def newest(pattern: str, folder: Path) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(f"{folder}: no {pattern} in it; it has to be the folder of a run of train_deblur.py")
    return found[-1]


def strip(step: Path, samples: list[str]) -> np.ndarray:
    """Lay the pictures that the evaluation wrote side by side, a row for each sample."""
    rows = []
    for sample in samples:
        names = [f"{sample.replace('/', '_')} {column}.png" for column in COLUMNS]
        rows.append(np.hstack([cv2.imread(str(step / name)) for name in names]))
    side = rows[0].shape[1] // len(COLUMNS)
    head = np.full((28, rows[0].shape[1], 3), 255, np.uint8)
    for place, column in enumerate(COLUMNS):
        cv2.putText(head, column, (place * side + 8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([head, *rows])


@torch.inference_mode()
def sequence(dataset: SpikeDataset, weights: Path, frames: int) -> list[Image.Image]:
    """Restore the exposure of the first sample at evenly spaced instants, the blurry picture beside it."""
    net = load(LDN(), weights).eval()
    batch, exposure = Packed.collate([dataset[0]]).to(torch.device("cpu")), Exposure()
    instants = np.linspace(exposure.margin, exposure.margin + exposure.length - 1, frames).round().astype(int)
    pictures = []
    for instant in instants:
        sharp = net(batch.blur, window(batch.spikes, int(instant), 21).float())
        both = torch.cat((batch.blur, sharp.clamp(0, 1)), 3)[0].flip(0)
        pictures.append(Image.fromarray((both * 255).round().byte().permute(1, 2, 0).numpy()))
    return pictures


def main(o: Options) -> None:
    run = Path(o.run)
    step = newest("step-*", run)
    dataset = SpikeDataset(o.base_folder, "test", parts=("spikes", "blur"))
    with open(step / "means.csv", newline="") as file:
        rows = {line.pop("output"): {k: float(v) for k, v in line.items()} for line in csv.DictReader(file)}
    write_image(run / "strip.png", strip(step, dataset.names[: o.samples]))
    pictures = sequence(dataset, newest("checkpoints/LDN_*.pth", run), o.frames)
    with replacing(run / "sequence.gif") as file:
        pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=80, loop=0)
    gain = rows["LDN"]["psnr"] - rows["blurry"]["psnr"]
    print(as_text({name: {k: v for k, v in line.items() if k in ("psnr", "ssim")} for name, line in rows.items()}))
    print(f"LDN is {gain:+.2f} dB against the blurry picture")
    print(f"pictures: {run / 'strip.png'}\nsequence: {run / 'sequence.gif'}")
    if gain < o.better_by:
        sys.exit(f"failed: LDN has to be {o.better_by:g} dB better than the blurry picture, it is {gain:+.2f} dB")


if __name__ == "__main__":
    program(main, Options, __doc__)
