"""The simulator is the reference's, to the bit."""

import numpy as np
import pytest

from codes.simulation.camera import Window, add_noise, exposures, integrate, noise_from_gaps, sense


def test_spikes_are_the_reference_spikes(golden):
    spikes = integrate(golden["sim_frames"], first=golden["sim_first"])
    np.testing.assert_array_equal(spikes, golden["sim_spikes"])


def test_noise_is_the_reference_noise(golden):
    noise = noise_from_gaps(golden["noise_gaps"], golden["noise_spikes"].shape)
    np.testing.assert_array_equal(noise, golden["noise_spikes"])


@pytest.mark.parametrize("frames", [97, 117, 221, 222, 225, 329, 800])
def test_windows_are_the_reference_windows(facts, frames):
    assert exposures(frames) == [Window(**window) for window in facts["windows"][str(frames)]]


def test_no_window_in_a_sequence_that_is_too_short():
    assert exposures(96) == []


@pytest.mark.parametrize("threshold", [1.0, 2.0, 4.0])
def test_rate_is_light_over_threshold(threshold):
    """A pixel fires in 0.9927 * intensity / V_th of the spike frames (closed form of integrate-and-fire)."""
    intensity = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    spikes = integrate(
        np.broadcast_to(intensity, (4000, 8, 8)), threshold=threshold, first=np.full((8, 8), 0.5, np.float32)
    )
    np.testing.assert_allclose(spikes.mean(0), intensity * 1.98543 / 2 / threshold, atol=5e-4)
    assert spikes[:, 0, 0].sum() == 0, "black never fires"


def test_noise_rate_is_published():
    rng = np.random.default_rng(0)
    assert add_noise(np.zeros((137, 64, 64), np.uint8), rng).mean() == pytest.approx(1 / 140, rel=0.02)


def test_the_sensor_sees_gray_at_a_quarter_of_the_size():
    frame = np.zeros((16, 32, 3), np.uint8)
    frame[..., 1] = 255
    np.testing.assert_allclose(sense(frame), np.full((4, 8), 0.59), atol=1e-6)
