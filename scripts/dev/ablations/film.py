"""Measure films against their truth: PSNR over time in exposures and between them, and smoothness over time.

    python scripts/make_gopro.py VIDEO --output data/films --film 60 --factor 24
    python scripts/deblur_film.py data/films/test/NAME/blur_data data/films/test/NAME/spikes.dat --clock 20 162 97 \\
        --spike_rate 20000 --fps_out 5000 --out out/
    python scripts/dev/ablations/film.py data/films/test/NAME out/ --output film.svg

Compared with optical-flow interpolation between the restored frames in the middle of the exposures. Smoothness is the
mean difference of neighbouring frames divided by that of the truth: 1 is right, a peak at a seam is a jump.
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
from codes.motion.flow import dis_flow
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
    middles = [min(times, key=lambda time, start=start: abs(time - start - length // 2)) for start in starts]
    interpolated = interpolate(made, times, middles)
    is_exposed = {time: any(start <= time < start + length for start in starts) for time in times}
    quality = {
        name: {time: peak_signal_noise_ratio(truth[time], frame, data_range=255) for time, frame in frames.items()}
        for name, frames in (("restored", made), ("flow between middles", interpolated))
    }
    for name, inside in (("in exposures", True), ("in gaps", False)):
        chosen = [time for time in times if is_exposed[time] == inside and time in interpolated]
        if chosen:
            ours, theirs = (np.mean([values[time] for time in chosen]) for values in quality.values())
            ssim = np.mean([structural_similarity(truth[t], made[t], channel_axis=2, data_range=255) for t in chosen])
            print(f"{name}: {len(chosen)} frames, {ours:.2f} dB, SSIM {ssim:.4f}; flow between middles {theirs:.2f} dB")
    roughness = {b: change(made[a], made[b]) / max(change(truth[a], truth[b]), 1e-6) for a, b in pairwise(times)}
    ends = [end for start in starts for end in (start, start + length - 1)]
    seams = [value for time, value in roughness.items() if min(abs(time - end) for end in ends) <= SEAM]
    others = [value for time, value in roughness.items() if min(abs(time - end) for end in ends) > SEAM]
    print(
        f"difference of neighbouring frames over that of the truth: median {np.median(list(roughness.values())):.3f}, "
        f"at seams {np.median(seams):.3f}, largest {max(seams):.3f}; elsewhere largest {max(others):.3f}"
    )
    if o.output:
        with replacing(o.output) as file:
            file.write(
                draw_panel("PSNR (dB)", {name: list(values.items()) for name, values in quality.items()}).encode()
            )


def interpolate(made: dict[int, np.ndarray], times: list[int], middles: list[int]) -> dict[int, np.ndarray]:
    """Interpolate between the restored frames at the middles of the exposures."""
    frames = {time: made[time] for time in middles}
    for start, end in pairwise(middles):
        between = [time for time in times if start < time < end]
        shares = [(time - start) / (end - start) for time in between]
        frames |= dict(zip(between, interpolate_frames(made[start], made[end], shares, dis_flow), strict=True))
    return dict(sorted(frames.items()))


def change(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.float32) - other).mean())


if __name__ == "__main__":
    program(main, Options, __doc__)
