"""Measure registration and synchronisation on simulated rigs, whose truth is known.

    python scripts/make_rig.py --output data/rig --vary orientation geometry clock response --threshold 1 2 4
    python scripts/dev/registration.py data/rig                          # errors of each pair, and a summary
    python scripts/dev/registration.py data/rig --restore sdm --pairs 6  # PSNR: uncorrected, corrected, perfect

Of each pair: orientation and homography with the exposure known; then the exposure and the homography from the stream
alone. Errors of corners are in picture pixels, of exposures in spike frames.
"""

import json
import sys
import time
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
import torch

from codes.cli import check_range, check_used, option, program
from codes.data.images import read_image
from codes.data.orientation import upright
from codes.data.response import Response
from codes.data.sensor import find_defects, repair
from codes.data.spikes import Exposure, read_spikes
from codes.errors import InputError
from codes.registration.geometry import corner_error, enlargement
from codes.registration.homography import register
from codes.registration.intensity import exposure_intensity
from codes.restoration.format_detection import tensors
from codes.restoration.placement import find_in_stream
from codes.restoration.restorers import RestorationSettings, restorer
from codes.restoration.view import View, covered

RIGHT = 1.5  # picture pixels that a corner may be off in a registration that is sure
MARGIN = 128  # spike frames beside the exposure that a restoration reads


@dataclass(frozen=True)
class Options:
    folder: str = option(MISSING, "rigs, written by make_rig.py", positional=True)
    pairs: int = option(0, "number of pairs to measure, the first ones [all]")
    restore: str = option("", "also restore the middle of the exposure", choices=("", "sdm", "mfsr", "ldn"))
    deblur_path: str = option("", "weights of LDN", unused=lambda o: o.restore != "ldn" and "without --restore ldn")


def main(o: Options) -> None:
    check_range(o, "pairs", 0, 10**6)
    check_used(o)
    truths = sorted(Path(o.folder, "truth").glob("*.json"))[: o.pairs or None]
    if not truths:
        raise InputError(f"{o.folder}: no truth/*.json in it; scripts/make_rig.py writes them")
    rows = []
    for path in truths:
        truth = json.loads(path.read_text(encoding="utf-8"))
        rows.append(measure(o, Path(o.folder), path.stem, truth))
        print(path.stem, " ".join(f"{name} {formatted(value)}" for name, value in rows[-1].items()), flush=True)
    summarise(rows)


def measure(o: Options, folder: Path, name: str, truth: dict) -> dict[str, float]:
    """Return the errors of a pair by name."""
    picture = read_image(folder / "blur_data" / f"{name}.png")
    total, height, width = truth["spikes"]
    stored = read_spikes(folder / "spike_data" / f"{name}.dat", height, width)
    stored = repair(stored, find_defects(stored))
    start, length = truth["exposures"][name]
    homography = np.array(truth["homography"])
    begin = time.process_time()
    found = register(exposure_intensity(lambda first, stop: stored[first:stop], total, start, length), picture)
    seconds = time.process_time() - begin
    spikes = upright(stored, truth["orientation"])
    begin = time.process_time()
    exposure, placement = find_in_stream(lambda first, stop: spikes[first:stop], total, picture, model="homography")
    row = {
        "V_th": truth["threshold"],
        "ratio": truth["ratio"],
        "corner": corner_error(found.homography, homography, picture.shape),
        "confidence": found.confidence,
        "sure": found.is_sure,
        "oriented": found.orientation == truth["orientation"],
        "start": exposure.start - start,
        "end": exposure.start + exposure.length - start - length,
        "length": exposure.length - length,
        "sure_in_time": exposure.is_sure,
        "corner_of_both": corner_error(placement.registration.homography, homography, picture.shape),
        "sure_of_both": exposure.is_sure and placement.registration.is_sure,
        "seconds": seconds,
        "seconds_of_both": time.process_time() - begin,
    }
    if o.restore:
        row |= restored(o, folder / "sharp_sequence" / name, truth, picture, spikes, (start, length), {
            "perfect": (homography, start, length),
            "corrected": (placement.registration.homography, exposure.start, exposure.length),
            "uncorrected": (enlargement(picture.shape, spikes.shape[1:]), start, length),
        })  # fmt: skip
    return row


@torch.inference_mode()
def restored(o: Options, sharp: Path, truth: dict, picture: np.ndarray, spikes: np.ndarray,
             true_exposure: tuple[int, int], cases: dict) -> dict[str, float]:  # fmt: skip
    """Return the PSNR of the middle of the exposure where both cameras look, for each case and the blurry picture."""
    settings = RestorationSettings(method=o.restore, deblur_path=o.deblur_path, colour="picture", tile=0)
    restore = restorer(settings, device=torch.device("cpu"))
    start, length = true_exposure
    target = start + length // 2
    path = min(sharp.glob("*.png"), key=lambda path: abs(int(path.stem) - target))
    target, true = int(path.stem), read_image(path)
    response = Response(truth["response"], truth["black"])
    shape = tuple(-(-side // 4) * 4 for side in picture.shape[:2])
    size = np.s_[: picture.shape[0], : picture.shape[1]]
    inner = View(np.array(truth["homography"]), shape, spikes.shape[1:]).coverage()[size] == 1
    found = {"blurry": psnr(picture, true, inner)}
    for case, (homography, first, frames) in cases.items():
        begin = max(0, first - MARGIN)
        view = View(homography, shape, spikes.shape[1:])
        blur, part = tensors(picture, spikes[begin : first + frames + MARGIN], torch.device("cpu"),
                             is_same_view=False)  # fmt: skip
        blur = response.undo(blur)
        exposure = Exposure(length=frames, margin=first - begin)
        (frame,) = restore(blur, part, [target - begin], exposure=exposure, view=view)
        image = response.apply(covered(view, frame, blur)[0].clamp(0, 1)).mul(255).permute(1, 2, 0).numpy()
        found[case] = psnr(image[size], true, inner)
    return found


def psnr(image: np.ndarray, true: np.ndarray, inner: torch.Tensor) -> float:
    error = (image.astype(np.float32) - true)[inner.numpy()]
    return float(20 * np.log10(255 / np.sqrt((error**2).mean())))


def summarise(rows: list[dict[str, float]]) -> None:
    """Print medians and worst cases, for each V_th and all."""
    for threshold in [*sorted({row["V_th"] for row in rows}), None]:
        some = [row for row in rows if threshold in (None, row["V_th"])]
        print(
            f"V_th {threshold or 'all'}: {len(some)} pairs, orientation right in {sum(row['oriented'] for row in some)}"
        )
        for name, sure in (("corner", "sure"), ("corner_of_both", "sure_of_both")):
            corner = np.array([row[name] for row in some])
            is_sure = np.array([row[sure] for row in some])
            worst = corner[is_sure].max(initial=0)
            print(f"  {name}: median {np.median(corner):.2f}, worst {corner.max():.2f}; sure in {is_sure.sum()}, "
                  f"worst {worst:.2f}, over {RIGHT}: {(corner[is_sure] > RIGHT).sum()}")  # fmt: skip
        for name in ("start", "end", "length"):
            error = np.array([abs(row[name]) for row in some])
            sure = error[[row["sure_in_time"] for row in some]]
            print(f"  {name}: median {np.median(error):.0f}, worst {error.max():.0f}; sure in {len(sure)}, worst of "
                  f"these {sure.max(initial=0):.0f}")  # fmt: skip
        for name in ("seconds", "seconds_of_both", "blurry", "uncorrected", "corrected", "perfect"):
            if values := [row[name] for row in some if name in row]:
                print(f"  {name}: median {np.median(values):.2f}")
        loss = [row["perfect"] - row["corrected"] for row in some if "perfect" in row and row["sure_of_both"]]
        if loss:
            print(f"  perfect - corrected where sure: median {np.median(loss):.2f}, worst {max(loss):.2f}")


def formatted(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    program(main, Options, __doc__)
