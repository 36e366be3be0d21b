"""Measure films against their truth: PSNR over time in exposures and between them, and smoothness over time.

    python scripts/make_gopro.py VIDEO --output data/films --film 60 --factor 24
    python scripts/deblur_film.py data/films/test/NAME/blur_data data/films/test/NAME/spikes.dat --clock 20 162 97 \\
        --spike_rate 20000 --fps_out 5000 --out out/
    python scripts/dev/ablations/film.py data/films/test/NAME out/ --output film.svg

A frame is compared with the truth, and with two ways that do without the spikes of the gaps: the nearest frame that was
restored in an exposure, and optical-flow interpolation between the frames restored in the middle of the exposures.
Smoothness is measured by two ratios to the truth. Change: the mean difference of neighbouring frames; a peak at a seam
is a jump, and blurry frames change less than sharp ones. Flicker: the same after the true motion is undone.
"""

import json
import sys
from dataclasses import MISSING, dataclass
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent.parent))

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from codes.cli import option, program
from codes.data.images import read_image
from codes.errors import InputError
from codes.files import replacing
from codes.motion.flow import dis_flow, pixel_grid, sample
from codes.motion.interpolation import interpolate_frames
from codes.reporting.curves import draw_panel

SEAM = 8  # spike frames to either side of the ends of an exposure that count as a seam


@dataclass(frozen=True)
class Options:
    film: str = option(MISSING, "folder of a film of make_gopro.py", positional=True)
    frames: str = option(MISSING, "folder of the frames that deblur_film.py made of it", positional=True)
    output: str = option("", "also PSNR over time, as .svg")


def main(o: Options) -> None:
    try:
        facts = json.loads(Path(o.film, "film.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{o.film}/film.json: cannot be read ({error}); name a film of make_gopro.py") from None
    paths = {int(path.stem): path for path in Path(o.frames).glob("*.png")}
    times = sorted(time for time in facts["truth_times"] if time in paths)
    if len(times) < 3:
        raise InputError(
            f"{o.frames}: {len(times)} frames lie at times of the truth in {o.film}; choose --fps_out by it"
        )
    starts, length = (
        [start for start in facts["exposure_starts"] if times[0] - 8 <= start <= times[-1]],
        facts["exposure"],
    )
    truth = {time: read_image(Path(o.film, f"sharp_data/{time:06d}.png")) for time in times}
    made = {time: read_image(paths[time]) for time in times}
    exposed = [time for time in times if any(start <= time < start + length for start in starts)]
    middles = [min(times, key=lambda time, start=start: abs(time - start - length // 2)) for start in starts]
    methods = {
        "film": made,
        "nearest": {time: made[min(exposed, key=lambda other, time=time: abs(other - time))] for time in times},
        "flow": interpolate(made, times, middles),
    }
    psnr = {
        name: {time: peak_signal_noise_ratio(truth[time], frame, data_range=255) for time, frame in frames.items()}
        for name, frames in methods.items()
    }
    for place, chosen in (("exposures", exposed), ("gaps", [time for time in times if time not in exposed])):
        common = [time for time in chosen if time in methods["flow"]]  # none lie outside of the middles
        if common:
            measures = (f"{name} {measured(psnr[name], truth, frames, common)}" for name, frames in methods.items())
            print(f"in {place}, {len(common)} frames, PSNR/SSIM: {', '.join(measures)}")
    ends = [end for start in starts for end in (start, start + length - 1)]
    for name, difference in (("change", change), ("flicker", flicker)):
        ratios = {
            later: difference(made, truth, time, later) / max(difference(truth, truth, time, later), 1e-6)
            for time, later in pairwise(times)
        }
        seams = [ratio for time, ratio in ratios.items() if min(abs(time - end) for end in ends) <= SEAM]
        others = [ratio for time, ratio in ratios.items() if min(abs(time - end) for end in ends) > SEAM]
        print(
            f"{name} over that of the truth: median {np.median(list(ratios.values())):.3f}, at seams "
            f"{np.median(seams):.3f}, largest {max(seams):.3f}; elsewhere largest {max(others):.3f}"
        )
    print(
        "gradient over that of the truth: median "
        f"{np.median([gradient(made[time]) / gradient(truth[time]) for time in times]):.3f}"
    )
    if o.output:
        with replacing(o.output) as file:
            file.write(draw_panel("PSNR (dB)", {name: list(values.items()) for name, values in psnr.items()}).encode())


def measured(
    psnr: dict[int, float], truth: dict[int, np.ndarray], frames: dict[int, np.ndarray], times: list[int]
) -> str:
    """Return mean PSNR and SSIM at some times."""
    ssim = [structural_similarity(truth[time], frames[time], channel_axis=2, data_range=255) for time in times]
    return f"{np.mean([psnr[time] for time in times]):.2f}/{np.mean(ssim):.3f}"


def interpolate(made: dict[int, np.ndarray], times: list[int], middles: list[int]) -> dict[int, np.ndarray]:
    """Interpolate between the restored frames at the middles of the exposures."""
    frames = {time: made[time] for time in middles}
    for start, end in pairwise(middles):
        between = [time for time in times if start < time < end]
        shares = [(time - start) / (end - start) for time in between]
        frames |= dict(zip(between, interpolate_frames(made[start], made[end], shares, dis_flow), strict=True))
    return dict(sorted(frames.items()))


def change(frames: dict[int, np.ndarray], _: dict[int, np.ndarray], time: int, later: int) -> float:
    """Return the mean difference of two frames."""
    return float(np.abs(frames[time].astype(np.float32) - frames[later]).mean())


def flicker(frames: dict[int, np.ndarray], truth: dict[int, np.ndarray], time: int, later: int) -> float:
    """Return the mean difference of two frames after the motion of the truth between them is undone."""
    flow = dis_flow(truth[time], truth[later])
    moved = sample(frames[later].astype(np.float32), pixel_grid(*flow.shape[:2]) + flow)
    return float(np.abs(frames[time] - moved).mean())


def gradient(frame: np.ndarray) -> float:
    """Return the mean difference of neighbouring pixels."""
    return float(np.mean([np.abs(np.diff(frame.astype(np.float32), axis=axis)).mean() for axis in (0, 1)]))


if __name__ == "__main__":
    program(main, Options, __doc__)
