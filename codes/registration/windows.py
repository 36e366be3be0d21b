"""Windows of a stream of spikes compared with a picture, in the view of the spikes.

A window of n spike frames has noise whose variance falls with n: a plain residual prefers long windows. Each block of
spike pixels is therefore divided into two halves, as on a chessboard. They show the same intensity with independent
noise, so the product of both has no noise in the mean where the square of their sum has.
"""

import itertools
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from codes.registration.geometry import enlargement
from codes.registration.homography import brightness
from codes.registration.least_squares import motion_columns

BLOCK = 2  # spike pixels along a side
HIGH_PASS = 12.0  # spike pixels, standard deviation of the mean that is subtracted
SMOOTH = 0.5  # blocks, standard deviation: texture finer than a block differs between its halves
GROUPS = 6  # of pixels; halves of them are compared with each other


@dataclass(frozen=True)
class SeenPicture:
    """A picture [h,w] as the spike camera would see it, and the pixels [h,w] that it shows."""

    picture: np.ndarray
    mask: np.ndarray
    parameters: int  # of a map of the spikes that may change the geometry: 0, 6 (affine) or 8 (homography)

    def references(self) -> np.ndarray:
        """Return the picture and its derivatives by the parameters of the map: [1 + parameters,h,w]."""
        gradients = (cv2.Sobel(self.picture, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1)))
        rows, columns = np.indices(self.picture.shape, np.float32)
        motion = motion_columns(*gradients, columns, rows, self.picture.shape)
        return np.stack((self.picture, *motion[: self.parameters])).astype(np.float32)

    def linear(self, mean: np.ndarray) -> "SeenPicture":
        """Undo the response of the picture: the cubic polynomial of its values that fits a mean of spikes [h,w]."""
        powers = self.picture[..., None] ** np.arange(4, dtype=np.float32)
        coefficients = np.linalg.lstsq(powers[self.mask], mean[self.mask], rcond=None)[0]
        return replace(self, picture=(powers @ coefficients).astype(np.float32))


class Products(NamedTuple):
    """Scalar products of the windows between any two of E ends, for each of GROUPS of pixels."""

    cross: np.ndarray  # [GROUPS,E,E], of the halves with each other: energy without noise
    noise: np.ndarray  # [GROUPS,E,E], energy of the noise of the mean of both halves
    along: np.ndarray  # [GROUPS,R,E], of the mean with the references: that of a window is a difference
    own: np.ndarray  # [GROUPS,R,R], of the references with each other


def seen_picture(
    picture: np.ndarray, homography: np.ndarray, shape: tuple[int, ...], *, parameters: int
) -> SeenPicture:
    """Bring a picture into the view of spikes of a shape (h, w), averaged over the area of a spike pixel."""
    gray = brightness(picture)
    per_spike = 1 / np.sqrt(abs(np.linalg.det(homography[:2, :2])))
    height, width = (max(round(side / max(per_spike / 2, 1.0)), 8) for side in gray.shape)
    small = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
    twice = enlargement(shape, (2 * shape[0], 2 * shape[1])) @ homography @ enlargement(small.shape, gray.shape)
    size = (2 * shape[1], 2 * shape[0])
    seen = cv2.warpPerspective(small, twice, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpPerspective(np.ones_like(small), twice, size, flags=cv2.INTER_LINEAR)
    area = (shape[1], shape[0])
    mask = cv2.resize(inside, area, interpolation=cv2.INTER_AREA) > 0.99
    return SeenPicture(cv2.resize(seen, area, interpolation=cv2.INTER_AREA), mask, parameters)


def cumulative(spikes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sum spikes [T,h,w] from the first frame to each of the ends: [len(ends),h,w] float32."""
    total = np.zeros((len(ends), *spikes.shape[1:]), np.float32)
    for index, (begin, end) in enumerate(itertools.pairwise(ends)):
        total[index + 1] = total[index] + spikes[begin:end].sum(0, dtype=np.float32)
    return total


def products(total: np.ndarray, seen: SeenPicture, block: int) -> Products:
    """Return the products of windows between any two ends.

    total: [E,h,w], sums of spikes or of intensity from the first frame to each end.
    """
    height, width = (side // block * block for side in seen.mask.shape)
    rows, columns = np.indices((height, width))
    even = ((rows + columns) % 2 == 0).astype(np.float32)
    mask = _means(seen.mask[:height, :width].astype(np.float32), block) > 0.99

    def features(image: np.ndarray) -> np.ndarray:
        small = cv2.GaussianBlur(_means(image, block), (0, 0), SMOOTH)
        return (small - _smooth(small, mask, HIGH_PASS / block))[mask]

    halves = [np.stack([features(2 * one[:height, :width] * half) for one in total]) for half in (even, 1 - even)]
    references = np.stack([features(one[:height, :width]) for one in seen.references()])
    place = (rows[::block, ::block] // 8 + 3 * (columns[::block, ::block] // 8))[mask] % GROUPS
    cross, noise, along, own = [], [], [], []
    for group in range(GROUPS):
        one, other, shown = (values[..., place == group] for values in (*halves, references))
        gram = one @ other.T
        cross.append(_of_windows((gram + gram.T) / 2))
        apart = (one - other) / 2
        noise.append(_of_windows(apart @ apart.T))
        along.append(shown @ (one + other).T / 2)
        own.append(shown @ shown.T)
    return Products(*map(np.stack, (cross, noise, along, own)))


def _of_windows(gram: np.ndarray) -> np.ndarray:
    """Return the products of windows with themselves from those of sums up to their ends, [E,E]."""
    square = np.diag(gram)
    return square[:, None] + square[None] - 2 * gram


def _means(image: np.ndarray, block: int) -> np.ndarray:
    return cv2.resize(image, (image.shape[1] // block, image.shape[0] // block), interpolation=cv2.INTER_AREA)


def _smooth(image: np.ndarray, mask: np.ndarray, deviation: float) -> np.ndarray:
    inside = mask.astype(np.float32)
    share = np.maximum(cv2.GaussianBlur(inside, (0, 0), deviation), 1e-3)
    return cv2.GaussianBlur(image * inside, (0, 0), deviation) / share
