"""The closed-form model equals the reference's and keeps its algebra."""

import numpy as np
import pytest
import torch

from codes.physics.sdm import gray, sdm, sharpen, tfp, window


def nearest(image: torch.Tensor) -> torch.Tensor:
    return image.repeat_interleave(4, -1).repeat_interleave(4, -2)


def test_tfp_is_exact(golden):
    spikes = torch.from_numpy(golden["tfp_spikes"])
    np.testing.assert_array_equal(tfp(spikes, 68, 97).numpy(), golden["tfp_long_68_97"])
    np.testing.assert_array_equal(tfp(spikes, 44, 9).numpy(), golden["tfp_short_44_9"])


def test_sdm_is_the_reference(golden):
    blur = torch.from_numpy(golden["sdm_blur"])
    long, short = (nearest(torch.from_numpy(golden[name])) for name in ("tfp_long_68_97", "tfp_short_44_9"))
    np.testing.assert_allclose(sdm(blur, long, short).numpy(), golden["sdm_out"], atol=1e-6)


def test_sdm_is_zero_and_smooth_where_nothing_fired():
    long = torch.zeros(1, 1, 2, 2, requires_grad=True)
    sharp = sdm(torch.ones(1, 3, 2, 2), long, torch.ones(1, 1, 2, 2))
    sharp.sum().backward()
    assert sharp.abs().max() == 0 and torch.isfinite(long.grad).all()


def test_threshold_and_gain_cancel():
    blur, long, short = torch.rand(1, 3, 8, 8), torch.rand(1, 1, 8, 8) + 0.1, torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(sdm(blur, long / 4, short / 4), sdm(blur, long, short))


@pytest.mark.parametrize("center, length", [(9, 21), (127, 21), (68, 138), (68, 0)])
def test_a_window_outside_the_stream_is_refused(center, length):
    with pytest.raises(ValueError, match=r"0\.\.136"):
        window(torch.zeros(1, 137, 2, 2), center, length)


def test_half_of_the_ratio_and_half_of_the_difference_are_taken():
    torch.manual_seed(0)
    blur, ratio, mean = torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8) * 2, torch.rand(2, 1, 8, 8) + 0.1
    gain = torch.stack([gray(one).mean() / scale.mean() for one, scale in zip(blur, mean, strict=True)])
    time = gain.view(2, 1, 1, 1) * mean * ratio
    half = (blur * ratio + (blur + time - gain.view(2, 1, 1, 1) * mean)) / 2
    torch.testing.assert_close(sharpen(blur, ratio, mean), half)
    torch.testing.assert_close(sharpen(blur, ratio, 7 * mean), half)


def test_gray_weighs_blue_green_red():
    assert gray(torch.eye(3).view(3, 3, 1, 1)).flatten().tolist() == pytest.approx([0.11, 0.59, 0.30])
