"""Fusion sees more than the pixels of one instant where the scene moves, and harms nothing where it stands."""

from bisect import bisect_left

import cv2
import numpy as np
import pytest

from codes.motion import super_resolution
from codes.motion.super_resolution import (
    FLOW_STEP,
    STEP,
    WindowMeans,
    _normal_equations,
    cubic,
    knots_between,
    super_resolve,
)
from codes.simulation.demo_scenes import photograph


def seen(film: np.ndarray) -> np.ndarray:
    """See [T,H,W] as the spike camera does, without noise."""
    return np.stack([cv2.resize(frame, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_LINEAR) for frame in film])


def psnr(image: np.ndarray, truth: np.ndarray, border: int = 16) -> float:
    inner = (slice(border, -border),) * 2
    return float(-10 * np.log10(np.mean((image[inner].clip(0, 1) - truth[inner]) ** 2)))


def film(speed: float) -> np.ndarray:
    """Pan over a photograph at `speed` picture pixels a tick: [137,128,192]."""
    picture = cv2.cvtColor(photograph("coffee.png", None), cv2.COLOR_BGR2GRAY).astype(np.float32) / 255
    steps = [np.float32([[1, 0, -150 - speed * t], [0, 1, -100 - 0.4 * speed * t]]) for t in range(-68, 69)]
    return np.stack([cv2.warpAffine(picture, step, (192, 128), flags=cv2.INTER_CUBIC) for step in steps])


def test_motion_gives_resolution():
    frames = film(0.37)
    light = seen(frames)
    bicubic = cv2.resize(light[68], None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    assert psnr(super_resolve(WindowMeans(light), 68), frames[68]) - psnr(bicubic, frames[68]) > 1.5  # dB


def test_what_stands_stays():
    frames = film(0.0)
    light = seen(frames)
    bicubic = cv2.resize(light[68], None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    assert psnr(super_resolve(WindowMeans(light), 68), frames[68]) > psnr(bicubic, frames[68]) - 0.1


def test_any_size_and_the_ends_of_a_stream():
    light = np.random.default_rng(0).random((20, 6, 9), np.float32)
    for center in (0, 19):
        fine = super_resolve(WindowMeans(light), center)
        assert fine.shape == (24, 36) and fine.dtype == np.float32 and np.isfinite(fine).all()


def test_fewer_samples_are_brought_to_an_instant_on_request():
    """Those that are left out make no difference then."""
    light = np.random.default_rng(0).random((137, 12, 16), np.float32)
    spoilt = light.copy()
    spoilt[101:] = 0  # ticks that no window of a sample within 28 ticks of the instant sees
    few, same = super_resolve(WindowMeans(light), 68, step=28), super_resolve(WindowMeans(spoilt), 68, step=28)
    assert not np.array_equal(few, super_resolve(WindowMeans(light), 68))
    np.testing.assert_allclose(few, same, atol=1e-5)


def test_normal_equations_are_those_of_the_samples():
    """S^T W S and S^T W value, of a matrix S that is written out, with samples at every edge and on pixels."""
    random, (height, width) = np.random.default_rng(0), (5, 7)
    x, y = random.random((2, 40), np.float32) * [[width - 1], [height - 1]]
    x[:4], y[:4] = (0, width - 1, 2, width - 1), (0, height - 1, 3, 1.5)
    value, weight = random.random((2, 40), np.float32)
    grid_y, grid_x = np.indices((height, width)).reshape(2, -1)
    samples = np.clip(1 - abs(x[:, None] - grid_x), 0, 1) * np.clip(1 - abs(y[:, None] - grid_y), 0, 1)
    explained_by, observed = _normal_equations(*(z.astype(np.float32) for z in (x, y, value, weight)), (height, width))
    picture = random.random((height, width), np.float32)
    expected = samples.T @ (weight * (samples @ picture.ravel()))
    np.testing.assert_allclose(explained_by(picture).ravel(), expected, atol=1e-5)
    np.testing.assert_allclose(observed.ravel(), samples.T @ (weight * value), atol=1e-5)


def test_between_knots_lies_a_cubic():
    """Knots are met, straight lines kept everywhere, parabolas where there are knots on both sides, uneven or not."""
    knots = [3, 8, 16, 24, 26]
    for place in range(3, 27):
        shares = cubic(knots, place)
        assert place not in knots or shares == {place: 1}
        assert sum(share * knot for knot, share in shares.items()) == pytest.approx(place)
        if 8 <= place <= 24:
            assert sum(share * knot**2 for knot, share in shares.items()) == pytest.approx(place**2)
    assert cubic([7], 7) == {7: 1}
    assert cubic([0, 8, 16, 24], 12) == {0: -1 / 16, 8: 9 / 16, 16: 9 / 16, 24: -1 / 16}  # Keys, 1981


def test_flow_is_found_at_both_ends_and_in_steps_from_the_origin():
    assert knots_between(3, 30, 68) == [3, 4, 12, 20, 28, 30]
    assert knots_between(16, 24, 0) == [16, 24] and FLOW_STEP == 8
    assert knots_between(5, 5, 5) == [5]


def test_flow_between_knots_follows_what_speeds_up(monkeypatch):
    """Fused from the flow of every 24th tick, what moves faster and faster is as sharp as from each tick's own.

    Between straight lines from knot to knot it is not.
    """
    picture = cv2.cvtColor(photograph("coffee.png", None), cv2.COLOR_BGR2GRAY).astype(np.float32) / 255
    steps = [np.float32([[1, 0, -150 - 0.3 * t - 0.004 * t * t], [0, 1, -100 + 0.1 * t]]) for t in range(-68, 69)]
    frames = np.stack([cv2.warpAffine(picture, step, (192, 128), flags=cv2.INTER_CUBIC) for step in steps])
    mean = WindowMeans(seen(frames))

    def sharpness(step: int) -> float:
        monkeypatch.setattr(super_resolution, "FLOW_STEP", step)
        return psnr(super_resolve(mean, 68), frames[68])

    assert sharpness(24) > sharpness(STEP) - 0.1  # dB

    def linear(knots: list[int], place: int) -> dict[int, float]:
        after = max(bisect_left(knots, place), 1)
        way = (place - knots[after - 1]) / (knots[after] - knots[after - 1])
        return {knots[after - 1]: 1 - way, knots[after]: way}

    cubic_sharpness = sharpness(24)
    monkeypatch.setattr(super_resolution, "cubic", linear)
    assert sharpness(24) < cubic_sharpness - 0.5
