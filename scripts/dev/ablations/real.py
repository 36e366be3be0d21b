"""Intensity around the middle of real streams against their sharp pictures, in gray, with gain and offset matched.

Each stream is drawn, also one without a picture: OUTPUT/NAME.png, the columns of the table from left to right.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from codes.cli import option
from codes.data.images import read_image, write_image
from codes.data.spikes import GRAY_WEIGHTS
from codes.errors import InputError
from codes.motion.compensation import motion_compensated_intensity
from codes.motion.super_resolution import super_resolve
from codes.physics.intensity import firing_rate, isi_intensity, remove_noise_spikes
from codes.physics.sdm import tfp
from codes.reporting.table import Table
from codes.restoration.spike_file import guess, read
from scripts.dev.ablations.common import provenance, written

COLUMNS = (
    "TFP, 9 frames",
    "ISI intensity, 9 frames",
    "the same without noise spikes",
    "MFSR, at the size of the spikes",
)


@dataclass(frozen=True)
class Options:
    streams: tuple[str, ...] = option((), "spike files; a sharp picture NAME.png beside one is what it is measured on")
    output: str = option("log/ablation", "folder of the table and of the pictures")


def main(o: Options) -> Table:
    """Draw each stream and make the table."""
    if not o.streams:
        raise InputError("--streams is missing: spike files; those with a sharp picture NAME.png beside are measured")
    rows = []
    for path in map(Path, o.streams):
        beside = path.with_suffix(".png")
        picture = read_image(beside) if beside.is_file() else None
        found = intensities(path, picture)
        write_image(Path(o.output, f"{path.stem}.png"), drawn(found))
        if picture is not None:
            truth = cv2.resize(picture @ GRAY_WEIGHTS / 255, found[0].shape[::-1], interpolation=cv2.INTER_AREA)
            rows.append([path.stem, *(matched_psnr(one, truth) for one in found)])
    note = "PSNR in dB after matching gain and offset by least squares; around the spike frame after the middle"
    return written(Table("real", "Real streams", ["stream", *COLUMNS], rows, [note, provenance()]), o.output)


def intensities(path: Path, picture: np.ndarray | None) -> list[np.ndarray]:
    """Return the intensity [h,w] of a stream in each way that is compared."""
    spike_format = guess(path, picture=picture)[0]
    spikes = torch.from_numpy(np.ascontiguousarray(read(path, spike_format)))[None]
    height, width = spikes.shape[-2:]
    center = spikes.shape[1] // 2 + 1
    streams = (spikes, firing_rate(spikes), firing_rate(remove_noise_spikes(spikes)))
    found = [tfp(stream, center, 9)[0, 0].numpy() for stream in streams]
    compensated = motion_compensated_intensity(spikes, isi_intensity(spikes))
    fine = super_resolve(compensated / compensated.mean(1).quantile(0.999), [center])[0, 0]
    return [*found, cv2.resize(fine.numpy(), (width, height), interpolation=cv2.INTER_LINEAR)]


def drawn(found: list[np.ndarray]) -> np.ndarray:
    """Draw intensities [h,w] side by side, each scaled to its own range, with the gamma of a screen."""
    shown = [(one / max(np.quantile(one, 0.995), 1e-6)).clip(0, 1) ** (1 / 1.8) for one in found]
    return np.rint(255 * np.hstack(shown)).astype(np.uint8)


def matched_psnr(intensity: np.ndarray, truth: np.ndarray) -> float:
    """Return the PSNR of gain * intensity + offset, both fitted by least squares."""
    known = np.stack((intensity.ravel(), np.ones(intensity.size)), 1)
    fitted = known @ np.linalg.lstsq(known, truth.ravel(), rcond=None)[0]
    return float(-10 * np.log10(np.mean((fitted.clip(0, 1) - truth.ravel()) ** 2)))
