"""Spike stream of a sequence, simulated by `codes.simulation.camera` one spike frame at a time."""

import numpy as np

from codes.data.spikes import pack
from codes.simulation.camera import Integrator, draw_noise


class Stream:
    """The spikes of one sample or recording at one size and threshold; charge is carried from frame to frame."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        full: bool,
        threshold: float,
        noise: tuple[float, float] | None,
        rng: np.random.Generator,
    ):
        """Draw the phases. shape (T,h,w): noise spikes are drawn for T frames at a time."""
        self.full, self.shape, self.gaps, self.rng = full, shape, noise, rng
        self.integrator = Integrator(rng.random(shape[1:], np.float32), threshold=threshold)
        self.noise: list[np.ndarray] = []  # pixels of the noise spikes in each of the next frames, the last one first

    def step(self, intensity: np.ndarray) -> bytes:
        """Fire for one frame of intensity [h,w], and add its noise spikes; return the packed spike frame."""
        spikes = self.integrator.step(intensity)
        if self.gaps:
            self.noise = self.noise or self._draw_noise(*self.gaps)
            spikes.reshape(-1)[self.noise.pop()] = 1
        return pack(spikes).tobytes()

    def _draw_noise(self, mean: float, std: float) -> list[np.ndarray]:
        times, pixels = draw_noise(self.shape, self.rng, mean=mean, std=std)
        order = np.argsort(times, kind="stable")
        return np.split(pixels[order], np.searchsorted(times[order], np.arange(1, self.shape[0])))[::-1]
