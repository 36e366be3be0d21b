"""A sample is read as it lies on disk, only what is asked for is opened, and what is wrong is named before training."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from codes.data import cache, dataset
from codes.data.batches import Batches, Packed
from codes.data.cache import memory_needed, read_into_memory
from codes.data.dataset import SpikeDataset
from codes.data.images import write_image
from codes.data.spikes import Exposure, read_spikes, write_spikes

CPU = torch.device("cpu")


def test_a_whole_sample_is_what_lies_on_disk(data):
    batch = Packed.collate([SpikeDataset(data, "train")[1]]).to(CPU)
    assert batch.names == ["scene/000001"]
    spikes = read_spikes(data / "train/spike_data/scene/000001.dat", 8, 16)
    np.testing.assert_array_equal(batch.spikes[0].numpy(), spikes)
    for field, image in (("blur", batch.blur), ("sharp", batch.sharp)):
        expected = cv2.imread(str(data / f"train/{field}_data/scene/000001.png")).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(image[0].numpy(), expected, atol=1e-7)


def test_crops_of_all_parts_are_the_same_place(data):
    """Every crop, found again in the whole sample, lies at the same place in spikes and pictures."""
    whole = Packed.collate([SpikeDataset(data, "train")[0]]).to(CPU)
    crops = SpikeDataset(data, "train", crop=(16, 32), seed=3)
    places = set()
    for epoch in range(30):
        crop = Packed.collate([crops[epoch, 0]]).to(CPU)
        assert crop.blur.shape[-2:] == (16, 32) and crop.spikes.shape[-2:] == (4, 8)
        (place,) = (
            (top, left)
            for top in range(5)
            for left in range(9)
            if torch.equal(crop.blur, whole.blur[..., 4 * top : 4 * top + 16, 4 * left : 4 * left + 32])
        )
        top, left = place
        assert torch.equal(crop.spikes, whole.spikes[..., top : top + 4, left : left + 8])
        assert torch.equal(crop.sharp, whole.sharp[..., 4 * top : 4 * top + 16, 4 * left : 4 * left + 32])
        places.add(place)
    assert len(places) > 5


@pytest.mark.parametrize("fields", [("spikes",), ("spikes", "blur", "sharp", "ratios")])
def test_what_is_kept_in_memory_is_what_is_read(data, tmp_path, fields, monkeypatch):
    """Every crop of every epoch is the same with and without; nothing is opened after the start."""
    for sample in range(3):
        ratios = np.random.default_rng(sample).random((5, 32, 64)).astype(np.float16)
        (tmp_path / "labels/train/scene").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"labels/train/scene/{sample:06d}.npy", ratios)
    settings = {"fields": fields, "crop": (16, 16), "augment": True, "ratio_folder": tmp_path / "labels"}
    read, kept = (SpikeDataset(data, "train", **settings) for _ in range(2))
    expected = [read[epoch, index] for epoch in range(4) for index in range(3)]
    read_into_memory(kept, CPU)
    assert memory_needed(kept) == sum(field.nbytes for whole in kept.cached for field in whole.values())
    monkeypatch.setattr(dataset, "read_image", None)
    monkeypatch.setattr(dataset, "read_packed", None)
    for one, other in zip(expected, (kept[epoch, index] for epoch in range(4) for index in range(3)), strict=True):
        assert one.keys() == other.keys() >= set(fields)
        for field in one:
            np.testing.assert_array_equal(one[field], other[field])


def test_what_does_not_fit_into_memory_is_refused_with_figures(data, monkeypatch):
    samples = SpikeDataset(data, "train")
    monkeypatch.setattr(cache, "_free_bytes", lambda device: 5e9)
    monkeypatch.setattr(cache, "memory_needed", lambda samples: 7.25e9)
    with pytest.raises(ValueError, match=r"--cache ram: 7\.25 GB are needed a process, 5\.00 GB are free"):
        read_into_memory(samples)
    assert not samples.cached
    monkeypatch.setattr(cache, "memory_needed", lambda samples: 2e9)
    with pytest.raises(ValueError, match=r"2\.00 GB and 3\.00 GB for a step are needed a process, 5\.00 GB are free"):
        read_into_memory(samples, reserved=3e9)
    assert not samples.cached
    read_into_memory(samples, reserved=2e9)


def test_only_the_frames_around_the_exposure_are_read(data):
    whole = SpikeDataset(data, "train", fields=("spikes",))[0]["spikes"]
    field = SpikeDataset(data, "train", fields=("spikes",), exposure=Exposure(margin=4))[0]["spikes"]
    np.testing.assert_array_equal(field, whole[16:121])


def test_augmented_parts_are_turned_alike_and_a_function_of_seed_epoch_and_index(data):
    """Turned back, every sample is the one without augmentation, in all fields; all 8 ways come, and come again."""
    plain, turned = (SpikeDataset(data, "train", crop=(32, 32), augment=augment) for augment in (False, True))
    seen = set()
    for epoch in range(40):
        assert plain[epoch, 0]["turn"] == 0 and turned[epoch, 0]["turn"] == turned[epoch, 0]["turn"]
        one, other = (Packed.collate([samples[epoch, 0]]).to(CPU) for samples in (plain, turned))
        ways = {
            (quarter, mirror)
            for quarter in range(4)
            for mirror in (False, True)
            if all(
                np.array_equal(np.rot90(x.flip(-1) if mirror else x, quarter, (-2, -1)), y)
                for x, y in ((one.spikes, other.spikes), (one.blur, other.blur), (one.sharp, other.sharp))
            )
        }
        assert len(ways) == 1
        seen |= ways
    assert len(seen) == 8


def test_a_sequence_is_read_where_there_is_one_and_has_to_be_whole(data):
    for t in range(20, 117, 16):
        write_image(data / f"test/sharp_sequence/scene/000000/{t:03d}.png", np.full((32, 64, 3), t, np.uint8))
    samples = SpikeDataset(data, "test", fields=("spikes", "sequence"), crop=(16, 32))
    sequence = Packed.collate([samples[0]]).to(CPU).sequence
    assert sequence.shape == (1, 7, 3, 16, 32)
    assert (sequence[0, :, 0, 0, 0] * 255).tolist() == pytest.approx(range(20, 117, 16))
    for without in ([1], [0, 1]):
        assert Packed.collate([samples[index] for index in without]).to(CPU).sequence is None
    (data / "test/sharp_sequence/scene/000000/068.png").unlink()
    with pytest.raises(ValueError, match=r"scene/000000/068\.png: no such picture"):
        SpikeDataset(data, "test", fields=("spikes", "sequence"))


def test_a_crop_is_a_function_of_seed_epoch_and_index(data):
    first, again, other = (SpikeDataset(data, "train", crop=(16, 32), seed=seed) for seed in (1, 1, 2))
    places = [[d._place(epoch, 0) for epoch in range(20)] for d in (first, again, other)]
    assert places[0] == places[1] != places[2]


@pytest.mark.parametrize("fields, opened", [(("spikes",), set()), (("spikes", "blur"), {"blur_data"})])
def test_only_what_is_asked_for_is_opened(data, monkeypatch, fields, opened):
    seen = set()

    def watched(path: Path) -> np.ndarray:
        seen.add(path.parent.parent.name)
        return cv2.imread(str(path))

    monkeypatch.setattr(dataset, "read_image", watched)
    for item in range(3):
        SpikeDataset(data, "train", fields=fields)[item]
    assert seen == opened


def test_spikes_alone_take_their_size_from_the_data_type_or_the_flags(tmp_path):
    write_spikes(tmp_path / "train/spike_data/a/000019.dat", np.zeros((137, 180, 320), np.uint8))
    write_spikes(tmp_path / "test/spike_data/a/000019.dat", np.zeros((137, 8, 16), np.uint8))
    assert SpikeDataset(tmp_path, "train", fields=("spikes",))[0]["spikes"].shape == (137, 180, 40)
    assert SpikeDataset(tmp_path, "test", fields=("spikes",), size=(32, 64))[0]["spikes"].shape == (137, 8, 2)


def test_real_data_are_jpg_without_splits_or_truth(tmp_path):
    write_spikes(tmp_path / "spike_data/a/000019.dat", np.zeros((137, 8, 16), np.uint8))
    write_image(tmp_path / "blur_data/a/000019.jpg", np.zeros((32, 64, 3), np.uint8))
    sample = SpikeDataset(tmp_path, "train", data_type="real", fields=("spikes", "blur"))[0]
    assert sample["blur"].shape == (32, 64, 3)


def test_full_size_spikes_come_from_their_own_folder(data):
    write_spikes(data / "train/spike_full/scene/000000.dat", np.ones((137, 32, 64), np.uint8))
    found = SpikeDataset(data, "train", fields=("spikes",), spike_full=True, crop=(16, 32))[0, 0]
    assert found["spikes"].shape == (137, 16, 4)


def truncate(path: Path, to: int) -> None:
    os.truncate(path, to)


FAULTS = {
    "sharp picture missing": (
        lambda d: (d / "sharp_data/scene/000001.png").unlink(),
        r"sharp_data/scene/000001\.png: missing",
    ),
    "picture truncated": (
        lambda d: truncate(d / "blur_data/scene/000001.png", 2000),
        r"blur_data/scene/000001\.png: picture is truncated",
    ),
    "picture empty": (lambda d: truncate(d / "blur_data/scene/000001.png", 0), r"000001\.png: not a readable picture"),
    "picture of another size": (
        lambda d: write_image(d / "sharp_data/scene/000001.png", np.zeros((16, 16, 3), np.uint8)),
        r"sharp_data/scene/000001\.png: is 16x16, expected 32x64",
    ),
    "stream cut by a byte": (
        lambda d: truncate(d / "spike_data/scene/000001.dat", 137 * 16 - 1),
        r"000001\.dat: 2191 bytes are not whole frames of 8x16 \(16 bytes each",
    ),
    "stream cut by a frame": (
        lambda d: truncate(d / "spike_data/scene/000001.dat", 136 * 16),
        r"000001\.dat: holds 136 frames of 8x16 .*expected 137",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_data_is_named_before_training(data, fault):
    damage, message = FAULTS[fault]
    damage(data / "train")
    with pytest.raises(ValueError, match=message):
        SpikeDataset(data, "train")


def test_an_empty_split_says_what_makes_one(tmp_path):
    (tmp_path / "train").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"train: is a link to .*gone, which is not there; .*resimulate\.py"):
        SpikeDataset(tmp_path, "train")
    (tmp_path / "train").unlink()
    with pytest.raises(ValueError, match=r"train/spike_data: no spike files.*make_demo"):
        SpikeDataset(tmp_path, "train")


def flat(batches: Batches) -> list:
    return [key for batch in batches for key in batch]


@pytest.mark.parametrize("samples, size", [(10, 4), (8, 4), (1, 4), (3, 1)])
def test_every_epoch_shows_every_sample(samples, size):
    order = list(Batches(samples, size, epochs=3, seed=0))
    assert len(order) == 3 * -(-samples // size) and {len(batch) for batch in order} == {size}
    for epoch in range(3):
        assert {index for batch in order for e, index, _ in batch if e == epoch} == set(range(samples))


@pytest.mark.parametrize("start", [0, 1, 3, 7, 9])
def test_the_order_goes_on_anywhere(start):
    whole, rest = (Batches(10, 4, epochs=3, seed=5) for _ in range(2))
    rest.start = start
    assert list(rest) == list(whole)[start:] and len(rest) == 9 - start
    assert [{number for _, _, number in batch} for batch in rest] == [{number} for number in range(start, 9)]


def test_processes_share_each_batch():
    whole = list(Batches(10, 4, epochs=2, seed=5))
    shares = [list(Batches(10, 4, epochs=2, seed=5, rank=rank, world=2)) for rank in range(2)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert sorted(first + second) == sorted(batch)
    with pytest.raises(ValueError, match=r"--bs 3.*2 processes"):
        Batches(10, 3, epochs=1, seed=0, world=2)
