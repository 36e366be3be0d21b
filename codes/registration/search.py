"""Coarse search for the scale and the shift between a picture and spikes, by normalised cross-correlation."""

import cv2
import numpy as np

from codes.data.orientation import DESCRIBED, oriented
from codes.registration.geometry import centred, enlargement
from codes.registration.least_squares import normalised

SIDE = 64  # pixels of the longer side of the picture
SCALES = np.geomspace(0.8, 1.25, 7)
INNER = 0.7  # part of the picture, along each side, that is searched for in the spikes
ALIKE = 0.8  # correlation above which parts of a picture are ambiguous
ALMOST, SIDE_OF_PARTS = 0.9, 256  # correlation of what is beside a part; pixels of the longer side of the picture
FAR = 0.08  # of the longer side, beyond which a part should not look the same


def candidates(gray: np.ndarray, spikes: np.ndarray, ratio: float) -> list[tuple[float, np.ndarray]]:
    """Find where the middle of a picture [H,W] fits best into spikes [h,w] at each of SCALES.

    Returns: correlation and homography [3,3] from picture to spikes, for each scale.
    """
    reduction = max(gray.shape) / SIDE
    height, width = (max(round(side / reduction), 8) for side in gray.shape)
    image = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
    to_image = enlargement(image.shape, gray.shape)
    image = _standardised(image)
    top, left = (round(side * (1 - INNER) / 2) for side in image.shape)
    inner = image[top : height - top, left : width - left]
    found = []
    for scale in SCALES:
        homography = centred(gray.shape, spikes.shape, ratio * scale) @ to_image
        size = tuple(max(round(side * ratio * scale / reduction), 8) for side in spikes.shape)
        other = cv2.resize(spikes, size[::-1], interpolation=cv2.INTER_AREA)
        canvas = cv2.warpPerspective(
            _standardised(other), np.linalg.inv(enlargement(size, spikes.shape)) @ homography, (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )  # fmt: skip
        score = cv2.matchTemplate(canvas, inner, cv2.TM_CCOEFF_NORMED)
        _, best, _, (x, y) = cv2.minMaxLoc(score)
        shift = np.array([[1, 0, x - left], [0, 1, y - top], [0, 0, 1.0]])
        found.append((best, homography @ shift @ np.linalg.inv(to_image)))
    return found


def self_similarity(gray: np.ndarray, orientations: list[str]) -> str:
    """Say how the middle of a picture [H,W] resembles other parts of it, so that its place is ambiguous; "" if not.

    orientations: those in which the picture may be mistaken for itself, as in codes.data.orientation.
    """
    factor = min(SIDE_OF_PARTS / max(gray.shape), 1.0)
    image = _standardised(cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
    top, left = (round(side * (1 - INNER) / 2) for side in image.shape)
    inner = np.ascontiguousarray(image[top : image.shape[0] - top, left : image.shape[1] - left])
    score = cv2.matchTemplate(image, inner, cv2.TM_CCOEFF_NORMED)
    _, places = cv2.connectedComponents((score > ALMOST).astype(np.uint8))
    rows, columns = np.nonzero(places == places[top, left])
    if max(np.ptp(rows), np.ptp(columns)) > 2 * FAR * max(image.shape):
        return "the scene has too little structure, or in one direction only"
    _, places = cv2.connectedComponents((score > ALIKE).astype(np.uint8))
    if places.max() > 1:
        return "the texture of the scene repeats: another shift fits as well"
    for name in set(orientations) - {"upright"}:
        other = np.ascontiguousarray(oriented(image, name))
        fitting = np.ascontiguousarray(inner[: other.shape[0], : other.shape[1]])
        if cv2.matchTemplate(other, fitting, cv2.TM_CCOEFF_NORMED).max() > ALIKE:
            return f"the scene looks the same {DESCRIBED[name]}: name the orientation of the spikes"
    return ""


def _standardised(image: np.ndarray) -> np.ndarray:
    image = cv2.GaussianBlur(image, (0, 0), 1.0)
    return normalised(image, image, np.ones(image.shape, bool))[0]
