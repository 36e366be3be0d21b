"""Arithmetic of homographies between pixel coordinates (x, y); the centres of pixels lie at integers."""

import cv2
import numpy as np


def transform(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a homography [3,3] to points [N,2]."""
    mapped = np.c_[points, np.ones(len(points))] @ homography.T
    return mapped[:, :2] / mapped[:, 2:]


def enlargement(small: tuple[int, ...], large: tuple[int, ...]) -> np.ndarray:
    """Return the [3,3] that takes pixels of one size (height, width) to those of another that shows the same view."""
    x, y = large[1] / small[1], large[0] / small[0]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1.0]])


def centred(picture: tuple[int, ...], spikes: tuple[int, ...], ratio: float) -> np.ndarray:
    """Return the [3,3] from picture to spikes whose centres coincide, with `ratio` picture pixels per spike pixel."""
    (height, width), (h, w) = picture[:2], spikes[:2]
    x, y = (w - 1) / 2 - (width - 1) / 2 / ratio, (h - 1) / 2 - (height - 1) / 2 / ratio
    return np.array([[1 / ratio, 0, x], [0, 1 / ratio, y], [0, 0, 1.0]])


def size_ratio(picture: tuple[int, ...], spikes: tuple[int, ...]) -> float:
    """Return the picture pixels per spike pixel if both show the same view: geometric mean of height and width."""
    return float(np.sqrt(picture[0] * picture[1] / (spikes[0] * spikes[1])))


def ratio_in_middle(homography: np.ndarray, picture: tuple[int, ...]) -> float:
    """Return the picture pixels per spike pixel, along each side, of a homography [3,3] in the middle of a picture."""
    w = homography[2] @ ((picture[1] - 1) / 2, (picture[0] - 1) / 2, 1)
    return float(np.sqrt(abs(w**3 / np.linalg.det(homography))))  # the Jacobian has the determinant det / w^3


def corners(shape: tuple[int, ...]) -> np.ndarray:
    """Return the centres [4,2] of the corner pixels of a size (height, width)."""
    right, below = shape[1] - 1.0, shape[0] - 1.0
    return np.array([[0, 0], [right, 0], [right, below], [0, below]])


def corner_error(found: np.ndarray, true: np.ndarray, picture: tuple[int, ...]) -> float:
    """Return the largest distance between two homographies at the corners of a picture, in picture pixels."""
    places = corners(picture)
    back = transform(np.linalg.inv(true), transform(found, places))
    return float(np.linalg.norm(back - places, axis=1).max())


def in_view_of_spikes(
    picture: np.ndarray, homography: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Bring a picture [H,W] or [H,W,C] into the view of upright spikes of a shape (h, w).

    Each spike pixel averages the area that it covers. Returns: the view [h,w,...] float32 on the picture's scale, and
    the mask [h,w] of the pixels that lie in the picture.
    """
    height, width = shape
    places = transform(np.linalg.inv(homography), np.array([[0, 0], [width - 1, height - 1]]))
    span = np.linalg.norm(places[1] - places[0]) / max(np.hypot(width - 1, height - 1), 1)
    samples = max(1, round(span))  # of a spike pixel along each side, about one picture pixel apart
    fine = enlargement(shape, (height * samples, width * samples)) @ homography
    size = (width * samples, height * samples)
    seen = cv2.warpPerspective(picture.astype(np.float32), fine, size, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpPerspective(np.ones(picture.shape[:2], np.float32), fine, size)
    seen, inside = (cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in (seen, inside))
    return seen, inside > 0.99
