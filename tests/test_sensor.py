"""Defects of a spike sensor are found, little else is taken for one, and repaired streams are like intact ones."""

import cv2
import numpy as np
import pytest

from codes.data.sensor import bridge_frames, defective_pixels, find_defects, fixed_pattern_gain, repair, repair_pixels
from codes.simulation.camera import add_noise, integrate
from codes.simulation.demo_scenes import PHOTOGRAPHS, photograph

FRAMES = 137


def recorded(intensity: np.ndarray, threshold: float = 1.0, has_noise: bool = False) -> np.ndarray:
    """Spikes [137,h,w] of a still intensity [h,w] from random phases."""
    rng = np.random.default_rng(0)
    spikes = integrate(np.stack([intensity] * FRAMES), threshold=threshold, first=rng.random(intensity.shape))
    return add_noise(spikes, rng) if has_noise else spikes


@pytest.mark.parametrize("threshold", [1.0, 4.0])
@pytest.mark.parametrize("name", [*PHOTOGRAPHS["test"], "coins.png", "page.png", "rocket.jpg"])
def test_a_sharp_photograph_that_stands_still_has_hardly_any_defects(name, threshold):
    """Of 8,000 pixels at most two, which are highlights: there the repair changes no ratio of intensities."""
    gray = cv2.cvtColor(photograph(name, None), cv2.COLOR_BGR2GRAY)
    small = cv2.resize(gray, (100, 80), interpolation=cv2.INTER_AREA) / 255
    defects = find_defects(recorded(small, threshold, has_noise=True))
    assert defects.hot.sum() <= 2 and not defects.dead.any() and not len(defects.lost)


def test_thin_bright_and_dark_lines_are_no_defects():
    lines = np.full((20, 24), 0.4)
    lines[5], lines[:, 9] = 1.0, 0.0
    hot, dead = defective_pixels(recorded(lines).sum(0), FRAMES)
    assert not hot.any() and not dead.any()


def test_hot_and_dead_pixels_are_found_at_borders_and_side_by_side_too():
    spikes = recorded(np.random.default_rng(1).uniform(0.2, 0.3, (20, 24)), has_noise=True)
    hot, dead = [(0, 0), (7, 9), (19, 12)], [(3, 3), (3, 4), (12, 23)]
    spikes[(slice(None), *np.array(hot).T)] = 1
    spikes[(slice(None), *np.array(dead).T)] = 0
    found = find_defects(spikes)
    assert list(map(tuple, np.argwhere(found.hot))) == hot and list(map(tuple, np.argwhere(found.dead))) == dead


def test_a_dark_corner_is_not_dead_and_a_dark_recording_has_no_lost_frames():
    dark = np.zeros((20, 24))
    dark[:, 12:] = 0.5
    defects = find_defects(recorded(dark))
    assert not defects.dead.any() and not len(defects.lost)
    assert not len(find_defects(recorded(dark * 0.01)).lost)


def test_a_repaired_pixel_fires_as_its_neighbours_do_on_average():
    intensity = np.linspace(0.1, 0.9, 24) * np.linspace(0.5, 1, 20)[:, None]
    spikes = recorded(intensity)
    places, damaged = [(4, 5), (10, 20), (19, 23)], spikes.copy()
    damaged[(slice(None), *np.array(places).T)] = 0
    repaired = repair(damaged, find_defects(damaged))
    for row, column in places:
        around = damaged.sum(0)[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        mean = around.sum() / (around.size - 1)  # the pixel itself has none
        assert abs(repaired[:, row, column].sum() - mean) <= 1
        repaired[:, row, column] = spikes[:, row, column]
    np.testing.assert_array_equal(repaired, spikes)


def test_a_pixel_among_defective_ones_stays():
    spikes = recorded(np.full((6, 8), 0.3))
    np.testing.assert_array_equal(repair_pixels(spikes, np.ones((6, 8), bool)), spikes)


def test_gain_is_recovered_within_the_counting_error_whatever_the_shading():
    """The shading falls to 2/5 from one side to the other; a local mean would err by 2 % at the borders."""
    rng = np.random.default_rng(0)
    gain = 1 + 0.05 * rng.standard_normal((48, 64))
    shading = np.linspace(1, 0.4, 64) + np.linspace(0, 0.2, 48)[:, None]
    total = np.floor(2000 * gain * shading + rng.random(gain.shape)).astype(int)
    defective = np.zeros(gain.shape, bool)
    defective[10, 20], defective[30, 5] = True, True
    total[10, 20], total[30, 5] = 0, 4000
    found = fixed_pattern_gain(total, defective)
    assert (found[defective] == 1).all()
    error = (found - gain)[~defective]
    assert error.std() < 0.004 and np.abs(error).max() < 0.02


@pytest.mark.parametrize("lost", [[60], [60, 90], [60, 61, 62]])
def test_regular_spikes_in_lost_frames_are_restored_exactly(lost):
    periods, phases = np.arange(3, 13)[:, None], np.arange(16)
    spikes = ((np.arange(FRAMES)[:, None, None] + phases) % periods == 0).astype(np.uint8)
    damaged = spikes.copy()
    damaged[lost] = 0
    np.testing.assert_array_equal(bridge_frames(damaged, np.array(lost)), spikes)


@pytest.mark.parametrize("threshold", [1.0, 4.0])
def test_most_spikes_of_a_lost_frame_are_restored(threshold):
    """Noise spikes disturb the intervals: less than half of the errors are left; other frames stay as they are."""
    spikes = recorded(np.random.default_rng(2).uniform(0.05, 0.9, (20, 24)), threshold, has_noise=True)
    damaged = spikes.copy()
    damaged[60] = 0
    defects = find_defects(damaged)
    assert defects.lost.tolist() == [60]
    filled = bridge_frames(damaged, defects.lost)
    assert np.mean(filled[60] != spikes[60]) < np.mean(damaged[60] != spikes[60]) / 2
    np.testing.assert_array_equal(np.delete(filled, 60, 0), np.delete(spikes, 60, 0))


@pytest.mark.parametrize("lost", [[0, 1], [FRAMES - 1]])
def test_lost_frames_at_the_ends_of_a_stream_stay_empty(lost):
    damaged = recorded(np.full((6, 8), 0.3))
    damaged[lost] = 0
    np.testing.assert_array_equal(bridge_frames(damaged, np.array(lost)), damaged)
