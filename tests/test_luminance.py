"""Average of luminance along motion: noise goes, what moves stays sharp, and what shows another thing is not mixed."""

import cv2
import numpy as np
import pytest
import torch

from codes.motion.colour import chroma_of
from codes.motion.luminance import average_luminance
from codes.physics.data_consistency import mean_over_exposure
from codes.physics.sdm import gray

FRAMES, STEP = 7, 2  # pixels that the scene moves from frame to frame


@pytest.fixture(scope="module")
def truth() -> torch.Tensor:
    """A coloured texture that moves to the right, frames [N,3,64,96]."""
    texture = np.random.default_rng(0).random((8, 15, 3), np.float32)
    texture = cv2.resize(texture, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC).clip(0, 1)
    moving = [texture[:, (FRAMES - n) * STEP :][:, :96] for n in range(FRAMES)]
    return torch.from_numpy(np.stack(moving).transpose(0, 3, 1, 2).copy())


def noise(shape: tuple[int, ...]) -> torch.Tensor:
    return 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_noise_is_averaged_over_the_frames_that_show_the_same(truth):
    """Over three frames at the ends and five in the middle: to 1/3 and 1/5 of its variance, had all the same weight."""
    noisy = truth + noise((FRAMES, 1, 64, 96))
    averaged, _ = average_luminance(noisy)
    inner = (..., slice(4, -4), slice(12, -12))  # what lies at the left and right is seen during a part only
    remains = (averaged - truth)[inner].square().mean((1, 2, 3)) / (noisy - truth)[inner].square().mean((1, 2, 3))
    assert (remains[2:5] < 0.35).all() and (remains < 0.5).all()


def test_chroma_and_the_mean_over_the_exposure_stay(truth):
    noisy = truth + noise((FRAMES, 1, 64, 96))
    averaged, _ = average_luminance(noisy)
    torch.testing.assert_close(chroma_of(averaged), chroma_of(noisy), rtol=0, atol=1e-6)
    means = (mean_over_exposure(frames.unsqueeze(0)) for frames in (averaged, noisy))
    torch.testing.assert_close(*means, rtol=0, atol=1e-6)


def test_a_frame_at_another_time_is_averaged_as_those_of_the_exposure(truth):
    noisy = truth + noise((FRAMES, 1, 64, 96))
    averaged, exposure = average_luminance(noisy)
    again = torch.stack([exposure.average(frame, n / (FRAMES - 1)) for n, frame in enumerate(noisy)])
    torch.testing.assert_close(again, averaged, rtol=0, atol=1e-6)
    for position in (-0.4, 1.4):  # before the first frame and after the last
        assert exposure.average(noisy[0], position).isfinite().all()


def test_what_shows_another_thing_is_not_mixed_in(truth):
    """A flash that one frame shows."""
    still = (0.5 * truth[:1]).repeat(FRAMES, 1, 1, 1)
    still[3] += 0.4
    averaged, _ = average_luminance(still)
    torch.testing.assert_close(gray(averaged), gray(still), rtol=0, atol=0.01)
