"""Restoring in the view of the picture: sampling by a homography, and nothing changes where both views are the same."""

import numpy as np
import pytest
import torch

from codes.data.spikes import Exposure
from codes.physics.sdm import at_spike_size
from codes.registration.geometry import enlargement, transform
from codes.restoration.description import _motion
from codes.restoration.methods import sdm_frames, tfi_frames, tfp_frames
from codes.restoration.view import View, covered

SAME = View(enlargement((32, 48), (8, 12)), (32, 48), (8, 12))
TURNED = np.array([[0.24, -0.02, 0.9], [0.02, 0.25, -1.2], [1e-4, -2e-4, 1]])


def linear(homography: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Return an image [1,1,.,.] of a size that is linear in the coordinates that a homography gives its pixels."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    x, y = transform(homography, np.stack((columns.ravel(), rows.ravel()), 1)).T
    return torch.from_numpy((0.02 * x + 0.03 * y).reshape(1, 1, *size)).float()


def test_the_same_view_changes_nothing():
    rng = torch.Generator().manual_seed(0)
    fine, intensity, frames = (torch.rand(1, 2, *size, generator=rng) for size in ((32, 48), (8, 12), (32, 48)))
    torch.testing.assert_close(SAME.to_picture(fine), fine, atol=1e-4, rtol=0)
    torch.testing.assert_close(SAME.to_quarter(intensity), intensity, atol=1e-4, rtol=0)
    torch.testing.assert_close(SAME.to_spikes(frames, intensity)[..., 1:-1, 1:-1],
                               at_spike_size(frames, intensity)[..., 1:-1, 1:-1], atol=1e-4, rtol=0)  # fmt: skip


@pytest.mark.parametrize("ratio", [1, 3, 4, 5.5, 8])
def test_linear_images_are_sampled_where_the_homography_says(ratio):
    """Averages over the area of a pixel and bicubic interpolation are exact there, up to the borders."""
    spikes = (40, 56)
    picture = tuple(round(side * ratio / 4) * 4 for side in (36, 52))
    homography = TURNED @ np.diag((4 / ratio, 4 / ratio, 1))
    view = View(homography, picture, spikes)
    quarter, fine = (picture[0] // 4, picture[1] // 4), (4 * spikes[0], 4 * spikes[1])
    shown = view.coverage() == 1
    assert shown.float().mean() > 0.5
    error = view.to_picture(linear(enlargement(fine, spikes), fine)) - linear(homography, picture)
    assert error[0, 0, shown].abs().max() < 2e-3
    torch.testing.assert_close(
        view.to_quarter(linear(np.eye(3), spikes))[..., 3:-3, 3:-3],
        linear(homography @ enlargement(quarter, picture), quarter)[..., 3:-3, 3:-3], atol=5e-3, rtol=0,
    )  # fmt: skip
    back = view.to_spikes(linear(homography, picture), torch.zeros(1, 1, *spikes))
    torch.testing.assert_close(back[..., 6:-8, 6:-8], linear(np.eye(3), spikes)[..., 6:-8, 6:-8], atol=5e-3, rtol=0)


def test_beyond_the_other_view_the_picture_and_the_fill_stay():
    view = View(enlargement((32, 48), (8, 12)) @ np.array([[1, 0, 24], [0, 1, 0], [0, 0, 1.0]]), (32, 48), (8, 12))
    sharp, blur = torch.ones(1, 3, 32, 48), torch.zeros(1, 3, 32, 48)
    kept = covered(view, sharp, blur)
    assert kept[..., 24:].max() == 0 and kept[..., 10:22, 2:14].min() == 1
    seen = view.to_spikes(torch.ones(1, 1, 32, 48), torch.full((1, 1, 8, 12), 0.5))
    assert (seen[..., :5] == 0.5).all() and (seen[..., 2:6, 7:11] == 1).all()


def test_a_shift_of_the_picture_shifts_the_restored_frame():
    rng = np.random.default_rng(0)
    intensity = torch.from_numpy(rng.random((1, 137, 16, 24)) < np.linspace(0.2, 0.8, 24)).to(torch.uint8)
    blur = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    view = View(enlargement((64, 96), (16, 24)) @ np.array([[1, 0, 8], [0, 1, 4], [0, 0, 1.0]]), (56, 80), (16, 24))
    (whole,) = sdm_frames(blur, intensity, [60], exposure=Exposure(), short=9)
    part = blur[..., 4:60, 8:88]
    (shifted,) = sdm_frames(part, intensity, [60], exposure=Exposure(), short=9, view=view)
    # The additive part is scaled by the mean of the picture, which differs a little.
    assert (shifted - whole[..., 4:60, 8:88]).abs().mean() < 0.02


def test_the_motion_that_is_told_is_that_of_the_view():
    """Turned clockwise and enlarged about the middle of the picture, then moved; y points down."""
    angle, middle = np.radians(2), np.array([[1, 0, 23.5], [0, 1, 15.5], [0, 0, 1]])
    turn = 1.05 * np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1 / 1.05]])
    moved = np.array([[1, 0, 3], [0, 1, -2], [0, 0, 1]]) @ middle @ turn @ np.linalg.inv(middle)
    np.testing.assert_allclose(_motion(View(SAME.homography @ moved, SAME.picture, SAME.spikes)), (3, -2, 2, 1.05))


@pytest.mark.parametrize("restore", [tfi_frames, lambda *given, **more: tfp_frames(*given, short=8, **more)])
def test_a_gain_that_is_known_does_not_show(restore):
    """The right half of the spike pixels is half as sensitive as the left one; the scene is uniform."""
    times, gain = torch.arange(40)[:, None, None], torch.ones(8, 12)
    gain[:, 6:] = 0.5
    spikes = (times % torch.where(gain == 1, 2, 4) == 0).to(torch.uint8)[None]
    view = View(SAME.homography, SAME.picture, SAME.spikes, gain)
    (frame,) = restore(torch.full((1, 3, 32, 48), 0.5), spikes, [20], exposure=Exposure(length=24, margin=8), view=view)
    assert frame.std() < 0.01 * frame.mean()
