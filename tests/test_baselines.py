"""TFI says what a slow walk along each pixel's spikes says, and the intensity itself where that is constant."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codes.physics.baselines import tfi


def slow(train: list[int], center: int) -> float:
    """Find the intensity of one pixel, by its list of spikes."""
    places = [t for t, fired in enumerate(train) if fired]
    before, after = [t for t in places if t <= center], [t for t in places if t > center]
    if not places:
        return 0.0
    if before and after:
        return 1 / (after[0] - before[-1])
    if before:
        return 1 / max(len(train) - before[-1], before[-1] - (before[-2] if len(before) > 1 else -1))
    return 1 / max(after[0] + 1, (after[1] if len(after) > 1 else len(train)) - after[0])


@given(st.lists(st.lists(st.integers(0, 1), min_size=9, max_size=9), min_size=1, max_size=12), st.integers(0, 8))
def test_tfi_is_the_slow_one(trains, center):
    spikes = torch.tensor(trains, dtype=torch.uint8).T[None, :, None]
    found = tfi(spikes, center)
    assert found.shape == (1, 1, 1, len(trains)) and found.dtype == torch.float32
    np.testing.assert_allclose(found.flatten(), [slow(train, center) for train in trains], rtol=1e-6)


@pytest.mark.parametrize("interval", [1, 2, 5, 20])
def test_constant_light_is_exact_at_every_instant_and_phase(interval):
    time, phase = torch.arange(60).view(-1, 1, 1), torch.arange(interval)
    spikes = ((time - phase) % interval == 0).byte()[None]
    for center in range(60):
        torch.testing.assert_close(tfi(spikes, center), torch.full((1, 1, 1, interval), 1 / interval))


def test_pictures_of_a_batch_are_apart_and_any_type_of_spike_is_taken():
    spikes = torch.from_numpy(np.random.default_rng(0).random((2, 30, 4, 5)) < 0.3)
    both = tfi(spikes, 15)
    torch.testing.assert_close(both[1:], tfi(spikes[1:].float(), 15), rtol=0, atol=0)


@pytest.mark.parametrize("center", [-1, 10])
def test_an_instant_outside_the_stream_is_refused(center):
    with pytest.raises(ValueError, match=r"time -?\d+ is outside the stream, which has frames 0\.\.9"):
        tfi(torch.zeros(1, 10, 2, 2), center)
