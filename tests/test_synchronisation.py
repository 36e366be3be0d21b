"""The exposure of a picture is found in the stream of spikes, or named as uncertain."""

from functools import cache

import cv2
import numpy as np
import pytest

from codes.registration.geometry import enlargement
from codes.registration.synchronisation import FoundExposure, find_exposure
from codes.simulation.camera import add_noise, integrate

HEIGHT, WIDTH = 64, 96  # of the spikes
VIEW = enlargement((4 * HEIGHT, 4 * WIDTH), (HEIGHT, WIDTH))


@cache
def moving(speed: float, total: int) -> np.ndarray:
    """Return the intensity [T,h,w] of a texture that moves to the right along a wave."""
    rng = np.random.default_rng(0)
    texture = np.zeros((HEIGHT, 3 * WIDTH), np.float32)
    for size in (1.5, 4, 12):
        blobs = cv2.GaussianBlur(rng.random(texture.shape, np.float32), (0, 0), size)
        texture += (blobs - blobs.mean()) / blobs.std()
    texture = np.clip(0.4 + 0.1 * texture, 0.02, 0.9)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    shifts = [WIDTH + speed * (time + 6 * np.sin(time / 15)) for time in range(total)]
    return np.stack([cv2.remap(texture, columns + np.float32(shift), rows, cv2.INTER_LINEAR) for shift in shifts])


def recorded(speed: float, *, start: int, length: int, total: int, threshold: float, gamma: float = 1.0):
    """Return the spikes [T,h,w] and the picture [4h,4w] uint8 of an exposure."""
    intensity, rng = moving(speed, total), np.random.default_rng(1)
    spikes = add_noise(integrate(intensity, threshold=threshold, first=rng.random(intensity[0].shape)), rng)
    blurred = cv2.resize(intensity[start : start + length].mean(0), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    return spikes, np.rint(255 * np.clip(blurred, 0, 1) ** (1 / gamma)).astype(np.uint8)


@pytest.mark.parametrize(
    ("threshold", "start", "length", "gamma"), [(1, 31, 66, 2.2), (2, 40, 97, 1), (4, 20, 105, 2.2)]
)
def test_the_exposure_is_found(threshold, start, length, gamma):
    spikes, picture = recorded(0.15, start=start, length=length, total=150, threshold=threshold, gamma=gamma)
    found = find_exposure(lambda first, stop: spikes[first:stop], len(spikes), picture, VIEW, is_exact=True)
    allowed = 2 if threshold == 4 else 1
    assert abs(found.start - start) <= allowed and abs(found.length - length) <= allowed
    assert found.is_sure


def test_a_long_stream_is_read_in_parts():
    spikes, picture = recorded(0.05, start=1111, length=97, total=1500, threshold=1)
    largest = 0

    def read(first: int, stop: int) -> np.ndarray:
        nonlocal largest
        largest = max(largest, stop - first)
        return spikes[first:stop]

    found = find_exposure(read, len(spikes), picture, VIEW)
    assert abs(found.start - 1111) <= 1 and abs(found.length - 97) <= 1
    assert largest < 600


def test_the_exposure_is_found_though_the_registration_is_off_as_that_to_another_window_is():
    spikes, picture = recorded(0.15, start=20, length=97, total=150, threshold=1)
    shifted = VIEW @ np.array([[1, 0, 2], [0, 1, 0], [0, 0, 1.0]])  # as much as the scene moves in three frames
    found = find_exposure(lambda first, stop: spikes[first:stop], len(spikes), picture, shifted)
    assert abs(found.start - 20) <= 1 and abs(found.length - 97) <= 1


def test_a_known_gain_of_the_pixels_is_undone():
    gain = (1 + 0.15 * np.random.default_rng(3).standard_normal((HEIGHT, WIDTH), np.float32)).clip(0.5, 1.5)
    _, picture = recorded(0.15, start=31, length=66, total=150, threshold=1)
    first = np.random.default_rng(1).random(gain.shape)
    spikes = integrate((gain * moving(0.15, 150)).clip(0, 1), threshold=1, first=first)

    def found(gain: np.ndarray | None) -> FoundExposure:
        return find_exposure(lambda first, stop: spikes[first:stop], 150, picture, VIEW, is_exact=True, gain=gain)

    assert (found(gain).start, found(gain).length) == (31, 66)
    assert max(found(gain).deviation) < max(found(None).deviation) / 2


def test_a_static_scene_is_not_sure():
    spikes, picture = recorded(0, start=20, length=97, total=137, threshold=1)
    found = find_exposure(lambda first, stop: spikes[first:stop], len(spikes), picture, VIEW)
    assert not found.is_sure and "hardly moves" in found.reason


def test_another_scene_is_not_sure():
    spikes, picture = recorded(0.15, start=20, length=97, total=137, threshold=1)
    found = find_exposure(lambda first, stop: spikes[first:stop, ::-1], len(spikes), picture, VIEW)
    assert not found.is_sure and "no window" in found.reason
