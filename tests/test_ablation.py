"""The ablation: values belong to the content and the code that measured them, and no flag is ignored."""

import csv
import dataclasses
import os
import shutil
import statistics
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from codes.engine import checkpoint
from codes.errors import InputError
from codes.networks import BSN
from codes.recipe import ISI
from scripts.dev.ablations import denoise, train, values


@pytest.mark.parametrize("blind_error", [0.012, 0.02, 0.04])
def test_the_posterior_mean_is_nearer_than_either_guess(blind_error):
    """Known variances: the error of the best weighing is that of two independent guesses together."""
    torch.manual_seed(0)
    truth, duration = torch.full((1, 1, 200, 200), 0.5), torch.full((1, 1, 200, 200), 12.0)
    own = 0.5 / (6**0.5 * 12)  # of charge by time
    measured = truth + own * torch.randn_like(truth)
    blind = truth + blind_error * torch.randn_like(truth)
    error = (denoise.posterior_mean(blind, measured, duration) - truth).square().mean().sqrt().item()
    best = (1 / own**2 + 1 / blind_error**2) ** -0.5
    assert error == pytest.approx(best, rel=0.1)  # variances are estimated from 25 pixels
    assert error < min(own, blind_error)


def test_denoise_measures_every_way_on_every_set(data, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "BSN.pth"
    checkpoint.save_weights(path, BSN(), ISI)
    settings = {"base_folder": (str(data),) * 2, "output": str(tmp_path / "ablation"), "bsn_path": str(path)}
    table = denoise.main(denoise.Options(**settings))
    rows = {name: cells for name, *cells in table.rows}
    assert len(rows) == 9 and all(len(cells) == 4 and cells[:2] == cells[2:] for cells in rows.values())
    # An untrained BSN knows nothing: the higher the weight of the measured intensity, the better.
    found = [cells[0] for name, cells in rows.items() if "blind" in name or "weighted" in name]
    assert len(found) == 4 and found == sorted(found) and found[-1] < rows["ISI intensity without noise spikes"][0]


def test_weights_of_spike_counts_are_refused(data, tmp_path, weights):
    settings = {"base_folder": (str(data),), "output": str(tmp_path / "ablation")}
    for given in ({}, {"bsn_path": weights["bsn_path"]}):
        with pytest.raises(InputError, match=r"--bsn_path .* trained with --spike_input isi"):
            denoise.main(denoise.Options(**settings | given))


@pytest.fixture
def options(data, tmp_path) -> train.Options:
    """One row that needs no network and no re-simulation."""
    return train.Options(
        base_folder=str(data),
        steps=2,
        seeds=1,
        roi_size=32,
        only=("isi, teacher sdm",),
        output=str(tmp_path / "ablation"),
        device="cpu",
    )


def measurements(options: train.Options, monkeypatch) -> tuple[int, list]:
    """Make the table; return how many values were measured for it, and its rows."""
    count, original = [], train.measure
    with monkeypatch.context() as patch:
        patch.setattr(train, "VARIANTS", {"isi, teacher sdm": train.BY_SDM})
        patch.setattr(train, "measure", lambda *arguments: count.append(1) or original(*arguments))
        return len(count), train.main(options).rows


def test_values_are_measured_again_for_other_content_and_code_alone(options, data, tmp_path, monkeypatch, capsys):
    """Neither for moved data nor twice for the same; what changed is named."""
    _, rows = measurements(options, monkeypatch)
    assert measurements(options, monkeypatch) == (0, rows)
    moved = shutil.copytree(data, tmp_path / "local/copy", copy_function=shutil.copyfile)
    shutil.rmtree(data)
    options = dataclasses.replace(options, base_folder=str(moved))
    assert measurements(options, monkeypatch) == (0, rows)

    for split in ("train", "test"):
        path = moved / f"{split}/spike_data/scene/000001.dat"
        before = path.stat()
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        capsys.readouterr()
        _, changed = measurements(options, monkeypatch)
        told = "isi, teacher sdm, seed 0 is measured again: data: spike_data/scene/000001.dat changed"
        assert (told in capsys.readouterr().err) == (split == "train")  # other test data are one more set
        assert (split == "train" or changed != rows) and measurements(options, monkeypatch) == (0, changed)
        rows = changed

    code = train.source_fingerprint("train_deblur") | {"codes.physics.sdm": "other"}
    monkeypatch.setattr(train, "source_fingerprint", lambda module: code)
    measurements(options, monkeypatch)
    assert "is measured again: code: codes.physics.sdm changed" in capsys.readouterr().err


def test_each_row_names_the_commit_that_measured_it(options, monkeypatch):
    for commit in ("0000abc", "1111def"):
        found = train.versions() | {"commit": commit}
        monkeypatch.setattr(train, "versions", lambda found=found: found)
        _, (row,) = measurements(options, monkeypatch)
        assert row[-1] == "0000abc"


def kept(options: train.Options) -> Path:
    return Path(options.output, "values.json")


def test_values_of_unknown_content_and_code_are_shown_as_such_and_not_used(options, monkeypatch, capsys):
    """The values of older commits: as a row that is not asked for they are shown, else they are measured again."""
    rows = {"LDN": {"psnr": 20.5}, "LDN sequence": {"psnr": 19.5}}
    for row in ("isi, teacher sdm", "isi, teacher resim"):
        tests = {options.base_folder: {"content": "unknown", "rows": rows}}
        entry = {"training": {}, "weights": {}, "data": "unknown", "code": "unknown", "tests": tests}
        values.save(kept(options), f"{row}, seed 0", entry | {"versions": {"commit": "before 0000abc"}}, [])
    monkeypatch.setattr(
        train, "VARIANTS", {row: train.VARIANTS[row] for row in ("isi, teacher sdm", "isi, teacher resim")}
    )
    first, second = train.main(options).rows
    assert "isi, teacher sdm, seed 0 is measured again: " in capsys.readouterr().err
    assert second == ["isi, teacher resim", 20.5, 0.0, 19.5, 0.0, "before 0000abc"]
    assert first[1] != 20.5 and "before" not in first[-1]


def test_seeds_of_different_code_make_no_row(options):
    tests = {options.base_folder: {"content": values.combined({}), "rows": {"LDN": {"psnr": 20.5}}}}
    entries = [{"code": code, "data": "x", "tests": tests, "versions": {}} for code in ("one", "other")]
    contents = {options.base_folder: {}}
    assert train.table_row("row", "LDN", [entries[0]] * 2, contents) is not None
    assert train.table_row("row", "LDN", entries, contents) is None
    assert train.table_row("row", "LDN", [entries[0], None], contents) is None


def test_fingerprints_that_no_value_needs_any_more_go(tmp_path):
    place = tmp_path / "values.json"
    entry = {"training": {}, "weights": {}, "code": "unknown", "versions": {}, "tests": {}}
    for digests in ({"a": "1"}, {"a": "2"}):
        values.save(place, "row, seed 0", entry | {"data": values.combined(digests)}, [digests, {"unused": "3"}])
    assert list(values.read(place)["fingerprints"].values()) == [{"a": "2"}]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"only": ("published",), "resimulated": "data/x"},
            "--bsn_path is missing: the row 'published recipe'",
        ),
        ({"only": ("recipe resim",)}, "--resimulated is missing: the row 'recipe resim, flips"),
        ({"bsn_path": "b.pth"}, "--bsn_path: none of the rows of --only isi, teacher sdm uses it; leave it out"),
        ({"sr_path": "s.pth"}, "--sr_path: none of the rows of --only isi, teacher sdm uses it; leave it out"),
        ({"resimulated": "data/x"}, "--resimulated: none of the rows"),
        ({"only": ("nothing",)}, "--only nothing: no row begins so; there are 'published recipe'"),
        ({"seeds": 0}, "--seeds 0: 1 or more"),
    ],
)
def test_flags_that_no_row_uses_and_flags_that_a_row_lacks_are_named(options, change, told):
    with pytest.raises(InputError, match=told):
        train.main(dataclasses.replace(options, **change))


def test_the_committed_values_give_the_committed_table():
    """All seeds of all rows, from one file."""
    held = values.read(ROOT / "log/ablation/values.json")["values"]
    with open(ROOT / "log/ablation/train.csv", newline="") as file:
        rows = list(csv.reader(line for line in file if not line.startswith("#")))[1:]
    assert [line[0] for line in rows if line[0] != train.FIRST_ITERATION] == list(train.VARIANTS)
    assert len(held) == 3 * len(train.VARIANTS)
    for name, *cells in rows:
        output = "LDN, 1 iteration" if name == train.FIRST_ITERATION else "LDN"
        row = "input mfsr, teacher resim, data consistency (recipe resim)" if output != "LDN" else name
        entries = [held[f"{row}, seed {seed}"] for seed in range(3)]
        found = []
        for folder in ("data/demo", "data/demo_4"):
            for place in (output, f"{output} sequence"):
                numbers = [entry["tests"][folder]["rows"][place]["psnr"] for entry in entries]
                found += [statistics.mean(numbers), max(numbers) - min(numbers)]
        assert [float(cell) for cell in cells[: len(found)]] == pytest.approx(found, rel=1e-12)
        assert {entry["versions"]["commit"][:7] for entry in entries} == {"before "}
