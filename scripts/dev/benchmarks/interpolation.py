"""Measure the quality of frame interpolation: leave frames out, interpolate them from their neighbours, compare.

python scripts/dev/benchmark.py interpolation FOLDER
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass
from statistics import mean

import cv2
import numpy as np

from codes.cli import option
from codes.motion.flow import dis_flow
from codes.motion.interpolation import interpolator
from codes.simulation.footage import find
from scripts.dev.benchmarks.common import print_table

Interpolate = Callable[[np.ndarray, np.ndarray], np.ndarray]  # frame before, frame after -> frame between


@dataclass(frozen=True)
class Options:
    folder: str = option(MISSING, "folder of frame folders or videos", positional=True)
    frames: int = option(24, "frames left out of each sequence, evenly spaced")
    weights: str = option("", "RAFT weights, to measure RAFT as well")
    json: bool = option(False, "print one JSON object a line")


def main(o: Options) -> None:
    methods: dict[str, Interpolate] = {
        "blend": blend,
        "forward DIS flow": warp_forward,
        "ours, DIS": lambda before, after: next(interpolator("dis")(before, after, (0.5,))),
    }
    if o.weights:
        raft = interpolator("raft", weights=o.weights)
        methods["ours, RAFT"] = lambda before, after: next(raft(before, after, (0.5,)))
    scores = {(sequence.name, method): [] for sequence in find(o.folder) for method in methods}
    for sequence in find(o.folder):
        for middle in np.unique(np.linspace(1, sequence.count() - 2, o.frames).astype(int) // 2 * 2 + 1):
            if middle + 1 >= sequence.count():
                continue
            before, truth, after = sequence.read(middle - 1, middle + 1)
            for method, interpolate in methods.items():
                scores[sequence.name, method].append(score(interpolate(before, after), truth))
    everything = {("all", method): [] for method in methods}
    for (_, method), found in scores.items():
        everything["all", method] += found
    print_table(
        [
            {"sequence": name, "method": method, "PSNR": mean(p for p, _ in found), "SSIM": mean(s for _, s in found)}
            for (name, method), found in (scores | everything).items()
            if found
        ],
        as_json=o.json,
    )


def score(frame: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return PSNR and SSIM of frames [H,W,3] uint8."""
    from skimage.metrics import structural_similarity

    return float(cv2.PSNR(frame, truth)), float(structural_similarity(frame, truth, channel_axis=2))


def blend(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Average the two frames."""
    return cv2.addWeighted(before, 0.5, after, 0.5, 0)


def warp_forward(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Warp the frame before by half of the forward flow."""
    height, width = before.shape[:2]
    grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
    places = grid - 0.5 * dis_flow(before, after)
    return cv2.remap(before, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
