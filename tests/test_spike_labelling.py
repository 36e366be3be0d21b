"""Spike labelling separates signal from noise spikes, and the charge of an interval is redistributed."""

import math
from collections.abc import Callable
from itertools import combinations, pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_super_resolution import film, seen

from codes.motion import prediction, spike_labelling
from codes.motion.compensation import RESTORED_ERROR, motion_compensated_intensity
from codes.motion.prediction import DARKEST, predict_along_motion
from codes.motion.spike_labelling import (
    CHARGE_ERROR,
    NOISE_RATE,
    SKIPPED,
    WORST,
    label_spikes,
    redistribute_charge,
)
from codes.motion.super_resolution import super_resolve
from codes.physics.intensity import firing_rate, isi_intensity, remove_noise_spikes
from codes.simulation.camera import CHARGE_AT_THRESHOLD_1, CHARGE_PER_FRAME, add_noise, integrate


def compensated(spikes: torch.Tensor) -> torch.Tensor:
    """Compute the motion-compensated intensity [T,h,w] of one stream."""
    return motion_compensated_intensity(spikes[None], isi_intensity(spikes[None]))[0]


def refined(spikes: torch.Tensor, intensity: torch.Tensor, frames: torch.Tensor, times: list[int]) -> torch.Tensor:
    """Compute the intensity [T,h,w] of one stream that restored frames predict."""
    return motion_compensated_intensity(spikes[None], intensity[None], frames[None], times)[0]


def column(values) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1)


def cost(places: list[int], noise: int, predicted: list[float]) -> float:
    """Return the cost of labels of a pixel by its definition: signal spikes at `places`, the others noise."""

    def charge_cost(between: float, time: int, is_open: bool) -> float:
        off = math.log(max(between, 1e-3))
        off = max((off if is_open else abs(off)) - math.log1p(predicted[time] / 2), 0)
        return min(0.5 * (off / CHARGE_ERROR) ** 2, WORST)

    total, last = -noise * math.log(NOISE_RATE), -1
    for time in places:
        total += charge_cost(sum(predicted[last + 1 : time + 1]), time, last < 0)
        total += 0 if last < 0 else max(math.log(math.sqrt(2 * math.pi) * CHARGE_ERROR * (time - last)), 0)
        last = time
    return total + charge_cost(sum(predicted[last + 1 :]), len(predicted) - 1, True)


def in_a_row(places: tuple[int, ...], fired: list[int]) -> int:
    """Count the most spikes in a row that are not among `places`."""
    runs = "".join("." if place in places else "x" for place in fired).split(".")
    return max(map(len, runs))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_labels_are_the_most_likely_of_all(data):
    total = data.draw(st.integers(1, 9))
    train = data.draw(st.lists(st.integers(0, 1), min_size=total, max_size=total))
    predicted = data.draw(st.lists(st.sampled_from([0.02, 0.13, 0.31, 0.7]), min_size=total, max_size=total))
    fired = [time for time, spike in enumerate(train) if spike]
    ways = [way for number in range(len(fired) + 1) for way in combinations(fired, number)]
    best = min(cost(way, len(fired) - len(way), predicted) for way in ways if in_a_row(way, fired) <= SKIPPED)
    found = label_spikes(column(train), column(predicted)).flatten().nonzero().flatten().tolist()
    assert set(found) <= set(fired)
    assert cost(found, len(fired) - len(found), predicted) == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("interval", [6, 11, 20])
def test_noise_spikes_are_removed_where_the_intensity_is_known_and_no_others(interval):
    train = (torch.arange(137) % interval == 1).byte().view(-1, 1, 1)
    predicted = torch.full((137, 1, 1), 1 / interval)
    assert torch.equal(label_spikes(train, predicted), train)
    for place in range(1 + 4 * interval + 2, 1 + 5 * interval - 1):
        noisy = train.clone()
        noisy[place] = 1
        assert torch.equal(label_spikes(noisy, predicted), train)


def test_the_charge_of_an_interval_is_distributed_as_predicted():
    intensity = column(np.linspace(0.02, 0.12, 137, dtype=np.float32))
    spikes = (intensity.cumsum(0).floor() > torch.cat((intensity[:1] * 0, intensity.cumsum(0)[:-1])).floor()).byte()
    spike_frames = spikes.flatten().nonzero().flatten().tolist()
    found = redistribute_charge(spikes, 1.7 * intensity)  # whatever its scale
    for first, last in pairwise(spike_frames):
        assert found[first + 1 : last + 1].sum() == pytest.approx(1, abs=1e-5)
    inside = slice(spike_frames[0] + 1, spike_frames[-1] + 1)
    assert (found / intensity - 1)[inside].abs().mean() < 0.7 * (firing_rate(spikes[None])[0] / intensity - 1)[
        inside
    ].abs().mean()


def test_constant_light_is_predicted_exactly():
    torch.testing.assert_close(predict_along_motion(torch.full((40, 8, 12), 0.3)), torch.full((40, 8, 12), 0.3))


@pytest.mark.parametrize(("threshold", "spike_frames", "gain"), [(1, 9, 0.1), (4, 3, 0.66)])
def test_motion_compensated_intensity_is_more_accurate(threshold, spike_frames, gain):
    """At V_th 4 one pass, or constant intensity within an interval, would gain less."""
    rng = np.random.default_rng(0)
    intensity = seen(film(0.37))
    spikes = integrate(intensity, threshold=threshold, first=rng.random(intensity.shape[1:], np.float32))
    spikes = torch.from_numpy(add_noise(spikes, rng))
    truth = torch.from_numpy(intensity) * (CHARGE_PER_FRAME / CHARGE_AT_THRESHOLD_1 / threshold)

    def psnr(found: torch.Tensor) -> float:
        """Compare averages of a few spike frames."""
        off = torch.nn.functional.avg_pool1d((found - truth).flatten(1).T, spike_frames)
        return -10 * (off * threshold).square().mean().log10().item()

    alone = firing_rate(remove_noise_spikes(spikes[None]))[0]
    assert psnr(compensated(spikes)) > psnr(alone) + gain


@pytest.mark.parametrize("threshold", [1, 4])
def test_a_known_gain_of_the_pixels_is_undone(threshold):
    """Half of the error that the gain adds goes, and one that is 1 everywhere changes nothing."""
    rng = np.random.default_rng(0)
    intensity = seen(film(0.37))
    gain = (1 + 0.08 * rng.standard_normal(intensity.shape[1:])).astype(np.float32)
    truth = torch.from_numpy(intensity) * (CHARGE_PER_FRAME / CHARGE_AT_THRESHOLD_1 / threshold)
    phases = rng.random(intensity.shape[1:], np.float32)

    def error(of_sensor: np.ndarray, known: np.ndarray) -> float:
        seen_so = (intensity * of_sensor).clip(0, 1)
        spikes = torch.from_numpy(integrate(seen_so, threshold=threshold, first=phases))[None]
        known = torch.from_numpy(known)
        found = motion_compensated_intensity(spikes, isi_intensity(spikes) / known, gain=known)[0]
        return (found - truth).mean(0).square().mean().item()

    even = np.ones_like(gain)
    without, uncorrected, corrected = error(even, even), error(gain, even), error(gain, gain)
    assert corrected - without < (uncorrected - without) / 2


def few_spikes() -> tuple[torch.Tensor, torch.Tensor, Callable[[torch.Tensor], float]]:
    """Return noisy spikes at V_th 4, their intensity, and PSNR of an estimate of it in spike frames 12 to 124."""
    rng = np.random.default_rng(0)
    intensity = seen(film(0.37))
    spikes = integrate(intensity, threshold=4, first=rng.random(intensity.shape[1:], np.float32))
    noise = add_noise(np.zeros_like(spikes), rng)
    truth = torch.from_numpy(intensity) * (CHARGE_PER_FRAME / CHARGE_AT_THRESHOLD_1 / 4)

    def psnr(found: torch.Tensor) -> float:
        return -10 * ((found - truth)[12:125] * 4).square().mean().log10().item()

    return torch.from_numpy(spikes | noise), truth, psnr


@pytest.mark.parametrize(
    ("black", "gamma", "corner", "gain"), [(0, 1, 1, 0.7), (0, 1, 0.5, 0.7), (0.04, 1, 1, 0.4), (0, 0.7, 1, 0.4)]
)
def test_restored_frames_predict_intensity_better_than_intensity_itself(black, gamma, corner, gain):
    """In any scale, with dark corners, and still where its values are no longer proportional to intensity."""
    spikes, truth, psnr = few_spikes()
    restored_times, dark = list(range(12, 125, 8)), torch.linspace(1, corner, truth.shape[2])
    first = compensated(spikes)
    second = refined(spikes, first, 0.6 * dark * (black + truth[restored_times]) ** gamma, restored_times)
    assert psnr(second) > psnr(first) + gain


def test_the_labels_of_a_noisy_film_predict_once_more():
    spikes, truth, psnr = few_spikes()
    noisy = truth * (1 + 0.3 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))).clamp(min=0.1)
    alone = redistribute_charge(label_spikes(spikes, noisy, charge_error=RESTORED_ERROR), noisy)
    every = list(range(len(truth)))
    assert psnr(refined(spikes, compensated(spikes), noisy, every)) > psnr(alone) + 1


def test_linear_intensity_is_predicted_between_the_computed_times():
    intensity = column(torch.linspace(0.2, 0.4, 121).tolist()).expand(-1, 8, 12).clone()
    within = slice(40, -40)  # where as many spike frames after as before are looked at
    torch.testing.assert_close(predict_along_motion(intensity)[within], intensity[within], atol=2e-4, rtol=0)


def test_an_edge_inside_an_interval_takes_its_charge():
    spikes, predicted = torch.zeros(20, 1, 1, dtype=torch.uint8), torch.full((20, 1, 1), 0.01)
    spikes[[2, 17]], predicted[10:] = 1, 0.5
    found = redistribute_charge(spikes, predicted)
    assert found[3:18].sum() == pytest.approx(1) and found[12] == pytest.approx(50 * found[5])


@pytest.mark.parametrize("shape", [(1, 3, 5), (2, 1, 1), (30, 5, 3)])
@pytest.mark.parametrize("spike", [0, 1])
def test_any_size_all_black_and_all_white(shape, spike):
    found = compensated(torch.full(shape, spike, dtype=torch.uint8))
    torch.testing.assert_close(found, torch.full(shape, float(spike or 1 / (2 * shape[0]))))


def test_results_do_not_depend_on_the_number_of_threads():
    """To the bit, on any processor: torch does not split arrays this small, and OpenCV splits pictures between rows."""
    spikes = torch.from_numpy((np.random.default_rng(0).random((40, 12, 16)) < 0.2).astype(np.uint8))
    threads = torch.get_num_threads(), cv2.getNumThreads()
    found = []
    try:
        for number in (1, 4):
            torch.set_num_threads(number), cv2.setNumThreads(number)
            with torch.inference_mode():
                intensity = compensated(spikes)
            found.append((intensity, super_resolve(intensity[None], [20])))
    finally:
        torch.set_num_threads(threads[0]), cv2.setNumThreads(threads[1])
    assert all(torch.equal(*both) for both in zip(*found, strict=True))


def test_charge_is_distributed_in_blocks_of_rows_as_in_one(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    spikes = (torch.rand(40, 7, 5, generator=rng) < 0.2).to(torch.uint8)
    predicted = torch.rand(40, 7, 5, generator=rng)
    whole = redistribute_charge(spikes, predicted)
    for of_a_cache in (1, 40 * 5 * 3):
        monkeypatch.setattr("codes.motion.spike_labelling.IN_CACHE", of_a_cache)
        assert torch.equal(redistribute_charge(spikes, predicted), whole)


def test_the_prediction_of_darkness_has_a_lower_bound():
    """No intensity at all would say that no spike is possible."""
    assert torch.equal(predict_along_motion(torch.zeros(40, 4, 5)), torch.full((40, 4, 5), DARKEST))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_gpu_labels_as_a_cpu_does(rate, monkeypatch):
    """It takes all pixels in every spike frame, a CPU those that fire."""
    random = torch.Generator().manual_seed(0)
    spikes = (torch.rand(60, 5, 7, generator=random) < rate).to(torch.uint8)
    predicted = torch.rand(60, 5, 7, generator=random) * 2 * rate + 0.01
    expected = label_spikes(spikes, predicted)
    assert 0 < expected.sum() < spikes.sum()
    monkeypatch.setattr(spike_labelling, "_updated_pixels", lambda fired: torch.arange(35).expand(len(fired), -1))
    assert torch.equal(label_spikes(spikes, predicted), expected)


def test_times_predicted_together_are_what_they_are_alone(monkeypatch):
    """A GPU averages at all times at once."""
    intensity = torch.from_numpy(seen(film(0.37)))
    expected = predict_along_motion(intensity)
    for in_cache in (1, 2**30):
        monkeypatch.setattr(prediction, "IN_CACHE", in_cache)
        torch.testing.assert_close(predict_along_motion(intensity), expected, atol=1e-5, rtol=0)
