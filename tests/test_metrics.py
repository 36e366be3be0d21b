"""Metrics equal scikit-image, and the published logs where these compute their own."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from codes.engine import Pair, evaluate
from codes.evaluation import metrics


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def check(image: np.ndarray, truth: np.ndarray) -> None:
    """Compare with scikit-image in double precision: pictures [H,W,C] float32 in [0,1]."""
    found = metrics.measure(tensor(image), tensor(truth))
    one, other = image.astype(np.float64), truth.astype(np.float64)
    expected = structural_similarity(one, other, channel_axis=2, data_range=1)
    assert found["ssim"].item() == pytest.approx(expected, abs=1e-5)
    expected = structural_similarity(2 * one - 1, 2 * other - 1, channel_axis=2, data_range=2)
    assert found["ssim_paper"].item() == pytest.approx(expected, abs=1e-5)
    expected = peak_signal_noise_ratio(other, one, data_range=1)
    assert found["psnr"].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_metrics_are_the_reference_metrics(golden, facts, case):
    image, truth = tensor(golden[f"metric{case}_pred"]), tensor(golden[f"metric{case}_truth"])
    expected = facts["metrics"][case]
    assert metrics.mse(image, truth).item() == pytest.approx(expected["mse01"], abs=1e-5)
    assert 4 * metrics.mse(image, truth).item() == pytest.approx(expected["mse_paper"], abs=1e-5)
    for name in ("psnr", "ssim", "ssim_paper"):
        assert getattr(metrics, name)(image, truth).item() == pytest.approx(expected[name], abs=1e-5)


@pytest.mark.parametrize("size", [(7, 7), (16, 31), (60, 80)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [0.01, 0.5, 0.99])
def test_metrics_equal_scikit_image(size, channels, level):
    """Also where the pictures are nearly flat and dark or bright, where float32 has the fewest digits to spare."""
    rng = np.random.default_rng(0)
    truth = np.clip(level + 0.1 * rng.standard_normal((*size, channels)), 0, 1).astype(np.float32)
    image = np.clip(truth + 0.05 * rng.standard_normal(truth.shape), 0, 1).astype(np.float32)
    check(image, truth)


@pytest.mark.parametrize("photograph", ["astronaut", "coffee", "rocket", "camera", "page", "moon"])
def test_metrics_of_photographs_equal_scikit_image(photograph):
    """Bright, dark and flat ones, blurred as outputs are, in one block of rows and in several, some cut short."""
    picture = np.atleast_3d(getattr(data, photograph)())[:199, :301]
    truth = picture.astype(np.float32) / 255
    for image in (cv2.GaussianBlur(truth, (0, 0), 2), truth**0.5, truth / 16, np.full_like(truth, truth.mean())):
        image = image.reshape(truth.shape)
        check(image, truth)
        check(image / 16, truth / 16)


def test_a_batch_is_measured_picture_by_picture():
    images, truths = torch.rand(3, 3, 20, 24), torch.rand(3, 3, 20, 24)
    for name in ("mse", "psnr", "ssim", "ssim_paper"):
        metric = getattr(metrics, name)
        single = torch.cat([metric(images[i : i + 1], truths[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(metric(images, truths), single)


def test_metrics_do_not_depend_on_autocast():
    """The variances of SSIM are differences of squares."""
    image, truth = torch.rand(2, 1, 3, 24, 24)
    exact = metrics.measure(image, truth)
    with torch.autocast("cpu", torch.bfloat16):
        assert metrics.measure(image, truth) == exact


def test_identical_pictures():
    image = torch.rand(1, 3, 16, 16)
    assert metrics.psnr(image, image).item() == float("inf")
    assert metrics.ssim(image, image).item() == pytest.approx(1, abs=1e-6)


def test_a_picture_smaller_than_the_window_is_named():
    with pytest.raises(ValueError, match=r"at least 7x7, found \[6, 9\]"):
        metrics.ssim(torch.rand(1, 1, 6, 9), torch.rand(1, 1, 6, 9))


def test_outputs_are_clipped_before_they_are_measured_and_drawn(monkeypatch):
    module, written = sys.modules["codes.engine.evaluate"], {}
    monkeypatch.setattr(module, "lpips_fault", lambda: "not asked for")
    pair = Pair(torch.full((1, 3, 16, 16), 1.5), torch.full((1, 3, 16, 16), 0.9))
    batch = SimpleNamespace(to=lambda device: batch, names=["scene/000001"])
    journal = SimpleNamespace(
        about={}, picture=lambda step, sample, row, image: written.update({row: image}), table=lambda *given: None
    )
    rows = evaluate(
        torch.nn.Linear(1, 1), lambda net, batch: {"LDN": pair}, [batch], journal, device=torch.device("cpu")
    )
    assert rows["LDN"]["psnr"] == pytest.approx(20, abs=1e-3) and written["LDN"].max() == 1
