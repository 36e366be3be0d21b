"""Least-squares registration of two images by a shift, an affine map or a homography, and its uncertainty.

Gauss-Newton steps, inverse compositional: the noisier image is sampled, the gradients are those of the other one, so
that noise does not bias them. Both are normalised locally; a common gain is estimated with the motion.
Source: Baker and Matthews, "Lucas-Kanade 20 years on: a unifying framework", IJCV 2004.
"""

from typing import NamedTuple

import cv2
import numpy as np

from codes.registration.geometry import corners, transform

PARAMETERS = {"none": 0, "shift": 2, "affine": 6, "homography": 8}
ITERATIONS = 15
STEP = 0.01  # pixels at the corners; smaller steps end the iterations
LOCAL = 8.0  # pixels, standard deviation of the window of the local normalisation
CONTRAST = 0.05  # of the mean brightness: weaker local contrast is not amplified
OUTLIER = 2.5  # residuals, in robust standard deviations, whose weight is a half
BLOCKS = 12  # along each side, whose residuals are taken as independent of each other
LEAST_OVERLAP = 0.25  # of the picture


class Fit(NamedTuple):
    """A homography [3,3] from the pixels of an image to those of another one, and how well it fits."""

    homography: np.ndarray
    correlation: float  # of the normalised images where they overlap
    corner_deviation: float  # standard deviation at the worst corner, in pixels of the image


def fit(image: np.ndarray, other: np.ndarray, homography: np.ndarray, model: str) -> Fit:
    """Register an image [H,W] to another one [h,w], float32, that is sampled; start at a homography.

    model: one of PARAMETERS; it describes the change of the homography that is given.
    """
    best = Fit(homography, -1.0, np.inf)
    for _ in range(ITERATIONS):
        equations = _linearised(image, other, homography, PARAMETERS[model])
        if equations is None:
            return best
        step, best = solve(equations, homography, image.shape)
        homography = homography @ np.linalg.inv(step)
        homography /= homography[2, 2]
        places = corners(image.shape)
        if not PARAMETERS[model] or np.abs(transform(step, places) - places).max() < STEP:
            break
    return best


class Equations(NamedTuple):
    """Linear least squares for the parameters of the motion, gain and offset."""

    design: np.ndarray  # [P,N] of the pixels that overlap
    observed: np.ndarray  # [N]
    block: np.ndarray  # [N], the block that a pixel lies in
    correlation: float


def _linearised(image: np.ndarray, other: np.ndarray, homography: np.ndarray, parameters: int) -> Equations | None:
    """Linearise the registration at a homography; None if the images hardly overlap."""
    height, width = image.shape
    sampled, mask = warp(other, homography, image.shape)
    if mask.mean() < LEAST_OVERLAP:
        return None
    sampled = match_brightness(sampled, image, mask)
    reference, sampled = normalised(image, sampled, mask)
    rows, columns = np.nonzero(mask)
    gradients = (cv2.Sobel(reference, cv2.CV_32F, *order, ksize=3, scale=1 / 8)[mask] for order in ((1, 0), (0, 1)))
    x, y = columns.astype(np.float32), rows.astype(np.float32)
    motion = motion_columns(*gradients, x, y, image.shape)[:parameters]
    design = np.stack([*motion, reference[mask], np.ones_like(x)])
    block = rows * BLOCKS // height * BLOCKS + columns * BLOCKS // width
    return Equations(design, sampled[mask], block, correlation(reference[mask], sampled[mask]))


def motion_columns(
    gradient_x: np.ndarray, gradient_y: np.ndarray, x: np.ndarray, y: np.ndarray, shape: tuple[int, ...]
) -> list[np.ndarray]:
    """Return the derivatives of brightness [N] at pixels (x, y) of an image by the 8 parameters of a homography."""
    half = np.hypot(*shape[:2]) / 2
    u, v = (x - (shape[1] - 1) / 2) / half, (y - (shape[0] - 1) / 2) / half
    gradient_x, gradient_y = gradient_x * half, gradient_y * half
    along = gradient_x * u + gradient_y * v
    return [
        gradient_x,
        gradient_y,
        gradient_x * u,
        gradient_x * v,
        gradient_y * u,
        gradient_y * v,
        along * u,
        along * v,
    ]


def solve(equations: Equations, homography: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, Fit]:
    """Return the step [3,3] of the image's pixels, and the fit before it with the uncertainty of its corners.

    The covariance is that of clustered errors (sandwich estimator), as the noise of neighbours is correlated.
    """
    design, observed, block, alike = equations
    weight = np.ones_like(observed)
    for _ in range(2):
        normal = ((design * weight) @ design.T).astype(float)
        normal += 1e-9 * np.trace(normal) * np.eye(len(normal))
        found = np.linalg.solve(normal, (design * weight) @ observed)
        residual = observed - found.astype(np.float32) @ design
        scale = 1.4826 * np.median(np.abs(residual)) * OUTLIER + 1e-9
        weight = 1 / (1 + (residual / scale) ** 2)
    gain = found[-2]
    parameters = len(found) - 2
    motion = np.zeros(8)
    if gain <= 0.05:  # nothing in common
        return np.eye(3), Fit(homography, alike, np.inf)
    motion[:parameters] = found[:parameters] / gain
    scores = [np.bincount(block, row * weight * residual, BLOCKS**2) for row in design]
    inverse = np.linalg.inv(normal)
    covariance = (inverse @ np.array(scores)) @ (inverse @ np.array(scores)).T
    covariance = covariance[:parameters, :parameters] / gain**2
    half = np.hypot(*shape) / 2
    center = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    deviation = 0.0
    for u, v in (corners(shape) - center) / half:
        jacobian = np.array([[1, 0, u, v, 0, 0, u * u, u * v], [0, 1, 0, 0, u, v, u * v, v * v]])[:, :parameters]
        deviation = max(deviation, float(np.sqrt(np.trace(jacobian @ covariance @ jacobian.T))) * half)
    return map_of(motion, shape), Fit(homography, alike, deviation)


def map_of(motion: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the [3,3] of the pixels of an image of a shape (height, width) by up to 8 parameters, the others 0."""
    half, (height, width) = np.hypot(*shape[:2]) / 2, shape[:2]
    normalise = np.array([[2, 0, 1 - width], [0, 2, 1 - height], [0, 0, 2 * half]]) / (2 * half)
    x, y, xx, xy, yx, yy, px, py = np.concatenate((motion, np.zeros(8 - len(motion))))
    return np.linalg.inv(normalise) @ np.array([[1 + xx, xy, x], [yx, 1 + yy, y], [-px, -py, 1]]) @ normalise


def warp(other: np.ndarray, homography: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Sample an image [h,w] at the pixels of a shape (height, width), and return which of them lie inside it."""
    size, flags = (shape[1], shape[0]), cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    sampled = cv2.warpPerspective(other, homography, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = np.zeros(other.shape, np.float32)
    inside[1:-1, 1:-1] = 1
    return sampled, cv2.warpPerspective(inside, homography, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) > 0.99


def match_brightness(image: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Bring an image [H,W] to the brightness distribution that a reference has inside a mask: a monotone map."""
    shares = np.linspace(0, 1, 33)
    have, want = (np.quantile(values[mask][::4], shares) for values in (image, reference))
    return np.interp(image, have, want).astype(np.float32)


def normalised(image: np.ndarray, other: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subtract local means of two images [H,W] inside a mask, and divide by the local contrast of the first."""
    window = dict(ksize=(0, 0), sigmaX=LOCAL, borderType=cv2.BORDER_REPLICATE)
    inside = mask.astype(np.float32)
    share = np.maximum(cv2.GaussianBlur(inside, **window), 1e-3)

    def local(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values * inside, **window) / share

    mean, other_mean = local(image), local(other)
    difference = image - mean
    contrast = np.maximum(np.sqrt(local(difference**2)) + CONTRAST * image[mask].mean(), 1e-6)
    other = other * np.clip(mean / np.maximum(other_mean, 1e-6), 0.2, 5)
    return difference / contrast, (other - mean) / contrast


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation coefficient of two arrays; 0 if one of them is constant."""
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).mean() / max(one.std() * other.std(), 1e-12))
