"""Last step of a registration: a least-squares fit on the grid of the spikes, without smoothing.

The picture has little noise and a fine grid, the spikes the opposite. So the picture, as intensity, is averaged over
the area of each spike pixel and compared with the spikes as they are: neither is smoothed, and gradients have no noise.
"""

import cv2
import numpy as np

from codes.registration.geometry import corners, in_view_of_spikes, transform
from codes.registration.least_squares import BLOCKS, PARAMETERS, Equations, Fit, correlation, motion_columns, solve

ROUNDS, STEPS = 2, 3  # of the response of the picture, and of the homography with each
HIGH_PASS = 8.0  # spike pixels, standard deviation of the mean that is subtracted
SMALLEST_STEP = 0.005  # picture pixels at the corners
LEAST_PIXELS = 256  # of the spikes that show the picture


def fit_on_spike_grid(picture: np.ndarray, intensity: np.ndarray, fitted: Fit, model: str) -> Fit:
    """Improve a homography from a picture [H,W,3] BGR or [H,W], uint8, to mean intensity [h,w] of the spikes.

    model: as in `least_squares.fit`. The uncertainty is in picture pixels.
    """
    homography, best = fitted.homography, fitted
    for _ in range(ROUNDS):
        exposed = _as_intensity(picture, intensity, homography)
        for _ in range(STEPS):
            equations = _equations(exposed, intensity, homography, model)
            if equations is None:
                return fitted
            step, best = solve(equations, homography, picture.shape[:2])
            homography = homography @ np.linalg.inv(step)
            homography /= homography[2, 2]
            places = corners(picture.shape)
            if np.abs(transform(step, places) - places).max() < SMALLEST_STEP:
                break
    return Fit(homography, fitted.correlation, best.corner_deviation)


def _as_intensity(picture: np.ndarray, intensity: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """Return what the spike camera would see of each picture pixel, [H,W].

    A cubic polynomial of each colour undoes the response, for any spectral sensitivity of the spike camera.
    """
    values = picture.reshape(*picture.shape[:2], -1).transpose(2, 0, 1).astype(np.float32) / 255
    terms = np.concatenate((np.ones_like(values[:1]), values, values**2, values**3))
    seen, masks = zip(*(in_view_of_spikes(term, homography, intensity.shape) for term in terms), strict=True)
    mask = masks[0]
    coefficients = np.linalg.lstsq(np.stack([term[mask] for term in seen], 1), intensity[mask], rcond=None)[0]
    return np.tensordot(coefficients.astype(np.float32), terms, 1)


def _equations(exposed: np.ndarray, intensity: np.ndarray, homography: np.ndarray, model: str) -> Equations | None:
    """Linearise the fit at a homography; None if picture and spikes hardly overlap."""
    gradients = [cv2.Sobel(exposed, cv2.CV_32F, *order, ksize=1, scale=0.5) for order in ((1, 0), (0, 1))]
    seen, mask = in_view_of_spikes(np.dstack((exposed, *gradients)), homography, intensity.shape)
    if mask.sum() < LEAST_PIXELS:
        return None
    rows, columns = np.nonzero(mask)
    x, y = transform(np.linalg.inv(homography), np.stack((columns, rows), 1)).T.astype(np.float32)
    motion = motion_columns(seen[..., 1][mask], seen[..., 2][mask], x, y, exposed.shape)[: PARAMETERS[model]]
    mean_free = _high_pass(intensity, mask)
    reference = _high_pass(seen[..., 0], mask)
    design = np.stack([*motion, reference, np.ones_like(reference)])
    height, width = intensity.shape
    return Equations(design, mean_free, rows * BLOCKS // height * BLOCKS + columns * BLOCKS // width,
                     correlation(reference, mean_free))  # fmt: skip


def _high_pass(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Subtract the local mean inside a mask: [h,w] -> [N]."""
    inside = mask.astype(np.float32)
    share = np.maximum(cv2.GaussianBlur(inside, (0, 0), HIGH_PASS), 1e-3)
    return (image - cv2.GaussianBlur(image * inside, (0, 0), HIGH_PASS) / share)[mask]
