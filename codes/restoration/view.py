"""Homography between the grids of the picture and of the spikes in a restoration, and what is sampled along it.

The picture is never resampled: its pixels are what is restored. Labelling, motion and super-resolution run on the spike
grid. What the closed form and LDN need is sampled at the pixels of the picture, and frames that predict intensity are
sampled at the pixels of the spikes.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from codes.data.spikes import UPSCALE
from codes.registration.geometry import enlargement

FADED = 2.0  # spike pixels from the border of the spikes over which the restored picture fades in


@dataclass(frozen=True)
class View:
    """A homography from the pixels of a picture (height, width) to those of upright spikes, both sizes, and gain."""

    homography: np.ndarray  # [3,3]
    picture: tuple[int, int]  # multiples of 4
    spikes: tuple[int, int]
    gain: Tensor | None = None  # relative, of the pixels of the upright spikes [h,w]; None: not known

    def to_picture(self, fine: Tensor) -> Tensor:
        """Sample [B,C,4h,4w] on the fine grid of the spikes at the pixels of the picture: [B,C,H,W]."""
        size = tuple(UPSCALE * side for side in self.spikes)
        return _sampled(fine, enlargement(self.spikes, size) @ self.homography, self.picture)

    def to_quarter(self, intensity: Tensor) -> Tensor:
        """Sample intensity [B,T,h,w] at a quarter of the picture: [B,T,H/4,W/4]."""
        size = (self.picture[0] // UPSCALE, self.picture[1] // UPSCALE)
        return _sampled(intensity, self.homography @ enlargement(size, self.picture), size)

    def to_spikes(self, frames: Tensor, fill: Tensor) -> Tensor:
        """Sample frames [B,C,H,W] at the pixels of the spikes, beyond the picture `fill` in its scale: [B,C,h,w]."""
        back = np.linalg.inv(self.homography)
        # One bilinear sample of each 4x4 pixels, as `at_spike_size` takes it.
        sampled = _sampled(frames, back, self.spikes, mode="bilinear", area=UPSCALE)
        inside = _inside(back, self.spikes, self.picture, fade=1.0).to(frames)
        return torch.lerp(fill, sampled, inside)

    def coverage(self) -> Tensor:
        """Return the weight [H,W] in [0,1] of what the spikes tell: 0 where they do not show the picture."""
        return _inside(self.homography, self.picture, self.spikes, fade=FADED)


def to_picture(view: View | None, fine: Tensor) -> Tensor:
    """Return what `View.to_picture` does; without a view both cameras show the same."""
    return fine if view is None else view.to_picture(fine)


def to_quarter(view: View | None, intensity: Tensor) -> Tensor:
    """Return what `View.to_quarter` does; without a view both cameras show the same."""
    return intensity if view is None else view.to_quarter(intensity)


def gain_of(view: View | None) -> Tensor | None:
    """Return the gain [h,w] of the spike pixels, None where it is not known."""
    return None if view is None else view.gain


def without_gain(view: View | None, intensity: Tensor) -> Tensor:
    """Divide intensity or spike counts [B,T,h,w] by the gain of each pixel, where it is known."""
    gain = gain_of(view)
    return intensity if gain is None else intensity / gain.to(intensity.device)


def covered(view: View | None, sharp: Tensor, blur: Tensor) -> Tensor:
    """Keep the blurry picture [B,3,H,W] where the spikes do not show what it shows."""
    return sharp if view is None else torch.lerp(blur, sharp, view.coverage().to(sharp))


def _sampled(
    image: Tensor, homography: np.ndarray, size: tuple[int, int], *, mode: str = "bicubic", area: int = 1
) -> Tensor:
    """Sample an image [B,C,.,.] at the pixels of a size (height, width).

    area: pixels of the image along a side that are sampled once; samples are averaged over the area of a pixel.
    """
    span = np.sqrt(abs(np.linalg.det(homography[:2, :2])))  # pixels of the image per sampled pixel
    samples = max(1, math.ceil(span / area - 0.25))
    x, y, z = _mapped(homography @ enlargement(tuple(samples * side for side in size), size), size, samples)
    height, width = image.shape[-2:]
    grid = np.stack((2 * (x / z + 0.5) / width - 1, 2 * (y / z + 0.5) / height - 1), -1)
    places = torch.from_numpy(grid).to(image)[None].expand(len(image), -1, -1, -1)
    sampled = F.grid_sample(image, places, mode=mode, padding_mode="border", align_corners=False)
    return F.avg_pool2d(sampled, samples) if samples > 1 else sampled


def _inside(homography: np.ndarray, size: tuple[int, int], other: tuple[int, int], *, fade: float) -> Tensor:
    """Return how far inside the borders of another image each pixel of a size lies, over `fade` of its pixels."""
    x, y, z = _mapped(homography, size, 1)
    x, y = x / z + 0.5, y / z + 0.5
    distance = np.minimum(np.minimum(x, other[1] - x), np.minimum(y, other[0] - y))
    return torch.from_numpy(np.clip(distance / fade, 0, 1)).float()


def _mapped(homography: np.ndarray, size: tuple[int, int], samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Map the pixels of a size, `samples` times as many along each side: homogeneous coordinates, each [.,.]."""
    rows, columns = np.mgrid[: size[0] * samples, : size[1] * samples].astype(float)
    return tuple(a * columns + b * rows + c for a, b, c in homography)
