"""Frames in between lie where motion puts them, show nothing twice, and are never made across a cut."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import optical_flow

from codes.errors import InputError
from codes.motion.batch_interpolation import interpolate_pairs
from codes.motion.flow import dis_flow, fine_flow
from codes.motion.interpolation import interpolate_frames, interpolator, is_cut
from codes.motion.prediction import predict_from_restored
from codes.motion.warping import dis_flows

SIZE = 96, 128


def texture(seed: int, height: int = SIZE[0] + 80, width: int = SIZE[1] + 80) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.uniform(0, 255, (height, width, 3)), (0, 0), 2.5)
    return cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def view(image: np.ndarray, x: float, y: float = 0) -> np.ndarray:
    """The image seen through a window of SIZE, moved by (x, y) pixels."""
    height, width = image.shape[:2]
    return cv2.getRectSubPix(image, SIZE[::-1], (width / 2 + x, height / 2 + y))


@pytest.mark.parametrize("time", [0.25, 0.5, 0.9])
def test_a_shifting_scene_is_where_it_must_be(time):
    scene = texture(0)
    before, after, truth = view(scene, 0), view(scene, 8, 4), view(scene, 8 * time, 4 * time)
    (frame,) = interpolator("dis")(before, after, (time,))
    inner = (slice(12, -12), slice(12, -12))
    assert cv2.PSNR(frame[inner], truth[inner]) > 34
    assert cv2.PSNR(cv2.addWeighted(before, 1 - time, after, time, 0)[inner], truth[inner]) < 31


def with_square(scene: np.ndarray, x: int) -> np.ndarray:
    """A still scene, a textured square before it at column x."""
    image = view(scene, 0).copy()
    image[32:64, x : x + 32] = texture(9)[:32, :32] // 3 + np.array((150, 0, 0), np.uint8)
    return image


def test_what_is_covered_and_uncovered_is_no_ghost():
    """Behind a moving square the background is seen in one neighbour alone: taken from there, not mixed."""
    scene = texture(1)
    before, truth, after = (with_square(scene, x) for x in (40, 46, 52))
    (frame,) = interpolator("dis")(before, after, (0.5,))
    edges = np.zeros(SIZE, bool)
    edges[36:60, 34:46] = edges[36:60, 78:90] = True  # the columns that one of the neighbours hides
    error = np.abs(frame.astype(int) - truth)[edges].mean()
    mixed = np.abs(cv2.addWeighted(before, 0.5, after, 0.5, 0).astype(int) - truth)[edges].mean()
    grid = np.dstack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in SIZE[::-1])))
    forward = cv2.remap(before, grid - 0.5 * dis_flow(before, after), None, cv2.INTER_LINEAR)
    forward = np.abs(forward.astype(int) - truth)[edges].mean()
    assert error < 0.6 * mixed and error < 0.9 * forward


def test_outside_one_picture_the_other_is_taken():
    scene = texture(2)
    before, truth, after = view(scene, 0), view(scene, 4), view(scene, 8)
    (frame,) = interpolator("dis")(before, after, (0.5,))
    assert cv2.PSNR(frame[8:-8, -4:], truth[8:-8, -4:]) > 28, "the right edge is seen in `after` alone"
    assert cv2.PSNR(frame[8:-8, :4], truth[8:-8, :4]) > 28, "the left edge is seen in `before` alone"


def test_a_still_scene_stays_as_it_is():
    still = view(texture(0), 0)
    for frame in interpolator("dis")(still, still, (0.25, 0.75)):
        assert np.abs(frame.astype(int) - still).max() <= 1


@pytest.mark.parametrize("size", [(64, 48), (97, 131), (96, 64), (16, 16)])
def test_any_size_and_every_time(size):
    image = texture(0)[: size[0], : size[1]]
    frames = list(interpolator("dis")(image, image, [k / 8 for k in range(1, 8)]))
    assert [frame.shape for frame in frames] == [(*size, 3)] * 7 and frames[0].dtype == np.uint8


def test_flow_is_asked_for_once_each_way_and_not_without_need():
    asked = []

    def flow(before, after):
        asked.append((before is image, after is image))
        return np.zeros((*SIZE, 2), np.float32)

    image, other = view(texture(0), 0), view(texture(0), 1)
    list(interpolate_frames(image, other, (), flow))
    assert asked == []
    list(interpolate_frames(image, other, (0.2, 0.4, 0.6), flow))
    assert asked == [(True, False), (False, True)]


@pytest.mark.parametrize("shift", [0, 2, 5, 10])
def test_motion_is_no_cut(shift):
    scene = texture(0)
    assert not is_cut(view(scene, 0), view(scene, shift, shift / 3))


def test_light_that_changes_is_no_cut():
    image = view(texture(0), 0)
    assert not is_cut(image, (image * 0.6).astype(np.uint8))


@pytest.mark.parametrize("seed", range(1, 9))
def test_another_scene_is_a_cut(seed):
    assert is_cut(view(texture(0), 0), view(texture(seed), 0))


def test_black_after_black_is_no_cut():
    assert not is_cut(np.zeros((96, 128, 3), np.uint8), np.full((96, 128, 3), 3, np.uint8))


def test_black_after_a_picture_is_a_cut():
    assert is_cut(view(texture(0), 0), np.zeros((*SIZE, 3), np.uint8))


@pytest.fixture(scope="module")
def raft_file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "raft.pth"
    torch.save(optical_flow.raft_small(weights=None).state_dict(), path)
    return path


def test_raft_takes_any_size(raft_file):
    image = texture(0)[:60, :90]
    frames = list(interpolator("raft", weights=raft_file, device="cpu")(image, image, (0.5,)))
    assert [(frame.shape, frame.dtype) for frame in frames] == [((60, 90, 3), np.uint8)]


def test_weights_that_are_not_rafts_are_named(tmp_path):
    file = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(2)}, file)
    with pytest.raises(InputError, match=r"other\.pth: fits neither raft_large nor raft_small"):
        interpolator("raft", weights=file, device="cpu")
    file.write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"other\.pth: no state dict"):
        interpolator("raft", weights=str(file), device="cpu")


def test_weights_that_cannot_be_downloaded_are_told_how_to_bring(monkeypatch, tmp_path):
    def offline(*arguments, **settings):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"no network.*https://.*--weights"):
        interpolator("raft", device="cpu")


def test_an_unknown_way_is_refused():
    with pytest.raises(InputError, match=r"'nearest'.*dis and raft"):
        interpolator("nearest")


def gray_views(number: int, step: float) -> torch.Tensor:
    """Frames [number,h,w] of a scene that moves by `step` pixels from each to the next."""
    scene = cv2.cvtColor(texture(0), cv2.COLOR_BGR2GRAY).astype(np.float32) / 255
    return torch.from_numpy(np.stack([view(scene, step * index, step * index / 3) for index in range(number)]))


@pytest.mark.parametrize("size", [(96, 128), (95, 127)])
def test_pairs_are_interpolated_as_opencv_does_it(size):
    """OpenCV rounds positions to 1/32 of a pixel, and areas of odd sizes are averaged differently."""
    frames = gray_views(3, 2.5)[:, : size[0], : size[1]].contiguous()
    times = (0.25, 0.5, 0.9)
    found = interpolate_pairs(frames[:-1], frames[1:], times, flow=dis_flows)
    for index, (before, after) in enumerate(zip(frames[:-1].numpy(), frames[1:].numpy(), strict=True)):
        expected = np.stack(list(interpolate_frames(before, after, times, fine_flow)))
        difference = np.abs(found[index].numpy() - expected)
        assert difference.mean() < 1e-3 and np.quantile(difference, 0.99) < 0.01


@pytest.mark.parametrize("times", [[2, 6, 10], [2, 6, 7], [2, 3, 4]])
def test_restored_frames_predict_the_spike_frames_between_them(times):
    """Where the scene moves steadily they are its frames, in the scale of the intensity and without its noise."""
    truth = gray_views(13, 0.5)
    checkerboard = 0.2 * (-1) ** torch.stack(torch.meshgrid(*map(torch.arange, truth.shape), indexing="ij")).sum(0)
    intensity = truth / 2 + checkerboard
    predicted = predict_from_restored(intensity, truth[times], times)
    within = slice(times[0], times[-1] + 1)
    error = (predicted - truth / 2)[within, 12:-12, 12:-12].abs()
    assert error.mean() < 0.003 and error.quantile(0.999) < 0.03
    assert torch.equal(predicted[: times[0]], intensity[: times[0]])
    assert torch.equal(predicted[times[-1] + 1 :], intensity[times[-1] + 1 :])
