"""A recording is read as it was written, whichever way that was; what is broken in it is found."""

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import ROOT

from codes.data.sensor import lost_frames
from codes.errors import InputError
from codes.restoration.alignment import align, is_aligned
from codes.restoration.spike_file import guess, read
from codes.simulation.camera import integrate
from scripts.inspect_spikes import Options, main


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A scene [H,W,3] uint8 with large and small things in it, brighter above."""
    rng = np.random.default_rng(seed)
    image = sum(
        cv2.normalize(cv2.GaussianBlur(rng.uniform(0, 1, (height, width)), (0, 0), sigma), None, 0, 1, cv2.NORM_MINMAX)
        for sigma in (2, 6, 20)
    )
    image = image / 3 * 180 + np.linspace(60, 0, height)[:, None]
    return np.repeat(image[..., None], 3, 2).astype(np.uint8)


def record(height: int, width: int, frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Spikes [T,h,w] of a scene that shifts by a pixel over the recording, and its picture in the middle of it."""
    scene = picture(height, width + 8, seed)
    intensity = [
        cv2.getRectSubPix(
            scene[..., 0].astype(np.float32) / 255,
            (width, height),
            ((width - 1) / 2 + 3 + (t + 0.5) / frames - 0.5, (height - 1) / 2),
        )
        for t in range(frames)
    ]
    first = np.random.default_rng(seed).random((height, width), np.float32)
    return integrate(np.stack(intensity), first=first), scene[:, 3 : width + 3]


def write(path, spikes, *, flip=True, low_bit_first=True):
    rows = spikes[:, ::-1] if flip else spikes
    bits = np.packbits(rows.reshape(len(rows), -1), axis=1, bitorder="little" if low_bit_first else "big")
    path.write_bytes(bits.tobytes())
    return path


@pytest.mark.parametrize("height, width, frames", [(250, 400, 40), (180, 320, 137), (64, 64, 137), (120, 212, 137)])
@pytest.mark.parametrize("low_bit_first", [True, False])
def test_geometry_and_bit_order_are_found_without_help(tmp_path, height, width, frames, low_bit_first):
    spikes, _ = record(height, width, frames)
    file = write(tmp_path / "recording.dat", spikes, low_bit_first=low_bit_first)
    best = guess(file)[0]
    assert (best.frames, best.height, best.width, best.flip) == (frames, height, width, True)
    assert best.low_bit_first == low_bit_first and best.confidence > 0.6
    np.testing.assert_array_equal(read(file, best), spikes)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("low_bit_first", [True, False])
def test_with_its_picture_the_way_up_is_certain(tmp_path, flip, low_bit_first):
    spikes, image = record(96, 160, 60)
    file = write(tmp_path / "recording.dat", spikes, flip=flip, low_bit_first=low_bit_first)
    best = guess(file, picture=cv2.resize(image, None, fx=4, fy=4))[0]
    assert (best.height, best.width, best.flip, best.low_bit_first) == (96, 160, flip, low_bit_first)
    assert best.confidence > 0.9
    np.testing.assert_array_equal(read(file, best), spikes)


@pytest.mark.parametrize("suffix", [".dat", ".npy"])
def test_a_part_of_a_recording_is_read(tmp_path, suffix):
    spikes, _ = record(64, 64, 60)
    file = tmp_path / f"recording{suffix}"
    write(file, spikes) if suffix == ".dat" else np.save(file, spikes)
    best = guess(file)[0]
    np.testing.assert_array_equal(read(file, best, first=7, stop=16), spikes[7:16])
    np.testing.assert_array_equal(read(file, best, first=50, stop=99), spikes[50:])


def test_confidences_are_chances_and_noise_gets_none(tmp_path):
    spikes, _ = record(64, 64, 137)
    formats = guess(write(tmp_path / "recording.dat", spikes))
    assert sum(spike_format.confidence for spike_format in formats) == pytest.approx(1)
    noise = np.random.default_rng(0).integers(0, 2, spikes.shape, np.uint8)
    assert guess(write(tmp_path / "noise.dat", noise))[0].confidence < 0.5


@pytest.mark.parametrize("dtype", [np.uint8, bool])
def test_an_array_is_taken_as_it_is(tmp_path, dtype):
    spikes, _ = record(64, 48, 40)
    np.savez(tmp_path / "recording.npz", label=np.int64(3), spk=spikes.astype(dtype))
    best = guess(tmp_path / "recording.npz")[0]
    assert (best.frames, best.height, best.width, best.flip) == (40, 64, 48, False)
    np.testing.assert_array_equal(read(tmp_path / "recording.npz", best), spikes)


@pytest.mark.parametrize("shift", [(0, 0), (5, -3), (-4, 6)])
def test_an_offset_is_measured(shift):
    x, y = shift
    scene = picture(160, 224)
    image, moved = scene[20:116, 20:180], scene[20 - y : 116 - y, 20 - x : 180 - x]
    correlation, found = align(moved[..., 0] / 255, cv2.resize(image, None, fx=4, fy=4, interpolation=cv2.INTER_AREA))
    assert found == pytest.approx((4 * x, 4 * y), abs=1.5)
    assert correlation == pytest.approx(1, abs=0.02) if shift == (0, 0) else correlation < 0.97


@pytest.mark.parametrize("size", [(45, 75), (125, 130), (64, 64), (3, 3), (1, 1)])
def test_no_offset_is_found_where_there_is_none(size):
    """Also where OpenCV would transform an odd number of pixels, and find half a one."""
    image = cv2.resize(picture(160, 224), (4 * size[1], 4 * size[0]), interpolation=cv2.INTER_AREA)
    average = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)[..., 0]
    correlation, shift = align(average / 255, image)
    assert correlation > 0.98 or size == (1, 1)
    assert is_aligned(correlation, shift) == (size != (1, 1))


def test_frames_that_a_camera_lost_are_found():
    fired = np.full(137, 900)
    assert not len(lost_frames(fired))
    fired[[5, 60, 61]] = 0
    assert lost_frames(fired).tolist() == [5, 60, 61]
    assert not len(lost_frames(np.random.default_rng(0).poisson(0.5, 137)))  # darkness has such frames too


def test_files_that_are_none_are_named(tmp_path):
    (tmp_path / "short.dat").write_bytes(bytes(7))
    with pytest.raises(InputError, match=r"short\.dat: 7 bytes .* name --geometry HEIGHT WIDTH"):
        guess(tmp_path / "short.dat")
    np.save(tmp_path / "flat.npy", np.zeros((4, 4)))
    with pytest.raises(InputError, match=r"flat\.npy: holds no array"):
        guess(tmp_path / "flat.npy")
    np.save(tmp_path / "gray.npy", np.full((8, 8, 8), 200, np.uint8))
    with pytest.raises(InputError, match=r"gray\.npy: .* holds 200; spikes are 0 and 1"):
        guess(tmp_path / "gray.npy")


def test_the_script_tells_what_it_found(tmp_path):
    spikes, image = record(96, 160, 137)
    spikes[:, 10, 20], spikes[:, 50, 60] = 0, 1
    write(tmp_path / "recording.dat", spikes)
    cv2.imwrite(str(tmp_path / "blurry.png"), cv2.resize(image, None, fx=4, fy=4))
    command = [sys.executable, ROOT / "scripts" / "inspect_spikes.py", tmp_path / "recording.dat", "--output", tmp_path]
    ended = subprocess.run(
        [*map(str, command), "--picture", tmp_path / "blurry.png"], capture_output=True, text=True, check=True
    )
    told = ended.stdout
    assert "137 frames of 96x160, rows from the bottom, lowest bit first" in told.splitlines()[1]
    assert f"firing rate {spikes.mean():.4f}" in told
    assert "dead 1, hot 1; row, column: (10,20) (50,60)" in told
    assert "  aligned with" in told
    page = cv2.imread(str(tmp_path / f"{tmp_path.name}_recording_inspected.png"), cv2.IMREAD_GRAYSCALE)
    assert page.shape == (96 + 80, 320)
    assert np.corrcoef(page[:96, :160].ravel(), image[..., 0].ravel())[0, 1] > 0.95


def test_the_script_names_orientation_time_and_frames_that_do_not_exist(tmp_path, capsys):
    spikes, image = record(96, 160, 137)
    write(tmp_path / "a.dat", spikes[..., ::-1])
    cv2.imwrite(str(tmp_path / "blurry.png"), cv2.resize(image, None, fx=4, fy=4))
    options = Options(files=(str(tmp_path / "a.dat"),), picture=str(tmp_path / "blurry.png"), output=str(tmp_path))
    main(options)
    told = capsys.readouterr().out
    assert "the spikes show the picture mirrored left-right (correlation 0.9" in told
    assert "--orientation mirrored" in told
    for wrong in (137, -2):
        with pytest.raises(InputError, match=f"--time {wrong}: "):
            main(replace(options, time=wrong))


@pytest.mark.parametrize("name", ["all spikes", "no spikes", "frames by turns"])
def test_a_stream_without_variation_is_not_compared(tmp_path, capsys, name):
    spikes, image = record(96, 160, 137)
    cv2.imwrite(str(tmp_path / "blurry.png"), cv2.resize(image, None, fx=4, fy=4))
    spikes[:] = {"all spikes": 1, "no spikes": 0, "frames by turns": np.arange(137)[:, None, None] % 2}[name]
    write(tmp_path / "a.dat", spikes)
    main(Options(files=(str(tmp_path / "a.dat"),), picture=str(tmp_path / "blurry.png"), output=str(tmp_path)))
    told = capsys.readouterr().out
    assert "IT SHOWS NOTHING: all pixels fire alike" in told and "aligned" not in told.lower()
