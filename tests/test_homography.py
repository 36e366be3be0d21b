"""Registration finds known homographies and orientations, and says when a scene cannot tell."""

from functools import cache

import cv2
import numpy as np
import pytest

from codes.data.orientation import ORIENTATIONS, oriented
from codes.registration.geometry import corner_error, enlargement, transform
from codes.registration.homography import _judged, register
from codes.registration.least_squares import Fit
from codes.simulation.demo_scenes import photograph

HEIGHT, WIDTH, FRAMES = 288, 384, 97


@cache
def texture(seed: int = 0) -> np.ndarray:
    """Blobs of all sizes [H,W] in [0,1], as wide again as the picture on every side."""
    rng = np.random.default_rng(seed)
    image = np.zeros((2 * HEIGHT, 2 * WIDTH), np.float32)
    for size in (4, 12, 36):
        blobs = cv2.GaussianBlur(rng.random(image.shape, np.float32), (0, 0), size)
        image += (blobs - blobs.mean()) / blobs.std()
    return np.clip(0.4 + 0.1 * image, 0.02, 1)


def pair(scene: np.ndarray, homography: np.ndarray, *, ratio: float, threshold: float, gamma: float = 1.0):
    """Return the picture [H,W] uint8 in the middle of a scene, and the mean of spikes that see it by a homography."""
    height, width = round(HEIGHT / ratio), round(WIDTH / ratio)
    to_scene = np.array([[1, 0, WIDTH / 2], [0, 1, HEIGHT / 2], [0, 0, 1.0]])
    blurred = cv2.GaussianBlur(scene, (0, 0), ratio / 4)  # the area of a spike pixel
    rng = np.random.default_rng(1)
    picture = scene[HEIGHT // 2 : HEIGHT // 2 + HEIGHT, WIDTH // 2 : WIDTH // 2 + WIDTH]
    seen = cv2.warpPerspective(blurred, to_scene @ np.linalg.inv(homography), (width, height),
                               flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)  # fmt: skip
    counts = np.floor(FRAMES * seen / threshold + rng.random(seen.shape))  # integrate and fire, at constant intensity
    return np.rint(255 * picture ** (1 / gamma)).astype(np.uint8), np.minimum(counts, FRAMES) / FRAMES


def turned(ratio: float, degrees: float, scale: float, shift: tuple[float, float], perspective: float) -> np.ndarray:
    """Return the homography from picture to spikes of a rotation, an enlargement, a shift of the picture (pixels)."""
    height, width = round(HEIGHT / ratio), round(WIDTH / ratio)
    center = np.array([[1, 0, (WIDTH - 1) / 2], [0, 1, (HEIGHT - 1) / 2], [0, 0, 1.0]])
    cosine, sine = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    motion = np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]], [perspective / WIDTH, 0, 1]])
    return enlargement((HEIGHT, WIDTH), (height, width)) @ center @ motion @ np.linalg.inv(center)


@pytest.mark.parametrize(
    ("ratio", "threshold", "gamma", "degrees", "scale", "shift", "perspective"),
    [
        (4, 1, 1, 0, 1, (0, 0), 0),
        (4, 1, 2.2, 5, 1.1, (20, -15), 0.03),
        (4, 4, 1, -5, 0.9, (-30, 20), -0.03),
        (2, 4, 1, 3, 1.05, (10, 10), 0.02),
        (3, 2, 1, -2, 0.95, (25, -20), 0),
        (5.5, 1, 1, 1, 1, (-10, 5), 0),
        (1, 2, 1, 4, 1.08, (-20, 20), 0.02),
    ],
)
def test_a_known_homography_is_found(ratio, threshold, gamma, degrees, scale, shift, perspective):
    homography = turned(ratio, degrees, scale, shift, perspective)
    picture, long = pair(texture(), homography, ratio=ratio, threshold=threshold, gamma=gamma)
    found = register(long, picture)
    assert found.orientation == "upright"
    assert corner_error(found.homography, homography, picture.shape) < 0.15 * max(ratio, 2)
    assert found.is_sure and found.confidence > 0.99


@pytest.mark.parametrize("ratio", [3, 5.5])
def test_gamma_and_the_size_of_spike_pixels_cause_no_bias(ratio):
    """Without noise a homography is found to hundredths of a pixel: 16x16 samples make the exact mean of an area."""
    scene = photograph("astronaut.png", None)[:416, :512]
    top, left = (scene.shape[0] - HEIGHT) // 2, (scene.shape[1] - WIDTH) // 2
    picture = scene[top : top + HEIGHT, left : left + WIDTH]
    homography = turned(ratio, 3, 1.04, (9, -6), 0.02)
    height, width = round(HEIGHT / ratio), round(WIDTH / ratio)
    fine = enlargement((height, width), (16 * height, 16 * width)) @ homography
    from_scene = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])
    intensity = (scene.astype(np.float32) / 255) ** 2.2 @ np.array([0.2, 0.5, 0.3], np.float32)
    seen = cv2.warpPerspective(intensity, fine @ from_scene, (16 * width, 16 * height))
    found = register(cv2.resize(seen, (width, height), interpolation=cv2.INTER_AREA), picture)
    assert found.is_sure
    assert corner_error(found.homography, homography, picture.shape) < 0.03


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_orientation_is_found(orientation):
    homography = turned(4, 2, 1.03, (8, -5), 0)
    picture, long = pair(texture(), homography, ratio=4, threshold=2)
    found = register(oriented(long, orientation), picture)
    assert found.orientation == orientation and found.is_sure
    assert corner_error(found.homography, homography, picture.shape) < 1


@pytest.mark.parametrize("model", ["shift", "affine"])
def test_simpler_models_change_no_more_than_they_say(model):
    homography = turned(4, 0, 1, (9.5, -6.25), 0)
    picture, long = pair(texture(), homography, ratio=4, threshold=1)
    found = register(long, picture, model=model).homography
    assert corner_error(found, homography, picture.shape) < 0.5
    np.testing.assert_allclose(found[2], [0, 0, 1], atol=1e-12)
    if model == "shift":
        np.testing.assert_allclose(found[:2, :2], np.eye(2) / 4, atol=1e-9)


def test_without_a_model_both_show_the_same_view():
    picture, long = pair(texture(), turned(4, 0, 1, (0, 0), 0), ratio=4, threshold=1)
    found = register(long, picture, model="none")
    np.testing.assert_allclose(transform(found.homography, np.array([[1.5, 5.5]])), [[0, 1]])
    assert found.correlation > 0.95


ROWS, COLUMNS = np.mgrid[: 2 * HEIGHT, : 2 * WIDTH]
UNSURE = {
    "flat": (np.full((2 * HEIGHT, 2 * WIDTH), 0.5), "too little structure"),
    "dark": (0.03 * texture(), "nearly black"),
    "stripes": (0.5 + 0.3 * np.sin(COLUMNS / 9), "one direction"),
    "checkerboard": (0.3 + 0.4 * ((COLUMNS // 30 + ROWS // 30) % 2), "repeats"),
    "one spot": (0.2 + 0.6 * np.exp(-((COLUMNS - WIDTH) ** 2 + (ROWS - HEIGHT) ** 2) / 1000.0), "looks the same"),
}


@pytest.mark.parametrize("case", UNSURE)
def test_a_scene_that_cannot_tell_is_not_sure(case):
    scene, reason = UNSURE[case]
    picture, long = pair(scene.astype(np.float32), turned(4, 0, 1, (7, -5), 0), ratio=4, threshold=1)
    found = register(long, picture)
    assert not found.is_sure and found.confidence == 0
    assert reason in found.reason


@pytest.mark.parametrize("deviation, is_sure", [(0.35, True), (0.42, False)])
def test_corners_that_are_uncertain_are_not_sure(deviation, is_sure):
    """1.3 times the deviation; two independent coordinates are within 1.5 pixels by a Rayleigh distribution."""
    found = _judged(texture(), Fit(np.eye(3), 0.9, deviation), "upright", ["upright"])
    assert found.confidence == pytest.approx(1 - np.exp(-((1.5 / 1.3 / deviation) ** 2) / 2))
    assert found.is_sure == is_sure == (found.confidence > 0.99)


def test_another_scene_is_not_sure():
    picture, _ = pair(texture(0), turned(4, 0, 1, (0, 0), 0), ratio=4, threshold=1)
    _, long = pair(texture(1), turned(4, 0, 1, (0, 0), 0), ratio=4, threshold=1)
    found = register(long, picture)
    assert not found.is_sure and "different scenes" in found.reason
