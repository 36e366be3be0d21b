"""Interpolation of optical flow over time, a cubic Hermite spline through knots; RAFT in place of DIS."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import optical_flow

from codes.errors import InputError
from codes.motion import warping
from codes.motion.flow import KNOT_STEP, cubic_weights, knot_times, pixel_grid


def test_lines_are_kept_everywhere_and_parabolas_between_inner_knots():
    """Uneven knots or not; at a knot its own value counts alone."""
    knots = [3, 8, 16, 24, 26]
    times = np.arange(3, 27)
    weights = cubic_weights(knots, times)
    np.testing.assert_array_equal(weights[[time - 3 for time in knots]], np.eye(5))
    np.testing.assert_allclose(weights @ np.array(knots), times, atol=1e-12)
    inner = slice(5, 22)
    np.testing.assert_allclose((weights @ np.square(knots))[inner], np.square(times[inner]), atol=1e-10)


def test_weights_of_even_knots_are_those_of_cubic_convolution():
    """Keys, "Cubic convolution interpolation for digital image processing", 1981."""
    np.testing.assert_allclose(cubic_weights([0, 8, 16, 24], [12]), [[-1 / 16, 9 / 16, 9 / 16, -1 / 16]], atol=1e-12)
    x = np.array((2, 5, 7)) / 8
    keys = [-x / 2 + x**2 - x**3 / 2, 1 - 5 * x**2 / 2 + 3 * x**3 / 2]
    keys += [(x + 4 * x**2 - 3 * x**3) / 2, (x**3 - x**2) / 2]
    np.testing.assert_allclose(cubic_weights([0, 8, 16, 24], [10, 13, 15]), np.stack(keys, 1), atol=1e-12)


@pytest.mark.parametrize(("knots", "time"), [([7], 7), ([0, 8], 2), ([0, 8, 16], 11)])
def test_any_number_of_knots(knots, time):
    np.testing.assert_allclose(cubic_weights(knots, [time]) @ (2.0 * np.array(knots) + 1), [2 * time + 1])


def test_flow_is_computed_at_both_ends_and_in_steps_from_the_origin():
    assert knot_times(3, 30, 68) == [3, 4, 12, 20, 28, 30]
    assert knot_times(16, 24, 0) == [16, 24] and KNOT_STEP == 8
    assert knot_times(5, 5, 5) == [5]


def test_a_pixel_grid_holds_x_before_y():
    np.testing.assert_array_equal(pixel_grid(2, 3), [[[0, 0], [1, 0], [2, 0]], [[0, 1], [1, 1], [2, 1]]])


class Shift(nn.Module):
    """Stand in for RAFT: everything moves by (8, -4) pixels of what it is shown."""

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> list[torch.Tensor]:
        assert before.shape == after.shape and before.shape[1:] == (3, 128, 152)
        assert before.min() >= -1 and after.max() <= 1
        return [torch.tensor((8.0, -4.0)).view(1, 2, 1, 1).expand(len(before), 2, 128, 152)]


@pytest.mark.parametrize("at_once", [1, 10**9])
def test_raft_is_shown_frames_of_the_size_of_the_picture(at_once, monkeypatch):
    monkeypatch.setattr(warping, "CORRELATIONS", at_once)
    before, after = torch.rand(2, 3, 20, 37)
    found = warping.raft_flows(Shift(), before, after, refinements=2)
    torch.testing.assert_close(found, torch.tensor((2.0, -1.0)).view(1, 2, 1, 1).expand(3, 2, 20, 37))


def test_raft_needs_weights_and_no_others(tmp_path):
    cpu = torch.device("cpu")
    with pytest.raises(InputError, match="--flow raft: --raft_path is missing"):
        warping.flow_by_name("raft", device=cpu)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth: fits neither raft_large nor raft_small"):
        warping.flow_by_name("raft", raft_path=tmp_path / "other.pth", device=cpu)


def test_raft_of_torchvision_is_applied(tmp_path):
    torch.manual_seed(0)
    torch.save(optical_flow.raft_small(weights=None).state_dict(), tmp_path / "raft.pth")
    flow = warping.flow_by_name("raft", raft_path=tmp_path / "raft.pth", device=torch.device("cpu"))
    found = flow(torch.rand(1, 24, 32), torch.rand(1, 24, 32), refinements=2)
    assert found.shape == (1, 2, 24, 32) and found.isfinite().all()
