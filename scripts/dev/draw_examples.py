"""Draw imgs/results.jpg or imgs/deblur.jpg: blurry pictures of data sets, what is restored, and the truth.

    python scripts/dev/draw_examples.py results data/demo/test/blur_data/camera-001/000019.png --output results.jpg \\
        --published_path DeblurNet_100.pth
    python scripts/dev/draw_examples.py deblur data/demo/test/blur_data/camera-001/000019.png --output deblur.jpg

A row for each picture, whose spikes and truth lie beside it in the layout of a data set.
"""

import sys
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import cv2
import numpy as np
import torch
from torch import Tensor

from codes.cli import check_range, check_used, option, program
from codes.data.images import read_image, write_image
from codes.data.spikes import UPSCALE, Exposure, read_spikes
from codes.errors import InputError
from codes.reporting.figures import side_by_side
from codes.restoration.format_detection import tensors
from codes.restoration.methods import sdm_count_frames
from codes.restoration.restorers import SHORT, RestorationSettings, restorer

TIMES = (20, 68, 116)  # of deblur
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Options:
    figure: str = option(
        MISSING,
        "results: methods at the middle of the exposure; deblur: the frames at its ends and middle",
        choices=("results", "deblur"),
        positional=True,
    )
    pictures: tuple[str, ...] = option(MISSING, "blurry pictures SPLIT/blur_data/SEQUENCE/NAME.png", positional=True)
    output: str = option("examples.jpg", "file of the figure")
    deblur_path: str = option("", "weights of LDN [model/LDN.pth]")
    published_path: str = option(
        "", "the authors' weights of LDN, a column of results", unused=lambda o: o.figure == "deblur" and "by deblur"
    )
    side: int = option(256, "side of a picture of the figure; the middle square of each is shown")


@torch.inference_mode()
def main(o: Options) -> None:
    check_used(o)
    check_range(o, "side", 1, 2**14)
    rows = [dict(results(o, Path(path)) if o.figure == "results" else deblurred(o, Path(path))) for path in o.pictures]
    shown = [[square(picture, o.side) for picture in row.values()] for row in rows]
    write_image(o.output, side_by_side(list(rows[0]), shown))


def results(o: Options, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what the methods restore in the middle of the exposure, by name, between the blurry picture and truth."""
    picture, blur, spikes = sample(path)
    times = [Exposure().center]
    yield "blurry", picture
    yield "LDN, ours", *by_student(o.deblur_path, blur, spikes, times)
    if o.published_path:
        yield "LDN, authors' weights", *by_student(o.published_path, blur, spikes, times)
    (closed_form,) = sdm_count_frames(blur, spikes, times, exposure=Exposure(), short=SHORT)
    yield "SDM, published", as_picture(closed_form)
    yield "truth", read_image(beside(path, "sharp_data"))


def deblurred(o: Options, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the frames restored at TIMES, by name, between the blurry picture and the truth of the middle."""
    picture, blur, spikes = sample(path)
    yield "blurry", picture
    for time, frame in zip(TIMES, by_student(o.deblur_path, blur, spikes, list(TIMES)), strict=True):
        yield f"spike frame {time}", frame
    yield f"truth, frame {Exposure().center}", read_image(beside(path, "sharp_data"))


def sample(path: Path) -> tuple[np.ndarray, Tensor, Tensor]:
    """Read a blurry picture, as it is and as a tensor, and its spikes."""
    picture = read_image(path)
    height, width = (side // UPSCALE for side in picture.shape[:2])
    return picture, *tensors(picture, read_spikes(beside(path, "spike_data").with_suffix(".dat"), height, width), CPU)


def by_student(weights: str, blur: Tensor, spikes: Tensor, times: list[int]) -> list[np.ndarray]:
    """Restore target times as deblur.py does, by LDN with these weights."""
    restore = restorer(RestorationSettings(deblur_path=weights, tile=0), device=CPU)
    return [as_picture(frame) for frame in restore(blur, spikes, times, exposure=Exposure())]


def beside(path: Path, part: str) -> Path:
    """Return the file of another part of a sample."""
    if path.parent.parent.name != "blur_data":
        raise InputError(f"{path}: a picture SPLIT/blur_data/SEQUENCE/NAME.png of a data set is accepted")
    return path.parent.parent.with_name(part) / path.parent.name / path.name


def as_picture(frame: Tensor) -> np.ndarray:
    """Turn a frame [1,3,H,W] into a picture [H,W,3] uint8, clipped."""
    return frame[0].float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()


def square(picture: np.ndarray, side: int) -> np.ndarray:
    """Cut the middle square out of a picture [H,W,3] and resize it."""
    height, width = picture.shape[:2]
    length = min(height, width)
    top, left = (height - length) // 2, (width - length) // 2
    return cv2.resize(picture[top : top + length, left : left + length], (side, side), interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    program(main, Options, __doc__)
