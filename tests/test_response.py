"""The response of a picture is found beside noise and outliers, and a linear picture is left alone."""

import numpy as np
import pytest
import torch

from codes.data.response import Response
from codes.registration.geometry import in_view_of_spikes
from codes.registration.response_estimation import _residual, estimate_response

ALL = np.ones((40, 60), bool)


def seen(response: Response, *, noise: float = 0.01, low: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """A coloured scene through a response, and its intensity on another scale, with noise."""
    rng = np.random.default_rng(0)
    intensity = rng.uniform(low, 0.9, (40, 60, 1)) * rng.uniform(0.8, 1, (40, 60, 3))
    gray = intensity @ (0.11, 0.59, 0.30)
    return (np.rint(255 * response.apply(intensity)) / 255).astype(np.float32), 0.3 * gray * (
        1 + noise * rng.standard_normal(gray.shape)
    )


@pytest.mark.parametrize("exponent, black", [(1 / 2.2, 0.0), (0.6, 0.04), (0.8, 0.02), (1.0, 0.05), (1.3, 0.0)])
def test_exponent_and_black_level_are_found(exponent, black):
    found = estimate_response(*seen(Response(exponent, black)), ALL)
    assert found.exponent == pytest.approx(exponent, abs=0.03) and found.black == pytest.approx(black, abs=0.02)


def test_outliers_and_clipped_pixels_do_not_matter():
    picture, intensity = seen(Response(0.5))
    intensity[:6], picture[6:10] = 0.2, 1.0  # another object, saturation
    assert estimate_response(picture, intensity, ALL).exponent == pytest.approx(0.5, abs=0.03)
    mask = ALL.copy()
    intensity[10:25], mask[10:25] = 0, False
    assert estimate_response(picture, intensity, mask).exponent == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
def test_a_linear_picture_is_linear(noise):
    assert estimate_response(*seen(Response(), noise=noise), ALL).is_linear


def test_deviations_count_relative_to_one_and_three_per_cent():
    """Of the mean and of the intensity itself: a third is off by that much in either direction, a third is right."""
    intensity = np.tile(np.linspace(0.1, 0.9, 101), 3)
    off = np.repeat((-1, 0, 1), 101) * (0.01 * intensity.mean() + 0.03 * intensity)
    values = np.repeat((intensity + off)[:, None], 3, 1).astype(np.float32)
    assert _residual(Response(), values, intensity) == pytest.approx(2 / 3, rel=1e-4)


def test_a_flat_dark_or_unseen_scene_is_taken_as_linear():
    rng = np.random.default_rng(0)
    flat = np.full((40, 60, 3), 0.5, np.float32)
    assert estimate_response(flat, 0.1 + 0.01 * rng.random((40, 60)), ALL).is_linear
    assert estimate_response(0 * flat, 0.01 * rng.random((40, 60)), ALL).is_linear
    assert estimate_response(*seen(Response(0.5)), ~ALL).is_linear


def test_a_response_is_undone_for_arrays_and_tensors():
    values, response = np.linspace(0, 1, 50), Response(0.45, 0.1)
    np.testing.assert_allclose(response.undo(response.apply(values)), values, atol=1e-12)
    np.testing.assert_allclose(response.undo(torch.from_numpy(response.apply(values))).numpy(), values, atol=1e-12)
    assert response.undo(np.array(0.05)) == 0
    assert response.apply(np.array(0.25)) == pytest.approx(0.1 + 0.9 * 0.25**0.45)


def test_the_view_of_the_spikes_averages_the_pixels_that_each_covers():
    picture = np.random.default_rng(0).random((32, 48, 3)).astype(np.float32)
    quarter = np.array([[0.25, 0, -0.375 + 2], [0, 0.25, -0.375 - 1], [0, 0, 1]])  # 2 to the right, 1 up
    view, mask = in_view_of_spikes(picture, quarter, (8, 12))
    blocks = picture.reshape(8, 4, 12, 4, 3).mean((1, 3))
    np.testing.assert_allclose(view[:7, 2:], blocks[1:, :10], atol=1e-5)
    assert mask[:7, 2:].all() and not mask[7].any() and not mask[:, :2].any()
