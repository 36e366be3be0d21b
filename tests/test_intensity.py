"""ISI intensity is that of a slow loop over each pixel's spikes; noise spikes are removed, signal spikes stay."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codes.data.spikes import Exposure
from codes.distillation.student_input import closed_form_input
from codes.distillation.teachers import ClosedFormTeacher
from codes.physics import intensity
from codes.physics.intensity import estimate_intensity, firing_rate, remove_noise_spikes
from codes.physics.sdm import apply_ratios, gray, intensity_ratios, tfp, upsample_bicubic
from codes.simulation.camera import add_noise, integrate


def slow(train: list[int]) -> list[float]:
    """Find the intensity of one pixel in every spike frame, by its list of spikes."""
    places, total = [t for t, fired in enumerate(train) if fired], len(train)
    if not places:
        return [1 / (2 * total)] * total
    inner = [b - a for a, b in pairwise(places)] or [0]
    head, tail = max(places[0] + 1, inner[0]), max(total - places[-1], inner[-1])
    intervals = [head] * (places[0] + 1)
    for interval in inner:
        intervals += [interval] * interval
    return [1 / interval for interval in intervals + [tail] * (total - 1 - places[-1])]


def streams(trains: list[list[int]]) -> torch.Tensor:
    return torch.tensor(trains, dtype=torch.uint8).T[None, :, None]


@settings(deadline=None)  # the first call of torch is slow
@given(st.integers(2, 20).flatmap(lambda n: st.lists(st.lists(st.integers(0, 1), min_size=n, max_size=n), min_size=1)))
def test_the_rate_is_the_slow_one(trains):
    found = firing_rate(streams(trains))
    np.testing.assert_allclose(found[0, :, 0].T, [slow(train) for train in trains], rtol=1e-6)


@pytest.mark.parametrize("interval", [1, 2, 5, 20])
def test_constant_light_is_exact_at_every_tick_and_phase(interval):
    spikes = ((torch.arange(60).view(-1, 1, 1) - torch.arange(interval)) % interval == 0).byte()[None]
    torch.testing.assert_close(firing_rate(spikes), torch.full((1, 60, 1, interval), 1 / interval))


@pytest.mark.parametrize("interval", [4, 7, 15])
def test_a_spike_inside_a_regular_train_is_found_false_and_no_other(interval):
    train = (torch.arange(137) % interval == 1).byte()
    assert torch.equal(remove_noise_spikes(train.view(1, -1, 1, 1)).flatten(), train)
    begin = 1 + 4 * interval
    for place in range(begin + 1, begin + interval):
        noisy = train.clone()
        noisy[place] = 1
        assert torch.equal(remove_noise_spikes(noisy.view(1, -1, 1, 1)).flatten(), train)


def test_light_that_doubles_keeps_its_spikes():
    intensities = np.concatenate((np.full(70, 0.1), np.full(67, 0.2))).astype(np.float32).reshape(-1, 1, 1)
    spikes = torch.from_numpy(integrate(intensities, first=np.full((1, 1), 0.3, np.float32)))[None]
    assert torch.equal(remove_noise_spikes(spikes), spikes)


@pytest.mark.parametrize("threshold, gain", [(1.0, 2.0), (4.0, 6.0)])
def test_rates_know_the_light_better_than_counts_do(threshold, gain):
    rng = np.random.default_rng(0)
    intensities = np.broadcast_to(rng.uniform(0.05, 0.95, (40, 40)), (137, 40, 40)).astype(np.float32)
    spikes = add_noise(integrate(intensities, threshold=threshold, first=rng.random((40, 40), np.float32)), rng)
    error = {}
    for name in ("counts", "isi"):
        seen = estimate_intensity(torch.from_numpy(spikes)[None], name)[0, 64:73].float().mean(0) * threshold
        error[name] = 10 * np.log10(np.mean((seen.numpy() - intensities[0]) ** 2))
    assert error["counts"] - error["isi"] > gain  # dB


@pytest.mark.parametrize("threshold, found, lost", [(1.0, 0.15, 0.002), (4.0, 0.5, 0.02)])
def test_false_spikes_are_found_and_true_ones_kept_where_light_moves(threshold, found, lost):
    rng = np.random.default_rng(0)
    time, row, column = np.ogrid[:137, :40, :64]
    wave = 0.5 + rng.uniform(0.1, 0.5, (1, 40, 1)) * np.sin(2 * np.pi * (column + 0.5 * time) / 32) + 0 * row
    fired = integrate(wave.clip(0.02).astype(np.float32), threshold=threshold, first=rng.random((40, 64), np.float32))
    noisy = add_noise(fired, rng)
    kept = remove_noise_spikes(torch.from_numpy(noisy)[None])[0].numpy() > 0
    assert kept[(noisy > 0) & (fired == 0)].mean() < 1 - found
    assert kept[fired > 0].mean() > 1 - lost


def test_the_running_maximum_of_a_cpu_is_that_of_a_gpu():
    values = torch.randint(-1, 137, (2, 45, 3, 4), dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(intensity._running_maximum(values), values.cummax(1).values)


def test_many_rows_at_once_and_some_at_a_time_are_the_same(monkeypatch):
    spikes = (torch.rand(2, 137, 7, 5) < 0.3).to(torch.uint8)
    whole = firing_rate(remove_noise_spikes(spikes))
    for of_a_cache in (1, 2 * 137 * 5 * 3, 10**9):
        monkeypatch.setattr(intensity, "IN_CACHE", of_a_cache)
        assert torch.equal(estimate_intensity(spikes, "isi"), whole)


def test_the_fused_pictures_of_an_exposure_are_divided_by_their_own_mean():
    """So what their common errors are cancels; the mean of a long window would leave them in."""
    rng, times = np.random.default_rng(0), Exposure().evenly(8)
    time, row, column = np.ogrid[:137, :16, :24]
    wave = (0.5 + 0.3 * np.sin(2 * np.pi * (column + 0.4 * time + row) / 12)).astype(np.float32)
    spikes = torch.from_numpy(integrate(wave, first=rng.random((16, 24), np.float32)))[None]
    ratios = ClosedFormTeacher().ratios(spikes, times)
    assert (ratios[:, :-1] - 1).abs().max() > 0.2
    torch.testing.assert_close(ratios[:, :-1].mean(1), torch.ones(1, 1, 64, 96), atol=1e-4, rtol=0)


def test_the_mean_of_what_is_restored_is_the_blurry_picture():
    torch.manual_seed(0)
    intensities, blur = torch.rand(2, 137, 8, 8) * 0.4 + 0.3, torch.rand(2, 3, 32, 32) * 0.2 + 0.4
    exposure = Exposure()
    each = torch.stack([upsample_bicubic(intensities[:, time : time + 1]) for time in range(20, 117)], 1)
    ratios = intensity_ratios(each, upsample_bicubic(tfp(intensities, exposure.center, exposure.length)))
    torch.testing.assert_close(ratios[:, :-1].mean(1), torch.ones(2, 1, 32, 32), atol=1e-5, rtol=0)
    restored = torch.stack([apply_ratios(blur, ratios[:, [i, -1]])[:, 0] for i in range(97)], 1)
    inside = ((restored > 0) & (restored < 1)).all(1)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(restored.mean(1)[inside], blur[inside], atol=1e-4, rtol=0)


def test_threshold_and_gain_cancel_in_what_ldn_is_given():
    torch.manual_seed(0)
    intensities, blur = torch.rand(1, 137, 8, 8) + 0.1, torch.rand(1, 3, 32, 32)
    sizes = {"length": 21, "short": 9, "exposure": Exposure()}
    (_, windows, start), (_, others, other) = (
        closed_form_input(blur, r, [44, 68], **sizes) for r in (intensities, intensities / 4)
    )
    torch.testing.assert_close(windows, others)
    torch.testing.assert_close(start, other, atol=1e-5, rtol=1e-5)
    assert windows.shape == (2, 21, 8, 8) and start.shape == (2, 3, 32, 32)
    assert windows.mean() == pytest.approx(float(gray(blur).mean()), rel=0.05)
