"""The same files count for every program, whatever operating systems and copying tools leave beside them."""

import shutil
from pathlib import Path

import pytest

from codes.data.checks import faults
from codes.data.dataset import SpikeDataset
from codes.data.images import write_image
from codes.data.listing import PICTURES, SPIKES, STREAMS, files_in
from codes.errors import InputError
from codes.restoration.spike_file import guess
from codes.simulation.footage import find

NOISE = (
    *("._a.png", "._000019.dat", ".DS_Store", "Thumbs.db", "desktop.ini", ".a.png.x7.partial", "a.png.partial"),
    *("__MACOSX/scene/a.png", "@eaDir/a.png/thumb.jpg", ".ipynb_checkpoints/a-checkpoint.png", ".git/a/a.dat"),
)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize("depth, prefix", [(1, ""), (2, "scene/"), (None, ""), (None, "deep/er/scene/")])
def test_hidden_and_system_files_do_not_count(tmp_path, depth, prefix):
    wanted = {f"{prefix}{name.split('.')[0]}": name for name in ("a.png", "b.JPG", "c.jpeg", "d.JPEG")}
    touch(tmp_path, *(f"{prefix}{name}" for name in wanted.values()), *NOISE, *(f"{prefix}{name}" for name in NOISE))
    found = files_in(tmp_path, PICTURES, depth=depth)
    assert {name: path.name for name, path in found.items()} == wanted
    assert list(found) == sorted(found)


def test_only_the_level_that_is_asked_for_counts(tmp_path):
    touch(tmp_path, "a.dat", "scene/b.DAT", "deep/scene/c.npy")
    assert [list(files_in(tmp_path, SPIKES, depth=depth)) for depth in (1, 2, 3, None)] == [
        ["a"],
        ["scene/b"],
        ["deep/scene/c"],
        ["a", "deep/scene/c", "scene/b"],
    ]
    assert files_in(tmp_path / "missing", SPIKES) == {}


@pytest.mark.parametrize("depth", [2, None])
def test_links_to_folders_are_followed_and_circles_end(tmp_path, depth):
    touch(tmp_path, "elsewhere/a.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/scene").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "set")
    assert list(files_in(tmp_path / "set", PICTURES, depth=depth)) == ["scene/a"]


@pytest.mark.parametrize("one, other, kind", [("a.png", "a.jpg", PICTURES), ("a.DAT", "a.dat", SPIKES)])
def test_two_files_of_one_sample_are_named(tmp_path, one, other, kind):
    touch(tmp_path, f"scene/{one}", f"scene/{other}")
    with pytest.raises(InputError, match=rf"scene/{min(one, other)} and {max(one, other)}: two files of one sample"):
        files_in(tmp_path, kind, depth=2)


def test_a_data_set_with_such_files_has_the_same_samples(data):
    names = SpikeDataset(data, "train").names
    for kind in ("spike_data", "blur_data", "sharp_data"):
        touch(data / "train" / kind, *NOISE, *(f"scene/{name}" for name in NOISE))
    assert SpikeDataset(data, "train").names == names
    assert not list(faults(SpikeDataset(data, "train", checked=False)))


def test_suffixes_in_upper_case_and_jpeg_make_the_same_samples(data):
    whole = [SpikeDataset(data, "train")[index] for index in range(3)]
    (data / "train/spike_data/scene/000001.dat").rename(data / "train/spike_data/scene/000001.DAT")
    (data / "train/sharp_data/scene/000001.png").rename(data / "train/sharp_data/scene/000001.PNG")
    (data / "train/blur_data/scene/000002.png").unlink()
    write_image(data / "train/blur_data/scene/000002.JPEG", whole[2]["blur"])
    again = SpikeDataset(data, "train")
    assert again.names == [sample["name"] for sample in whole] and not list(again.split.unpaired())
    assert (again[1]["sharp"] == whole[1]["sharp"]).all() and again[2]["blur"].shape == (32, 64, 3)


def test_raw_sequences_beside_such_files_are_the_same(tmp_path):
    touch(tmp_path, "film/1.png", "film/2.PNG", "film/._1.png", "__MACOSX/film/1.png", ".hidden/1.png", "clip.MP4")
    touch(tmp_path, "film/@eaDir/1.png")
    found = find(tmp_path)
    assert [(footage.name, footage.path.is_dir()) for footage in found] == [("clip", False), ("film", True)]
    assert found[1].count() == 2


@pytest.mark.parametrize(
    "names, message",
    [
        (("1.png", "2.png", "4.png"), r"/2\.png and 4\.png: the frames between them are missing \(numbers rise by 1 "),
        (("a0.png", "a2.png", "a4.png", "a8.png"), r"/a4\.png and a8\.png: .* missing \(numbers rise by 2 elsewhere"),
        (("1.png", "2.png", "02.png"), r"2\.png and .*2\.png: two frames of number 2; remove one of them"),
        (("1.png", "2.png", "2.jpg"), r"2\.jpg and 2\.png: two files of one sample; remove one of them"),
        (("1.png", "2.png", "cover.png"), r"/cover\.png: has no number, unlike the other frames"),
        (("1.png", "2.png", "3.png"), ""),
        (("a.png", "b.png"), ""),
        (("t1000.png", "t1033.png", "t1067.png", "t1100.png"), ""),  # time stamps
        (("take1_8.png", "take1_9.png", "take2_3.png", "take2_4.png"), ""),
    ],
)
def test_missing_and_repeated_frames_are_named(tmp_path, names, message):
    (footage,) = find(touch(tmp_path / "film", *names))
    if not message:
        assert footage.count() == len(names)
        return
    with pytest.raises(InputError, match=message):
        footage.count()


@pytest.mark.parametrize("suffix", [".NPY", ".NPZ"])
def test_arrays_with_upper_case_suffixes_are_arrays(tmp_path, suffix):
    import numpy as np

    spikes = np.random.default_rng(0).integers(0, 2, (40, 16, 24), np.uint8)
    (np.save if suffix == ".NPY" else np.savez)(tmp_path / f"a{suffix.lower()}", spikes)
    shutil.move(tmp_path / f"a{suffix.lower()}", tmp_path / f"a{suffix}")
    best = guess(tmp_path / f"a{suffix}")[0]
    assert (best.frames, best.height, best.width) == (40, 16, 24)


def test_arrays_are_no_samples_of_a_data_set(data):
    touch(data / "train/spike_data", "scene/000009.npz")
    assert "scene/000009" not in SpikeDataset(data, "train").names and ".npz" not in STREAMS


def test_a_split_given_as_the_data_set_is_named(data):
    with pytest.raises(InputError, match=r"data/train: is a split of a data set; .* --base_folder .*data$"):
        SpikeDataset(data / "train", "train")
