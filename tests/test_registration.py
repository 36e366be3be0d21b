"""Spikes that show the picture turned, mirrored or at another time are named, and what can be corrected is."""

import cv2
import numpy as np
import pytest

from codes.data.orientation import ORIENTATIONS, oriented, upright
from codes.data.spikes import write_spikes
from codes.errors import InputError
from codes.restoration.alignment import better_start
from codes.restoration.format_detection import detect_format
from codes.restoration.spike_file import guess, read
from codes.simulation.camera import add_noise, integrate
from codes.simulation.demo_scenes import EXPOSED, PHOTOGRAPHS, blurry, film, photograph
from scripts.make_demo import record


@pytest.fixture(scope="module")
def still() -> tuple[np.ndarray, np.ndarray]:
    """A photograph [192,256,3] and the spikes [137,48,64] of it, noise among them."""
    picture = photograph("astronaut.png", None)[40:232, 120:376]
    small = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), (64, 48), interpolation=cv2.INTER_AREA) / 255
    rng = np.random.default_rng(0)
    return picture, add_noise(integrate(np.stack([small] * 137), first=rng.random(small.shape)), rng)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_each_orientation_is_undone(still, orientation):
    picture, spikes = still
    turned = np.stack([oriented(frame, orientation) for frame in spikes])
    np.testing.assert_array_equal(upright(turned, orientation), spikes)
    assert len({oriented(picture[:9, :9], name).tobytes() for name in ORIENTATIONS}) == 8


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("suffix", [".dat", ".npy"])
@pytest.mark.parametrize("orientation", [name for name in ORIENTATIONS if name not in ("upright", "flipped")])
def test_the_orientation_of_the_spikes_is_named_and_corrected(still, tmp_path, orientation, suffix, square):
    picture, spikes = still
    if square:
        picture, spikes = picture[:, :192], spikes[..., :48]
    turned, file = upright(spikes, orientation), tmp_path / f"spikes{suffix}"
    turned = np.stack([oriented(frame, orientation) for frame in spikes])
    write_spikes(file, turned) if suffix == ".dat" else np.save(file, turned)
    with pytest.raises(InputError, match=rf"--orientation {orientation} corrects it"):
        detect_format(file, picture)
    spike_format = detect_format(file, picture, orientation=orientation)
    np.testing.assert_array_equal(upright(read(file, spike_format), orientation), spikes)


def test_upright_spikes_and_symmetric_pictures_are_accepted(still, tmp_path):
    picture, spikes = still
    write_spikes(tmp_path / "a.dat", spikes)
    assert detect_format(tmp_path / "a.dat", picture).height == 48
    symmetric = np.concatenate((picture[:, :128], picture[:, 127::-1]), 1)
    write_spikes(tmp_path / "b.dat", np.concatenate((spikes[..., :32], spikes[..., 31::-1]), -1))
    assert detect_format(tmp_path / "b.dat", symmetric).height == 48


@pytest.mark.parametrize("number", range(3))
def test_another_start_of_the_exposure_is_named_where_the_scene_moves(number):
    rng = np.random.default_rng(number)
    frames = film(PHOTOGRAPHS["test"], list(PHOTOGRAPHS["test"])[number], size=96, rng=rng)
    spikes, picture = record(frames, threshold=1.0, noise=True, rng=rng), blurry(frames[EXPOSED])
    assert better_start(spikes, picture, start=20, length=97) is None
    start, best, given = better_start(spikes, picture, start=0, length=97)
    assert abs(start - 20) <= 3 and best > 0.98 and given < best - 0.01


@pytest.mark.parametrize("start", [0, 20, 40])
def test_a_static_scene_has_no_better_start(still, start):
    picture, spikes = still
    assert better_start(spikes, picture, start=start, length=97) is None


ARRAYS = {
    "a picture beside the spikes": (lambda s, p: {"frame": p[:48, :64], "spikes": s}, ""),
    "channels first": (lambda s, p: {"frame": p.transpose(2, 0, 1), "spikes": s}, ""),
    "two streams": (
        lambda s, p: {"left": s, "right": s},
        r"several arrays may be the spikes: left \[137, 48, 64\] uint8, right \[137, 48, 64\] uint8; save one",
    ),
    "a picture alone": (lambda s, p: {"frame": p}, r"holds no array of spikes.*; it holds frame \[192, 256, 3\] uint8"),
    "of another type": (lambda s, p: {"s": s.astype(np.float32)}, r"it holds s \[137, 48, 64\] float32"),
    "gray pictures": (lambda s, p: {"s": s * 255}, r"holds 255; spikes are 0 and 1"),
    "empty": (lambda s, p: {}, r"it holds nothing"),
    "time last": (lambda s, p: {"s": s.transpose(1, 2, 0)}, ""),
    "time in the middle": (lambda s, p: {"s": s.transpose(1, 0, 2)}, r"\[48, 137, 64\] has time as its second axis"),
    "time last, of another length": (lambda s, p: {"s": s[:100].transpose(1, 2, 0)}, r"looks like \[h,w,T\]"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_the_array_of_spikes_is_found_or_what_is_there_is_listed(still, tmp_path, case):
    picture, spikes = still
    make, message = ARRAYS[case]
    np.savez(tmp_path / "a.npz", **make(spikes, picture))
    if message:
        with pytest.raises(InputError, match=message):
            guess(tmp_path / "a.npz")
    else:
        np.testing.assert_array_equal(read(tmp_path / "a.npz", guess(tmp_path / "a.npz")[0]), spikes)


@pytest.mark.parametrize("frames", [40, 64, 100])
def test_with_a_picture_the_axis_of_time_is_known(still, tmp_path, frames):
    picture, spikes = still
    np.save(tmp_path / "a.npy", spikes[:frames].transpose(1, 2, 0))
    best = guess(tmp_path / "a.npy", picture=picture)[0]
    assert best.time_last and (best.frames, best.height, best.width) == (frames, 48, 64)
    np.testing.assert_array_equal(read(tmp_path / "a.npy", best, first=3, stop=9), spikes[3:9])
    np.save(tmp_path / "b.npy", spikes[:41].transpose(1, 0, 2))
    with pytest.raises(InputError, match="has time as its second axis"):
        guess(tmp_path / "b.npy", picture=picture)
