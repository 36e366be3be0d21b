"""Averages along motion: noise goes, what moves stays sharp, what a neighbour does not show is left alone."""

import cv2
import numpy as np
import pytest

from codes.motion import temporal_average
from codes.motion.temporal_average import average_along_motion

HEIGHT, WIDTH, MOVED = 64, 96, 3  # pixels from one frame to the next


@pytest.fixture(scope="module")
def frames():
    """A coloured texture that moves to the right, three frames [H,W,3] in [0,1]."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.random((HEIGHT, 2 * WIDTH, 3), np.float32), (0, 0), 2)
    texture = 0.2 + 0.6 * (texture - texture.min()) / (texture.max() - texture.min())
    return [np.ascontiguousarray(texture[:, WIDTH // 2 - MOVED * number :][:, :WIDTH]) for number in range(3)]


def test_noise_is_averaged(frames, monkeypatch):
    """Before it is sharpened: weights of 1, 1 and 1 leave sqrt(1/3) = 0.58 of independent noise."""
    monkeypatch.setattr(temporal_average, "SHARPENED", 0.0)
    rng = np.random.default_rng(1)
    noisy = [frame + 0.02 * rng.standard_normal(frame.shape, np.float32) for frame in frames]
    averaged = average_along_motion(noisy[1], [(noisy[0], 1.0), (noisy[2], 1.0)])
    error, before = (np.sqrt(((one - frames[1])[4:-4, 8:-8] ** 2).mean()) for one in (averaged, noisy[1]))
    assert 0.5 * before < error < 0.75 * before


def test_the_blur_of_noisy_averages_is_undone(frames):
    """Frames that lie half a pixel apart are averaged: the gradient is that of one frame, within 5 %."""
    between = [(frames[1] + np.roll(frames[1], 1, 1)) / 2, (frames[1] + np.roll(frames[1], -1, 1)) / 2]
    averaged = average_along_motion(frames[1], [(one, 1.0) for one in between])
    found, wanted = (np.abs(np.diff(one, axis=1))[:, 4:-4].mean() for one in (averaged, frames[1]))
    assert abs(found / wanted - 1) < 0.05


def test_what_neighbours_do_not_show_stays(frames):
    """Brighter neighbours, and the borders, which one of the neighbours does not show."""
    brighter = [frame + np.float32(0.3) for frame in frames]
    assert np.abs(average_along_motion(frames[1], [(brighter[0], 1.0), (brighter[2], 1.0)]) - frames[1]).max() < 0.005
    averaged = average_along_motion(frames[1], [(frames[0], 1.0), (frames[2], 1.0)])
    assert np.abs(averaged - frames[1])[:, [0, 1, -2, -1]].mean() < 0.005
