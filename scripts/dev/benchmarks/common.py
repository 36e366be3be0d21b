"""What the measures share: a synthetic sample of a data set, and the printed table."""

import json
from pathlib import Path

import cv2
import numpy as np

Row = dict[str, str | int | float]
FIRING_RATE = 0.3  # spikes per pixel and spike frame of a daylight scene


def write_sample(folder: Path, height: int, width: int, *, split: str = "test", name: str = "000019") -> None:
    """Write a sample: a photograph of scikit-image, its horizontal blur, and random spikes at FIRING_RATE."""
    from skimage.data import astronaut

    from codes.data.images import write_image
    from codes.data.spikes import UPSCALE, Exposure, write_spikes

    sharp = cv2.resize(astronaut()[..., ::-1], (width, height), interpolation=cv2.INTER_CUBIC)
    write_image(folder / f"{split}/sharp_data/scene/{name}.png", sharp)
    write_image(folder / f"{split}/blur_data/scene/{name}.png", cv2.blur(sharp, (25, 1)))
    shape = (Exposure().total, height // UPSCALE, width // UPSCALE)
    spikes = np.random.default_rng(0).random(shape) < FIRING_RATE
    write_spikes(folder / f"{split}/spike_data/scene/{name}.dat", spikes)


def print_table(rows: list[Row], *, as_json: bool = False) -> None:
    """Print rows with the same keys as aligned columns, or as one JSON object a line."""
    if as_json:
        print("\n".join(json.dumps(row) for row in rows))
        return
    cells = [[f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    lines = [list(rows[0]), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
