"""Registration of one blurry picture to the spikes of its exposure, by `search`, `least_squares`, `spike_grid`.

The mean of the spikes over the exposure is as blurry as the picture, so both are compared directly, coarse to fine.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from codes.data.orientation import ORIENTATIONS, upright
from codes.data.spikes import GRAY_WEIGHTS
from codes.registration.geometry import enlargement, size_ratio
from codes.registration.least_squares import Fit, fit
from codes.registration.search import candidates, self_similarity
from codes.registration.spike_grid import fit_on_spike_grid

SIDES = (64, 128, 256)  # of the longer side of the picture, in the levels before the finest
FINEST = 2.0  # pixels of the finest level per spike pixel, at most
STARTS = 4  # of the coarse search that are refined
TOLERANCE = 1.5  # picture pixels: a corner may be off by as much
DEVIATION = 1.3  # that the estimated standard deviation is multiplied by, as simulated pairs showed
SURE = 0.99  # confidence of a registration that is sure
LEAST_CORRELATION = 0.5  # of the normalised images that show the same scene
DARK = 0.05  # brightness of a picture that is nearly black
SMOOTH = 0.7  # pixels, standard deviation that levels are smoothed by


@dataclass(frozen=True)
class Registration:
    """Where a picture lies in a stream of spikes."""

    orientation: str  # of the stream, as in codes.data.orientation
    # [3,3] float64, from (x, y) in picture pixels to (x, y) in pixels of the stream after `upright`;
    # the centres of pixels lie at integers, so that the same view at a quarter of the size is x / 4 - 0.375.
    homography: np.ndarray
    correlation: float  # of the normalised images
    confidence: float  # estimated probability that every corner is right to 1.5 picture pixels
    reason: str = ""  # why it is not sure, a sentence

    @property
    def is_sure(self) -> bool:
        return not self.reason


def register(
    long: np.ndarray, picture: np.ndarray, *, model: str = "homography", orientation: str = "", ratio: float = 0.0
) -> Registration:
    """Find where a blurry picture lies in the spikes of its exposure.

    long: mean of the spikes over the exposure [h,w], as the stream is stored. picture: [H,W,3] BGR or [H,W], uint8.
    model: "none" (both show the same view), "shift", "affine" or "homography". orientation: the only one that is tried;
    "": all eight. ratio: picture pixels per spike pixel, within a quarter; 0: as if both show the same view.
    """
    gray = brightness(picture)
    names = [orientation] if orientation else list(ORIENTATIONS)
    turned = {name: np.ascontiguousarray(upright(long, name), np.float32) for name in names}
    ratio = ratio or size_ratio(gray.shape, long.shape)
    if model == "none":
        start = enlargement(gray.shape, turned[names[0]].shape)
        fitted = _fit_levels(gray, turned[names[0]], start, model, _levels(gray, ratio)[-1:])
        return Registration(names[0], start, fitted.correlation, 1.0)
    found = [(*start, name) for name in names for start in candidates(gray, turned[name], ratio)]
    found = sorted(found, key=lambda one: -one[0])[:STARTS]
    levels, first = _levels(gray, ratio), "affine" if model == "homography" else model
    fits = [(_fit_levels(gray, turned[name], start, first, levels[:2]), name) for _, start, name in found]
    fitted, name = max(fits, key=lambda one: one[0].correlation)
    fitted = _fit_levels(gray, turned[name], fitted.homography, first, levels[2:3])
    fitted = _fit_levels(gray, turned[name], fitted.homography, model, levels[2:])
    fitted = fit_on_spike_grid(picture, turned[name], fitted, model)
    return _judged(gray, fitted, name, names)


def _judged(gray: np.ndarray, fitted: Fit, name: str, names: list[str]) -> Registration:
    """Rate a registration by the uncertainty of its corners and by similar parts of the picture."""
    deviation = DEVIATION * fitted.corner_deviation
    confidence = float(1 - np.exp(-((TOLERANCE / max(deviation, 1e-6)) ** 2) / 2))
    if gray.max() < DARK:
        reason = "the picture is nearly black"
    elif fitted.correlation < LEAST_CORRELATION:
        reason = "picture and spikes show different scenes, or one with too little texture"
    else:
        reason = self_similarity(gray, names)
    if reason:
        confidence = 0.0
    elif confidence < SURE:
        reason = f"noise or little texture leave its corners uncertain by {deviation:.1f} pixels"
    return Registration(name, fitted.homography, fitted.correlation, confidence, reason)


def brightness(picture: np.ndarray) -> np.ndarray:
    """Return the brightness [H,W] float32 in [0,1] of a picture [H,W,3] BGR or [H,W], uint8."""
    if picture.ndim == 3:
        picture = picture @ np.array(GRAY_WEIGHTS, np.float32)
    return picture.astype(np.float32) / 255


def _levels(gray: np.ndarray, ratio: float) -> list[float]:
    """List the picture pixels per pixel of each level, coarse to fine."""
    finest = max(ratio / FINEST, 1.0)
    return [*(max(max(gray.shape) / side, finest) for side in SIDES), finest]


def _fit_levels(gray: np.ndarray, spikes: np.ndarray, homography: np.ndarray, model: str, levels: list[float]) -> Fit:
    for reduction in levels:
        fitted = _fit_level(gray, spikes, homography, model, reduction)
        homography = fitted.homography
    return fitted


def _fit_level(gray: np.ndarray, spikes: np.ndarray, homography: np.ndarray, model: str, reduction: float) -> Fit:
    """Register with pictures reduced by a factor; the homography and the deviation are those of the full size."""
    per_spike = 1 / np.sqrt(abs(np.linalg.det(homography[:2, :2])))  # picture pixels per spike pixel
    image = reduced(gray, reduction, SMOOTH * max(1.0, per_spike / reduction))
    other = reduced(spikes, reduction / per_spike, SMOOTH)
    to_image, to_other = enlargement(image.shape, gray.shape), enlargement(other.shape, spikes.shape)
    fitted = fit(image, other, np.linalg.inv(to_other) @ homography @ to_image, model)
    full = to_other @ fitted.homography @ np.linalg.inv(to_image)
    return Fit(full / full[2, 2], fitted.correlation, fitted.corner_deviation * reduction)


def reduced(image: np.ndarray, factor: float, smooth: float) -> np.ndarray:
    """Reduce an image by a factor, at least 1, and smooth it."""
    height, width = (max(round(side / max(factor, 1.0)), 8) for side in image.shape)
    if (height, width) != image.shape:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(image, (0, 0), smooth)
