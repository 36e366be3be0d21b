"""Samples of a calibrated rig: laid out for --data_type real, registered, at the pace of a sample."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codes.data.dataset import SpikeDataset
from codes.data.images import read_image, write_image
from codes.data.orientation import oriented
from codes.data.response import Response
from codes.data.spikes import write_spikes
from codes.errors import InputError
from codes.registration.resampling import at_pace, largest_inside, picture_on_spike_grid
from codes.registration.rig_file import CalibratedRig, write_rig
from codes.simulation.camera import integrate
from scripts import deblur
from scripts.make_real import Options, main

QUARTER = np.array([[0.25, 0, -0.375], [0, 0.25, -0.375], [0, 0, 1]])
CLOCK = {"first": 25.0, "period": 150.0, "length": 97}
RIG = CalibratedRig(
    (128, 192), (48, 32), "300 frames of 48x32, rows from the bottom, lowest bit first", "turned_left", QUARTER, 4.0,
    CLOCK, Response(0.5, 0.1), ((3, 4),), (),
)  # fmt: skip


@pytest.fixture
def recording(tmp_path) -> Path:
    """Three still pictures of blocks of 4x4 pixels, and the spikes of their intensity, turned left; the last is cut."""
    rng = np.random.default_rng(0)
    intensity = rng.uniform(0.1, 0.9, (32, 48))
    stream = integrate(np.stack([oriented(intensity, "turned_left")] * 300), first=rng.random((48, 32)))
    stream[:, 3, 4] = 1
    write_spikes(tmp_path / "stream.dat", stream)
    picture = np.kron(RIG.response.apply(intensity), np.ones((4, 4)))
    for number in range(3):
        write_image(tmp_path / f"pictures/{number}.png", np.repeat(picture[..., None], 3, 2))
    write_rig(tmp_path / "rig.json", RIG, found_by={})
    return tmp_path


def test_samples_show_the_same_intensity_and_are_read_in_training(recording, capsys):
    o = Options(
        str(recording / "pictures"), str(recording / "stream.dat"), str(recording / "rig.json"), str(recording / "set")
    )
    main(o)
    told = capsys.readouterr().out
    assert "2 samples, pictures 128x192, spikes 32x48" in told and "1 pictures left out" in told
    data = SpikeDataset(recording / "set", "train", data_type="real", fields=("spikes", "blur"))
    assert len(data) == 2
    for index in range(2):
        sample = data[index]
        rate = np.unpackbits(sample["spikes"], axis=2, bitorder="little")[20:117].mean(0)
        blocks = sample["blur"][..., 0].reshape(32, 4, 48, 4).mean((1, 3)) / 255
        assert abs(rate[4, 44] - np.delete(rate[3:6, 43:46], 4).mean()) < 0.03  # it was hot
        rate[4, 44] = blocks[4, 44] * 1.98543 / 2
        np.testing.assert_allclose(rate / (1.98543 / 2), blocks, atol=0.03)
    write = (recording / "set/blur_data/recording/0.png").stat().st_mtime_ns
    main(o)
    assert (recording / "set/blur_data/recording/0.png").stat().st_mtime_ns == write
    write_rig(recording / "rig.json", replace(RIG, response=Response()), found_by={})
    with pytest.raises(InputError, match="made with other options"):
        main(o)


def test_pictures_of_a_recording_are_restored_by_the_rig(recording):
    """The scene stands still: each restored frame is the picture, but for the noise of nine spike frames."""
    (recording / "pictures/2.png").unlink()
    o = deblur.Options(
        str(recording / "pictures"), str(recording / "stream.dat"), rig=str(recording / "rig.json"), method="sdm",
        out=str(recording / "out"), frames=3,
    )  # fmt: skip
    deblur.main(o)
    picture = read_image(recording / "pictures/0.png").astype(float)
    for number, start in ((0, 25), (1, 175)):
        written = sorted((recording / f"out/{number}").glob("*.png"))
        frames = [path for path in written if path.stem.isdecimal()]
        assert [path.stem for path in frames] == [f"{start + after:03d}" for after in (0, 48, 96)]
        assert all(np.abs(read_image(path) - picture).mean() < 6 for path in frames)
    with pytest.raises(InputError, match="its clock numbers the pictures of a folder"):
        deblur.main(replace(o, picture=str(recording / "pictures/0.png"), out=str(recording / "one")))
    with pytest.raises(InputError, match="--rows: not used beside --rig"):
        deblur.main(replace(o, rows="top", out=str(recording / "one")))


def test_another_picture_size_and_a_rig_that_looks_elsewhere_are_refused(recording):
    o = Options(
        str(recording / "pictures"), str(recording / "stream.dat"), str(recording / "rig.json"), str(recording / "set")
    )
    elsewhere = QUARTER.copy()
    elsewhere[0, 2] += 40
    write_rig(recording / "rig.json", replace(RIG, homography=elsewhere), found_by={})
    with pytest.raises(InputError, match="hardly overlap"):
        main(o)
    write_rig(recording / "rig.json", replace(RIG, picture=(100, 192)), found_by={})
    with pytest.raises(InputError, match=r"0\.png: is 128x192, the rig was calibrated with pictures of 100x192"):
        main(o)


@pytest.mark.parametrize("length", [70, 137, 200])
def test_spikes_at_another_pace_keep_their_rate_and_place_in_time(length):
    ramp = np.linspace(0.2, 0.8, length)[:, None, None] * np.ones((1, 16, 24))
    spikes = integrate(ramp, first=np.random.default_rng(0).random((16, 24)))
    found = at_pace(spikes, 137)
    assert found.shape == (137, 16, 24) and found.dtype == np.uint8
    wanted = np.linspace(0.2, 0.8, 137) * 1.98543 / 2
    smooth = np.convolve(found.mean((1, 2)), np.ones(15) / 15, "valid")
    np.testing.assert_allclose(smooth[8:-8], wanted[7:-7][8:-8], atol=0.02)


def test_a_noise_spike_does_not_change_the_pace():
    spikes = np.zeros((97, 4, 8), np.uint8)
    spikes[4::9] = 1
    noisy = spikes.copy()
    noisy[44, 2, 3] = 1
    np.testing.assert_array_equal(at_pace(noisy, 137), at_pace(spikes, 137))


def test_a_picture_on_the_grid_of_the_spikes_is_the_picture_where_both_agree():
    picture = np.random.default_rng(0).random((32, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(picture_on_spike_grid(picture, QUARTER, (8, 16)), picture, atol=1e-5)
    half = np.array([[0.125, 0, -0.4375], [0, 0.125, -0.4375], [0, 0, 1]])  # 8 picture pixels a spike pixel
    blocks = picture.reshape(16, 2, 32, 2, 3).mean((1, 3))
    np.testing.assert_allclose(picture_on_spike_grid(picture, half, (4, 8)), blocks, atol=1e-5)


def test_the_rectangle_inside_a_mask_is_cut_where_the_mask_ends():
    mask = np.zeros((20, 40), bool)
    mask[3:19, 5:38] = True
    mask[3, 5] = False
    rows, columns = largest_inside(mask, rows=2, columns=8)
    assert mask[rows, columns].all() and (rows.stop - rows.start, columns.stop - columns.start) in {(16, 32), (14, 32)}
