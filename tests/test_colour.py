"""Motion-compensated colour correction: its linear algebra against dense matrices, and scenes of known motion."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from codes.data.spikes import Exposure
from codes.motion import colour
from codes.physics.data_consistency import mean_over_exposure
from codes.physics.sdm import gray
from codes.restoration.colour import with_colour_along_motion

HEIGHT, WIDTH, FRAMES, STEP = 64, 96, 7, 2  # STEP: pixels that the scene moves from frame to frame


@pytest.fixture(scope="module")
def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Colours that move to the right: true frames [N,3,H,W], their picture, the frames with the picture's colour."""
    rng = np.random.default_rng(0)
    texture = rng.random((HEIGHT // 8, WIDTH // 8 + 3, 3), np.float32)
    texture = cv2.resize(texture, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC).clip(0, 1) * 0.9
    moving = [texture[:, (FRAMES - n) * STEP :][:, :WIDTH] for n in range(FRAMES)]
    truth = torch.from_numpy(np.stack(moving).transpose(0, 3, 1, 2).copy())
    blur = mean_over_exposure(truth.unsqueeze(0))[0]
    return truth, blur, gray(truth) + blur - gray(blur)


def test_the_colour_of_a_moving_scene_is_found(scene):
    truth, blur, restored = scene
    corrected, colours = colour.correct_colour(restored, blur)
    inner = (..., slice(4, -4), slice(16, -16))  # what lies at the left and right is seen during a part only
    for n, (before, after) in enumerate(zip(restored - truth, corrected - truth, strict=True)):
        assert after[inner].square().mean() < 0.2 * before[inner].square().mean(), n
    again = torch.stack([colours.correct(frame, n / (FRAMES - 1)) for n, frame in enumerate(restored)])
    torch.testing.assert_close(again, corrected)


def test_luminance_stays_and_the_mean_chroma_is_that_of_the_picture(scene):
    _, blur, restored = scene
    corrected, _ = colour.correct_colour(restored, blur)
    torch.testing.assert_close(mean_over_exposure(corrected.unsqueeze(0))[0], blur, rtol=0, atol=1e-5)
    torch.testing.assert_close(gray(corrected), gray(restored), rtol=0, atol=1e-6)


def test_autocast_rounds_nothing(scene):
    _, blur, frames = scene
    expected, _ = colour.correct_colour(frames, blur)
    with torch.autocast("cpu", torch.bfloat16):
        found, colours = colour.correct_colour(frames, blur)
        other = colours.correct(frames[1], 1 / (FRAMES - 1))
    assert torch.equal(found, expected) and other.dtype == torch.float32


def test_positions_of_pixels_are_those_of_affine_grid():
    expected = F.affine_grid(torch.eye(2, 3).unsqueeze(0), [1, 1, 5, 9], align_corners=False)
    assert torch.allclose(colour._grid(5, 9, like=expected), expected, atol=1e-6)


def test_a_scene_that_agrees_with_its_picture_stays(scene):
    truth, _, _ = scene
    still = truth[:1].expand(FRAMES, -1, -1, -1)
    corrected, _ = colour.correct_colour(still, truth[0])
    torch.testing.assert_close(corrected, still, rtol=0, atol=1e-5)


def test_a_still_scene_takes_the_colour_of_its_picture(scene):
    truth, _, _ = scene
    still = truth[:1].expand(FRAMES, -1, -1, -1)
    corrected, _ = colour.correct_colour(gray(still).expand_as(still), truth[0])
    assert (corrected - still).abs().mean() < 0.1 * (gray(still) - still).abs().mean()


def test_saturated_pixels_tell_nothing(scene):
    _, blur, restored = scene
    results = []
    for brightness in (0.996, 1.0):
        saturated = blur.clone()
        saturated[2, 20:30, 40:60] = brightness
        results.append(colour.correct_colour(restored, saturated)[0])
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_frames_by_the_middle_take_their_chroma_from_it_alone(scene):
    """The middle itself is neither moved nor weighed; a frame farther away looks at the nearer end, too."""
    truth, _, _ = scene
    luminance = gray(truth)[:, 0]
    references = luminance[colour.reference_frames(FRAMES)]
    (itself,) = colour.align(luminance[FRAMES // 2], references, 0.5)
    assert itself.reference == 0 and (itself.weight == 1).all()
    chroma = torch.rand(3, 2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(itself.look_up(chroma)[0], chroma[0], rtol=0, atol=1e-5)
    used = [[link.reference for link in colour.align(luminance[1], references, at)] for at in (0.2, 0.45, 0.55, 0.8)]
    assert used == [[0, 1], [0], [0], [0, 2]]


def test_adjoint_of_the_warp():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(3, 2, 12, 15, generator=generator), torch.rand(1, 2, 12, 15, generator=generator)
    positions = 2.4 * torch.rand(1, 12, 15, 2, generator=generator) - 1.2  # some lie outside the picture
    link = colour.ReferenceWarp(1, positions, torch.rand(1, 1, 12, 15, generator=generator))
    torch.testing.assert_close((link.look_up(x) * y).sum(), (x[1] * link.adjoint(y)).sum())


def test_guided_filter_is_self_adjoint():
    generator = torch.Generator().manual_seed(0)
    guide, x, y = (torch.rand(1, 1, 14, 17, generator=generator) for _ in range(3))
    smooth = colour.guided_filter(guide)
    torch.testing.assert_close((smooth(x) * y).sum(), (x * smooth(y)).sum())


def test_solution_is_the_posterior_mean():
    """Shifts by whole pixels, a half-occluded frame, a pixel without information; dense matrices in float64."""
    height, width, count = 7, 9, 3
    generator = torch.Generator().manual_seed(0)
    chroma = torch.rand(count, 2, height, width, generator=generator)
    blur = torch.rand(2, height, width, generator=generator)
    is_valid = torch.ones(height, width, dtype=torch.bool)
    is_valid[3, 4] = False
    shifts, visible = (-2, 0, 1), (0.5, 1.0, 0.8)
    links = []
    still = F.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], align_corners=False)
    for shift, share in zip(shifts, visible, strict=True):
        positions = still + torch.tensor((shift * 2 / width, 0))
        links.append([colour.ReferenceWarp(0, positions, torch.full((1, 1, height, width), share))])
    luminance = torch.full((3, height, width), 0.5)

    size = height * width
    columns = np.arange(width)
    shifted = [np.kron(np.eye(height), np.eye(width)[(columns + s).clip(0, width - 1)]) for s in shifts]
    mean = np.array((0.25, 0.5, 0.25))
    forward = np.diag(is_valid.flatten().double()) @ sum(
        w * v * m for w, v, m in zip(mean, visible, shifted, strict=True)
    )
    band = [abs(np.subtract.outer(np.arange(n), np.arange(n))) <= colour.WINDOW // 2 for n in (height, width)]
    box = np.kron(*band) / colour.WINDOW**2
    prior = box @ box  # a constant guide has no edges
    variance = colour.VARIANCE * (1 + colour.OCCLUDED * (mean * (1 - np.array(visible))).sum())
    own = sum(w * (1 - v) * c for w, v, c in zip(mean, visible, chroma.double().numpy(), strict=True))
    residual = (is_valid.numpy() * (blur.double().numpy() - own)).reshape(2, size).T
    residual = residual - forward @ chroma[1].double().numpy().reshape(2, size).T
    system = forward @ prior @ forward.T + variance * np.eye(size)
    expected = prior @ forward.T @ np.linalg.solve(system, residual)

    found = colour.solve(links, chroma, blur, luminance, is_valid=is_valid, iterations=100)
    np.testing.assert_allclose(found[0].numpy().reshape(2, size).T, expected, atol=2e-4)
    assert not found[1:].any()


@pytest.mark.parametrize("margins, is_corrected", [((4, 4), True), ((3, 20), False), ((20, 3), False)])
def test_colours_stay_where_the_windows_do_not_fit_into_the_stream(margins, is_corrected):
    """Windows of 9 spike frames around an exposure of 25."""
    asked, exposure = [], Exposure(length=25, margin=margins[0])

    def restore(blur, spikes, times, **_):
        asked.extend(times)
        return iter([blur] * len(times))

    blur, spikes = torch.rand(1, 3, 32, 48), torch.zeros(1, 25 + sum(margins), 8, 12)
    middle = [exposure.center]
    (frame,) = with_colour_along_motion(restore, 9)(blur, spikes, middle, exposure=exposure)
    assert frame.shape == blur.shape and (len(asked) > 1 if is_corrected else asked == middle)
