"""Multi-frame super-resolution gains resolution where the scene moves, and loses none where it stands still."""

import cv2
import numpy as np
import pytest
import torch

from codes.data.spikes import Exposure
from codes.motion import flow, super_resolution
from codes.motion.normal_equations import NormalEquations
from codes.motion.smoothing import gaussian_blur, separable_blur
from codes.motion.super_resolution import STEP, super_resolve, super_resolved_intensity
from codes.motion.warping import dis_flows, warp
from codes.motion.window_means import WindowMeans, window_means
from codes.simulation.demo_scenes import photograph


def seen(film: np.ndarray) -> np.ndarray:
    """Return the intensity [T,h,w] that the spike camera has of [T,H,W], without noise."""
    return np.stack([cv2.resize(frame, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_LINEAR) for frame in film])


def reconstructed(stream: np.ndarray, center: int, step: int = STEP) -> np.ndarray:
    """Reconstruct one frame [4h,4w] of one stream [T,h,w]."""
    return super_resolve(torch.from_numpy(stream)[None], [center], step=step)[0, 0].numpy()


def psnr(image: np.ndarray, truth: np.ndarray, border: int = 16) -> float:
    inner = (slice(border, -border),) * 2
    return float(-10 * np.log10(np.mean((image[inner].clip(0, 1) - truth[inner]) ** 2)))


def film(speed: float) -> np.ndarray:
    """Pan over a photograph at `speed` picture pixels a spike frame: [137,128,192]."""
    picture = cv2.cvtColor(photograph("coffee.png", None), cv2.COLOR_BGR2GRAY).astype(np.float32) / 255
    steps = [np.float32([[1, 0, -150 - speed * t], [0, 1, -100 - 0.4 * speed * t]]) for t in range(-68, 69)]
    return np.stack([cv2.warpAffine(picture, step, (192, 128), flags=cv2.INTER_CUBIC) for step in steps])


def test_motion_gives_resolution():
    frames = film(0.37)
    stream = seen(frames)
    bicubic = cv2.resize(stream[68], None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    assert psnr(reconstructed(stream, 68), frames[68]) - psnr(bicubic, frames[68]) > 1.5  # dB


def test_a_still_scene_keeps_its_resolution():
    frames = film(0.0)
    stream = seen(frames)
    bicubic = cv2.resize(stream[68], None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    assert psnr(reconstructed(stream, 68), frames[68]) > psnr(bicubic, frames[68]) - 0.1


def test_the_enlargement_weighs_as_much_as_a_sample_at_the_pixel():
    """Back-projected, samples anywhere within half a pixel of it have that density there."""
    places = 8 + (np.mgrid[:8, :8].reshape(2, 64, 1).astype(np.float32) + 0.5) / 8 - 0.5
    equations, one = NormalEquations(torch.zeros(64, 17, 17)), torch.ones(64, 1)
    equations.add(torch.from_numpy(places[1]), torch.from_numpy(places[0]), one, one)
    density = super_resolution._back_project(equations.normal_matrix(torch.ones(64, 17, 17)))
    assert density[:, 8, 8].mean().item() == pytest.approx(super_resolution.DENSITY, rel=0.06)


def test_any_size_and_the_ends_of_a_stream():
    stream = np.random.default_rng(0).random((20, 6, 9), np.float32)
    for center in (0, 19):
        fine = reconstructed(stream, center)
        assert fine.shape == (24, 36) and fine.dtype == np.float32 and np.isfinite(fine).all()


def test_a_larger_step_uses_fewer_spike_frames():
    """Those in between make no difference then."""
    stream = np.random.default_rng(0).random((137, 12, 16), np.float32)
    spoilt = stream.copy()
    spoilt[101:] = 0  # in no window of a sample within 28 spike frames of the target time
    few, same = reconstructed(stream, 68, step=28), reconstructed(spoilt, 68, step=28)
    assert not np.array_equal(few, reconstructed(stream, 68))
    np.testing.assert_allclose(few, same, atol=1e-5)


def test_normal_equations_are_those_of_the_samples():
    """S^T W S and S^T W value, by a dense matrix S, with samples at every edge and on pixels."""
    random, (height, width) = np.random.default_rng(0), (5, 7)
    x, y = random.random((2, 40), np.float32) * [[width - 1], [height - 1]]
    x[:4], y[:4] = (0, width - 1, 2, width - 1), (0, height - 1, 3, 1.5)
    value, weight = random.random((2, 40), np.float32)
    grid_y, grid_x = np.indices((height, width)).reshape(2, -1)
    samples = np.clip(1 - abs(x[:, None] - grid_x), 0, 1) * np.clip(1 - abs(y[:, None] - grid_y), 0, 1)
    picture = random.random((height, width), np.float32)
    equations = NormalEquations(torch.from_numpy(picture)[None])
    outside = np.float32(((-0.1, width - 0.9, 2, 3), (1, 1, -0.1, height - 0.9), (1, 1, 1, 1), (1, 1, 1, 1)))
    for part in (outside, *np.split(np.float32((x, y, value, weight)), 4, 1)):
        equations.add(*torch.from_numpy(part).unsqueeze(1))
    expected = samples.T @ (weight * (samples @ picture.ravel()))
    found = equations.normal_matrix(torch.from_numpy(picture)[None])
    np.testing.assert_allclose(found.flatten(), expected, atol=1e-5)
    np.testing.assert_allclose(equations.observed.flatten(), samples.T @ (weight * value), atol=1e-5)


def test_flow_between_knots_follows_acceleration(monkeypatch):
    """From the flow of every 24th spike frame, accelerated motion is as sharp as from the flow of each.

    With flow interpolated linearly it is not.
    """
    picture = cv2.cvtColor(photograph("coffee.png", None), cv2.COLOR_BGR2GRAY).astype(np.float32) / 255
    steps = [np.float32([[1, 0, -150 - 0.3 * t - 0.004 * t * t], [0, 1, -100 + 0.1 * t]]) for t in range(-68, 69)]
    frames = np.stack([cv2.warpAffine(picture, step, (192, 128), flags=cv2.INTER_CUBIC) for step in steps])
    stream = seen(frames)

    def sharpness(step: int) -> float:
        monkeypatch.setattr(flow, "KNOT_STEP", step)
        return psnr(reconstructed(stream, 68), frames[68])

    assert sharpness(24) > sharpness(STEP) - 0.1  # dB

    def linear(knots: list[int], times: list[int]) -> np.ndarray:
        return np.stack([np.interp(times, knots, row) for row in np.eye(len(knots))], 1)

    cubic_sharpness = sharpness(24)
    monkeypatch.setattr(super_resolution, "cubic_weights", linear)
    assert sharpness(24) < cubic_sharpness - 0.5


@pytest.mark.parametrize("times", [[68], [20, 30, 68, 130], list(range(20, 117, 8))])
def test_a_batch_at_any_times_is_each_stream_at_each_time(times):
    streams = [seen(film(0.2)), seen(film(0.4))[:, ::-1].copy()]
    intensity = torch.from_numpy(np.stack(streams)) / torch.tensor((1.0, 3.0)).view(2, 1, 1, 1)
    at_times, mean = super_resolved_intensity(intensity, times, exposure=Exposure())
    fine = torch.stack(list(at_times), 1)
    for index, stream in enumerate(intensity.numpy()):
        scale = torch.from_numpy(stream[20:117]).mean(0).quantile(0.999).numpy()  # flow is sensitive to rounding
        expected = np.stack([reconstructed(stream / scale, time) for time in times])
        np.testing.assert_allclose(fine[index, :, 0], expected, atol=2e-3)
        averaged = np.mean([reconstructed(stream / scale, time) for time in range(20, 117, 8)], 0)
        np.testing.assert_allclose(mean[index, 0], averaged, atol=2e-3)


def test_many_times_are_reconstructed_in_blocks(monkeypatch):
    """In any order, repeated ones too; those of the mean over the exposure are not reconstructed again."""
    asked = []

    def numbered(intensity, times, **_):
        asked.append(list(times))
        return torch.tensor(times, dtype=torch.float32).view(1, -1, 1, 1)

    monkeypatch.setattr(super_resolution, "super_resolve", numbered)
    times = [*range(30, 110), 24, 20, 60]
    fine, mean = super_resolved_intensity(torch.rand(1, 137, 2, 2), times, exposure=Exposure())
    assert len(asked) == 1 and mean.item() == 68
    assert [round(one.item()) for one in fine] == times
    assert max(map(len, asked)) <= super_resolution.BLOCK
    assert sum(map(len, asked)) <= len({*times, *range(20, 117, 8)}) + 1  # the one that is repeated


@pytest.mark.parametrize("times", [[68], [3, 20, 60, 68, 130, 136]])
def test_frames_together_are_what_they_are_alone(times, monkeypatch):
    """A GPU reconstructs frames together, at the ends of the stream too; a CPU one after the other."""
    stream = torch.from_numpy(np.stack([seen(film(speed)) for speed in (0.2, 0.4)]))
    alone = super_resolve(stream, times)
    samples, matched = window_means(stream, super_resolution.SAMPLE), window_means(stream, super_resolution.MATCHED)
    targets = [(stream, time) for stream in (0, 1) for time in times]
    for in_cache in (1, 2**12, 2**30):
        monkeypatch.setattr(super_resolution, "IN_CACHE", in_cache)
        together = super_resolution._reconstruct(samples, matched, targets, step=STEP, flow=dis_flows)
        torch.testing.assert_close(together.view_as(alone), alone, atol=1e-5, rtol=0)


def test_pictures_are_looked_up_as_by_opencv():
    random = np.random.default_rng(0)
    pictures = random.random((2, 9, 14), np.float32)
    x, y = random.uniform(-3, 17, (2, 2, 5, 6)).astype(np.float32)
    found = warp(*map(torch.from_numpy, (pictures, x, y)))
    for index, picture in enumerate(pictures):
        expected = cv2.remap(picture, x[index], y[index], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        np.testing.assert_allclose(found[index], expected, atol=1 / 32)  # OpenCV 4 rounds positions to 1/32 pixel


@pytest.mark.parametrize("sigma", [1.0, 1.13, 3.0])
@pytest.mark.parametrize("is_zero_outside", [False, True])
@pytest.mark.parametrize("size", [(40, 33), (3, 5), (2, 1), (1, 1)])
def test_gpu_and_cpu_smooth_alike(sigma, is_zero_outside, size):
    pictures = torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
    expected = gaussian_blur(pictures, sigma, is_zero_outside=is_zero_outside)
    found = separable_blur(pictures, sigma, is_zero_outside=is_zero_outside)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_window_means_are_means_of_what_lies_in_the_stream():
    stream = torch.rand(2, 12, 3, 4, generator=torch.Generator().manual_seed(0))
    for length in (5, 9):
        expected = [stream[:, max(time - length // 2, 0) : time + length // 2 + 1].mean(1) for time in range(12)]
        torch.testing.assert_close(window_means(stream, length), torch.stack(expected, 1))
        means = WindowMeans(stream[0].numpy())
        found = np.stack([means(time, length) for time in range(len(means))])
        np.testing.assert_allclose(found, torch.stack(expected, 1)[0], rtol=1e-6)
