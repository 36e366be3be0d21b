"""Spike files are read and written byte for byte; wrong ones are named."""

import numpy as np
import pytest
import torch
from conftest import GOLDEN

from codes.data.batches import unpack
from codes.data.spikes import Exposure, read_packed, read_spikes, write_spikes


def test_golden_file_is_read_and_written_byte_for_byte(golden, tmp_path):
    file = GOLDEN / "stream_12x16.dat"
    np.testing.assert_array_equal(read_spikes(file, 12, 16), golden["dat_spikes"])
    write_spikes(tmp_path / "again.dat", golden["dat_spikes"])
    assert (tmp_path / "again.dat").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("height, width", [(4, 8), (6, 12), (8, 5), (3, 16)])
def test_packed_frames_unpack_to_what_was_written(tmp_path, height, width):
    """Also for widths that are not whole bytes, and for a part of the frames."""
    spikes = np.random.default_rng(0).integers(0, 2, (9, height, width), np.uint8)
    write_spikes(tmp_path / "s.dat", spikes)
    packed = torch.from_numpy(read_packed(tmp_path / "s.dat", height, width, first=2, frames=5).copy())
    np.testing.assert_array_equal(unpack(packed, width).numpy(), spikes[2:7])


@pytest.mark.parametrize("size", [0, 1, 23, 25])
def test_a_file_of_no_whole_frames_is_named(tmp_path, size):
    file = tmp_path / "cut short.dat"
    file.write_bytes(bytes(size))
    with pytest.raises(ValueError, match=rf"cut short\.dat.*\b{size} bytes.*12x16"):
        read_spikes(file, 12, 16)


def test_missing_file_and_missing_frames_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.dat: no such"):
        read_spikes(tmp_path / "nothing.dat", 12, 16)
    with pytest.raises(ValueError, match=r"100\.\.200.*holds 137"):
        read_packed(GOLDEN / "stream_12x16.dat", 12, 16, first=100, frames=101)


def test_a_stream_that_is_no_stream_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"\[3, 5\]"):
        write_spikes(tmp_path / "s.dat", np.zeros((3, 5)))
    assert not list(tmp_path.iterdir())


def test_exposure_lies_where_the_paper_says():
    exposure = Exposure()
    assert (exposure.total, exposure.center) == (137, 68)
    assert exposure.centers(24) == [20, 44, 68, 92, 116]
    assert exposure.centers(16) == [20, 36, 52, 68, 84, 100, 116]


def test_instants_lie_evenly_from_the_first_frame_to_the_last():
    assert Exposure().evenly(8) == list(range(20, 117, 8)) and set(Exposure().centers(16)) <= set(Exposure().evenly(8))
    for length, step in ((97, 10), (50, 8), (5, 8), (1, 8)):
        times = np.array(Exposure(length=length, margin=3).evenly(step))
        assert times[0] == 3 and times[-1] == 2 + length and len(times) >= 3
        assert np.ptp(np.diff(times)) <= 1 and np.diff(times).max() < 2 * step
