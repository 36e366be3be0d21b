"""A spike camera in software: intensity in, spikes out, and which frames of a sequence become one sample.

Source: the conversion scripts of S-SDM (arXiv 2403.09486), reproduced to the bit.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from codes.data.spikes import GRAY_WEIGHTS
from codes.errors import InputError

# Charge a clock step of a white pixel: photocurrent 2e-7 * 1.09e-13 A s over the capacitance, 250 steps a spike frame.
CHARGE_PER_FRAME = 250 * (2e-7 * 1.09e-13) / (1.83e-4 * 15e-15)
CHARGE_AT_THRESHOLD_1 = 2.0  # V_th = 1 of the paper: a white pixel fires in 99.3 % of the frames
THRESHOLDS = (0.1, 100.0)  # V_th that make a usable stream of 137 frames: the paper has 1, 2 and 4
NOISE_GAP_MEAN, NOISE_GAP_STD = 140.0, 50.0


def sense(frame: np.ndarray, *, full: bool = False) -> np.ndarray:
    """Return the intensity of a picture [H,W,3] uint8 BGR: [H/4,W/4] float32 in [0,1], [H,W] if `full`.

    Bilinear without antialiasing, then gray, as in the published conversion.
    Raises: InputError if the picture's sides are not multiples of 4.
    """
    height, width = frame.shape[:2]
    if height % 4 or width % 4:
        raise InputError(f"a picture of {height}x{width} has no quarter: its sides must be multiples of 4")
    if not full:
        # A bilinear quarter uses the middle two rows of every four: the others need not become floats.
        frame = frame.reshape(height // 4, 4, width, 3)[:, 1:3].reshape(height // 2, width, 3)
    frame = frame.astype(np.float32) / 255
    if not full:
        frame = cv2.resize(frame, (width // 4, height // 4), interpolation=cv2.INTER_LINEAR)
    return frame @ np.array(GRAY_WEIGHTS, np.float32)


class Integrator:
    """The charge of every pixel, carried from frame to frame."""

    def __init__(self, first: np.ndarray, *, threshold: float = 1.0):
        """Start with the charge that one frame `first` [h,w] in [0,1] leaves; random values set random phases."""
        self.limit = np.float32(CHARGE_AT_THRESHOLD_1 * threshold)
        self.charge = np.float32(CHARGE_PER_FRAME) * first.astype(np.float32) % self.limit

    def step(self, intensity: np.ndarray) -> np.ndarray:
        """Add one frame of intensity [h,w] in [0,1]; return the spikes [h,w] uint8 that it fires."""
        self.charge += np.float32(CHARGE_PER_FRAME) * intensity.astype(np.float32)
        fired = self.charge > self.limit
        if self.limit > CHARGE_PER_FRAME:  # at most once over the limit: the remainder is a difference, exactly
            np.subtract(self.charge, self.limit, out=self.charge, where=fired)
        else:
            self.charge[fired] %= self.limit
        return fired.astype(np.uint8)


def integrate(frames: np.ndarray, *, threshold: float = 1.0, first: np.ndarray) -> np.ndarray:
    """Integrate intensity and fire.

    frames [T,h,w] in [0,1]; first [h,w] in [0,1] is the frame before them and sets the phases; threshold in the
    paper's units (1, 2, 4) -> spikes [T,h,w] uint8.
    """
    integrator = Integrator(first, threshold=threshold)
    return np.stack([integrator.step(intensity) for intensity in frames])


def noise_gaps(
    pixels: int, rng: np.random.Generator, *, mean: float = NOISE_GAP_MEAN, std: float = NOISE_GAP_STD
) -> np.ndarray:
    """Draw the gaps between noise spikes, as many as there are spike frames of all pixels: [pixels] float32."""
    return rng.normal(mean, std, pixels).astype(np.float32)


def noise_places(gaps: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Place noise spikes at the given gaps along the pixels, time fastest: (frames, pixels) for shape (T,h,w)."""
    frames, height, width = shape
    places = np.cumsum(gaps, dtype=np.float64).astype(np.int64)
    return np.divmod(places[(places >= 0) & (places < height * width * frames)], frames)[::-1]


def noise_from_gaps(gaps: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Draw the noise spikes at the given gaps: [T,h,w] uint8 for shape (T,h,w)."""
    noise = np.zeros(shape, np.uint8)
    noise.reshape(len(noise), -1)[noise_places(gaps, shape)] = 1
    return noise


def draw_noise(
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    *,
    mean: float = NOISE_GAP_MEAN,
    std: float = NOISE_GAP_STD,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw noise spikes (in 0.71 % of the spike frames, as published): (frames, pixels) for shape (T,h,w)."""
    # Twice as many gaps as fit on average: the last ones always lie beyond the end.
    gaps = noise_gaps(int(2 * np.prod(shape) / mean) + 1000, rng, mean=mean, std=std)
    return noise_places(gaps, shape)


def add_noise(spikes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise spikes to spikes [T,h,w] uint8."""
    noisy = spikes.copy()
    noisy.reshape(len(noisy), -1)[draw_noise(spikes.shape, rng)] = 1
    return noisy


@dataclass(frozen=True)
class Window:
    """One sample of a sequence, in interpolated frames; `name` is its number in the raw numbering."""

    name: int
    first: int
    last: int
    spike_first: int | None
    spike_last: int | None
    sharp: int

    @property
    def begin(self) -> int:
        """The first frame that is needed, of spikes or exposure."""
        return self.first if self.spike_first is None else self.spike_first

    @property
    def end(self) -> int:
        """The last frame that is needed, of spikes or exposure."""
        return self.last if self.spike_last is None else self.spike_last


def exposures(
    frames: int, *, raw_per_blur: int = 13, interpolated: int = 7, overlap: int = 7, margin: int = 20
) -> list[Window]:
    """List the samples in a sequence of `frames` interpolated frames.

    raw_per_blur raw frames, with `interpolated` frames between neighbours, make one blurry picture; the next exposure
    starts `overlap` frames after the last one of this. Where `margin` frames before or after are missing there are no
    spikes (None).
    """
    factor = interpolated + 1
    length = (raw_per_blur - 1) * factor + 1
    windows = []
    for first in range(0, frames - length + 1, length + overlap):
        last, sharp = first + length - 1, first + length // 2
        has_spikes = first >= margin and last + margin < frames
        spike_first, spike_last = (first - margin, last + margin) if has_spikes else (None, None)
        windows.append(
            Window(
                name=sharp // factor,
                first=first,
                last=last,
                spike_first=spike_first,
                spike_last=spike_last,
                sharp=sharp,
            )
        )
    return windows
