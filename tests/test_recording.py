"""All pictures of a recording together tell its clock and its geometry, or that they cannot."""

from functools import cache

import cv2
import numpy as np
import pytest

from codes.registration.evidence import Shot
from codes.registration.geometry import corner_error, enlargement
from codes.registration.recording import find_clock
from codes.restoration.pairs import numbered
from codes.simulation.camera import add_noise, integrate

HEIGHT, WIDTH, TOTAL = 48, 64, 700  # of the spikes
VIEW = enlargement((4 * HEIGHT, 4 * WIDTH), (HEIGHT, WIDTH))
FIRST, PERIOD, LENGTH = 31, 105.4, 60
NUMBERS = (0, 1, 2, 4, 5)


@cache
def recorded(motion: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the spikes of a texture that moves, and the pictures of NUMBERS; the last of them is of another scene."""
    rng = np.random.default_rng(0)
    texture = np.zeros((2 * HEIGHT, 2 * WIDTH), np.float32)
    for size in (1.5, 4, 12):
        blobs = cv2.GaussianBlur(rng.random(texture.shape, np.float32), (0, 0), size)
        texture += (blobs - blobs.mean()) / blobs.std()
    texture = np.clip(0.4 + 0.1 * texture, 0.02, 0.9)
    time = np.arange(TOTAL) if motion == "wander" else 0 * np.arange(TOTAL)
    places = zip(WIDTH + 9 * np.sin(time / 41), HEIGHT + 7 * np.cos(time / 29), strict=True)
    intensity = np.stack([cv2.getRectSubPix(texture, (WIDTH, HEIGHT), place) for place in places])
    spikes = add_noise(integrate(intensity, threshold=1, first=rng.random(intensity[0].shape)), rng)
    starts = [round(FIRST + number * PERIOD) for number in NUMBERS]
    means = [intensity[start : start + LENGTH].mean(0) for start in starts[:-1]] + [intensity[0][::-1, ::-1]]
    large = (cv2.resize(mean, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC) for mean in means)
    return spikes, [np.rint(255 * np.clip(mean, 0, 1) ** 0.5).astype(np.uint8) for mean in large]


def found(motion: str, homography: np.ndarray):
    spikes, pictures = recorded(motion)
    period = TOTAL / (NUMBERS[-1] + 1)
    shots = [
        Shot("", picture, lambda first, stop: spikes[first:stop], TOTAL, number, (number + 0.25) * period, period)
        for number, picture in zip(NUMBERS, pictures, strict=True)
    ]
    return find_clock(shots, "upright", homography)


def test_a_missing_picture_a_wrong_one_and_a_wrong_geometry_leave_the_clock_right():
    wrong = VIEW @ np.array([[1.01, 0.005, 5], [-0.005, 1.01, -4], [0, 0, 1]])
    clock, homography, _, _, reason = found("wander", wrong)
    assert not reason and clock.length == pytest.approx(LENGTH, abs=1)
    for number in (0, 1, 2, 4):
        assert clock.exposure(number)[0] == pytest.approx(FIRST + number * PERIOD, abs=1.5)
    size = (4 * HEIGHT, 4 * WIDTH)
    assert corner_error(homography, VIEW, size) < 1 < corner_error(wrong, VIEW, size)


def test_a_recording_of_a_static_scene_has_no_clock():
    assert "hardly moves" in found("static", VIEW).reason


def test_pictures_are_numbered_by_their_names():
    assert numbered(["film_08", "film_09", "film_11"]) == [0, 1, 3]
    assert numbered(["a", "b", "c"]) == [0, 1, 2]
    assert numbered(["20260101", "20260315"]) == [0, 1]  # numbers of something else
    assert numbered(["a1", "b2"]) == [0, 1]
