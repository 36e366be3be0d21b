"""Measure what colours and luminance along motion change: PSNR, SSIM, CIEDE2000 in the middle and at both ends.

    python scripts/dev/measure_colour.py data/davis/threshold_1 --every 5
    python scripts/dev/measure_colour.py data/demo --method mfsr

The data set holds the true sequence (make_gopro.py --sequence, make_demo.py). Prints one line of Markdown a sample.
"""

import sys
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import numpy as np
import torch
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor

from codes.cli import check_range, check_used, only, option, program
from codes.data.images import read_image
from codes.data.spikes import UPSCALE, Exposure, read_spikes
from codes.evaluation.metrics import measure
from codes.motion.colour import correct_colour
from codes.physics.data_consistency import consistency_times
from codes.restoration.colour import correct
from codes.restoration.restorers import RestorationSettings, restorer

HEADER = "| sample | | middle | first | last |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Options:
    base_folder: str = option(MISSING, "data set whose test split is measured", positional=True)
    every: int = option(1, "samples from one that is measured to the next")
    method: str = option("ldn", "restoration method", choices=("ldn", "mfsr", "sdm"))
    deblur_path: str = option("", "weights of LDN", unused=only("method", "ldn"))


def main(o: Options) -> None:
    check_used(o)
    check_range(o, "every", 1)
    settings = RestorationSettings(method=o.method, deblur_path=o.deblur_path, colour="picture", tile=0)
    restore = restorer(settings, device=torch.device("cpu"))
    exposure, root = Exposure(), Path(o.base_folder, "test")
    print(HEADER)
    for path in sorted((root / "blur_data").glob("*/*.png"))[:: o.every]:
        name = path.relative_to(root / "blur_data").with_suffix("")
        blur = tensor(path)
        height, width = (side // UPSCALE for side in blur.shape[1:])
        spikes = torch.from_numpy(read_spikes(root / "spike_data" / f"{name}.dat", height, width))
        truth = {int(of_time.stem): tensor(of_time) for of_time in (root / "sharp_sequence" / name).glob("*.png")}
        times = consistency_times(exposure)
        with torch.inference_mode():
            frames = torch.cat(list(restore(blur[None], spikes[None].float(), times, exposure=exposure)))
            for row in rows(frames.float(), blur, truth, times):
                print(f"| {name} | {row} |", flush=True)


def tensor(path: Path) -> Tensor:
    return torch.from_numpy(read_image(path)).permute(2, 0, 1) / 255


def rows(frames: Tensor, blur: Tensor, truth: dict[int, Tensor], times: list[int]) -> Iterator[str]:
    """Yield the cells of the frames [N,3,H,W] as they were restored, with colours corrected, and with both."""
    shown = [times[len(times) // 2], times[0], times[-1]]
    stages = {
        "before": frames,
        "colours": correct_colour(frames, blur)[0],
        "luminance, colours": correct(frames, blur)[0],
    }
    for name, images in stages.items():
        yield " | ".join([name, *(cell(images[times.index(time)].clamp(0, 1), truth[time]) for time in shown)])


def cell(image: Tensor, truth: Tensor) -> str:
    """Return PSNR, SSIM and the mean CIEDE2000 of a picture [3,H,W]."""
    found = measure(image[None], truth[None])
    lab = [rgb2lab(x.flip(0).permute(1, 2, 0).numpy().astype(np.float64)) for x in (image, truth)]
    return f"{found['psnr'].item():.2f} / {found['ssim'].item():.3f} / {deltaE_ciede2000(*lab).mean():.2f}"


if __name__ == "__main__":
    program(main, Options, __doc__)
