"""Labels are used again for the spikes, the teacher and the code that they were computed from, and for no others."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from training import run

from codes.data.batches import Packed
from codes.data.dataset import SpikeDataset
from codes.distillation import label_cache
from codes.distillation.teachers import ClosedFormTeacher
from codes.errors import InputError
from codes.networks import BSN


@pytest.fixture
def labels(data, weights, tmp_path) -> Path:
    run("deblur", data, weights, epochs=1, teacher_cache=str(tmp_path / "labels"))
    return tmp_path / "labels"


def times(labels: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in labels.rglob("*.npy")}


def again(data: Path, weights: dict[str, str], labels: Path, name: str = "again", **options: object) -> str:
    """Train another run on the labels and return its log."""
    folder = run("deblur", data, weights, exp_name=name, epochs=1, teacher_cache=str(labels), **options)
    return (folder / "log.txt").read_text()


def exchange(path: Path) -> None:
    """Reverse the content, at the same size and time of modification."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit(labels: Path, **changes: object) -> dict:
    """Change entries of the record, None removes one; return what it was."""
    path = labels / "train/teacher.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in (record | changes).items() if value is not None}))
    return record


def test_spikes_changed_at_equal_size_and_time_get_new_labels_and_are_named(data, weights, labels):
    before, contents = times(labels), {path.stem: path.read_bytes() for path in labels.rglob("*.npy")}
    exchange(data / "train/spike_data/scene/000001.dat")
    log = again(data, weights, labels)
    assert "1 labels are computed again, their spikes are not the same (spike_data/scene/000001.dat changed)" in log
    assert [name for name, time in times(labels).items() if time != before[name]] == ["000001"]
    assert contents["000001"] != (labels / "train/scene/000001.npy").read_bytes()
    after = times(labels)
    assert "computed again" not in again(data, weights, labels, "third") and times(labels) == after


def test_labels_in_memory_take_as_much_as_was_checked_before(data, monkeypatch):
    checked, samples = [], SpikeDataset(data, "train", fields=("spikes",))
    monkeypatch.setattr(label_cache, "refuse_what_does_not_fit", lambda size, flag: checked.append((size, flag)))
    labels = label_cache.cache_labels(
        ClosedFormTeacher(mfsr=False),
        samples,
        centers=[36, 68, 100],
        device=torch.device("cpu"),
        read=lambda indices: (Packed.collate([samples[index]]) for index in indices),
    )
    assert checked == [(sum(label.nbytes for label in labels.values()), "--teacher_cache ram")] and len(labels) == 3


def test_a_moved_data_set_keeps_its_labels(data, weights, labels, tmp_path):
    before = times(labels)
    shutil.copytree(data, tmp_path / "local/copy", copy_function=shutil.copyfile)  # at a later time
    assert "computed again" not in again(tmp_path / "local/copy", weights, labels) and times(labels) == before


def test_labels_of_another_data_set_are_left_alone(data, weights, labels):
    before = times(labels)
    for path in data.glob("train/spike_data/*/*.dat"):
        exchange(path)
    with pytest.raises(
        InputError, match=r"labels of another data set \(spike_data/scene/000000\.dat changed, .*new folder"
    ):
        again(data, weights, labels)
    assert times(labels) == before


def test_labels_of_other_weights_or_times_are_refused_and_what_differs_is_named(data, weights, labels, tmp_path):
    with pytest.raises(InputError, match=r"centers \[.*\] then, \[.*\] now"):
        again(data, weights, labels, blur_step=48)
    torch.manual_seed(1)
    torch.save(BSN().state_dict(), tmp_path / "bsn.pth")
    with pytest.raises(InputError, match=r"another teacher, .*\(weights \w+ then, \w+ now\); name a new folder"):
        again(data, weights, labels)


def test_labels_of_other_code_are_refused_and_the_module_is_named(data, weights, labels):
    code = edit(labels)["code"]
    assert {"codes.distillation.teachers", "codes.physics.sdm", "codes.networks.edsr"} <= code.keys()
    edit(labels, code=code | {"codes.physics.sdm": "0" * 32})
    with pytest.raises(
        InputError, match=r"another version of the code \(codes\.physics\.sdm changed\); remove .*labels"
    ):
        again(data, weights, labels)


def test_labels_of_an_older_record_are_computed_again(data, weights, labels):
    """It names neither the content of the spikes nor the code: nothing says that they are still right."""
    record, before = (
        edit(labels, code=None, spikes=None, data=str((data / "train").resolve()), version=4),
        times(labels),
    )
    contents = {path.stem: path.read_bytes() for path in labels.rglob("*.npy")}
    assert "3 labels are computed again, nothing says" in again(data, weights, labels, workers=2)
    assert all(time != before[name] for name, time in times(labels).items())
    assert contents == {path.stem: path.read_bytes() for path in labels.rglob("*.npy")}  # read by other processes
    assert json.loads((labels / "train/teacher.json").read_text()) == record


def test_a_label_without_recorded_spikes_is_computed_again(data, weights, labels):
    record, before = edit(labels), times(labels)
    edit(labels, spikes={name: digest for name, digest in record["spikes"].items() if "000000" not in name})
    again(data, weights, labels)
    assert [name for name, time in times(labels).items() if time != before[name]] == ["000000"]
