"""The tables: ours and published numbers apart, sources under each, nothing measured twice; cost as published."""

import csv
import dataclasses
import json
import os
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from conftest import make_data

from codes import recipe
from codes.data.fingerprint import source_fingerprint
from codes.data.images import write_image
from codes.errors import InputError
from codes.evaluation import published
from codes.networks import BSN, EDSR, LDN
from codes.reporting import paper_tables
from codes.reporting.cost import NETWORKS, cost
from codes.reporting.paper_sources import data_sets
from codes.reporting.table import Table
from scripts import tables

NAMES = ("sequence", "modules_1", "modules_2", "networks", "cost")


@pytest.fixture
def options(tmp_path, monkeypatch) -> dict:
    """Two data sets of different V_th in the layout of make_gopro.py, weights, and a cost that costs little."""
    torch.manual_seed(0)
    for threshold in (1, 2):
        folder = make_data(tmp_path / f"GOPRO/threshold_{threshold}", train=0, test=1)
        for t in range(20, 117, 16):
            write_image(folder / f"test/sharp_sequence/scene/000000/{t:03d}.png", np.full((32, 64, 3), t, np.uint8))
    for name, net in (("bsn", BSN()), ("sr", EDSR()), ("ldn1", LDN()), ("ldn2", LDN())):
        torch.save(net.state_dict(), tmp_path / f"{name}.pth")
    monkeypatch.setattr(paper_tables, "NETWORKS", ("LDN",))
    for module in (sys.modules["codes.engine.evaluate"], tables):
        monkeypatch.setattr(module, "lpips_fault", lambda: "not asked for")  # a download may take long to fail
    return {
        "base_folder": (str(tmp_path / "GOPRO"),),
        "bsn_path": (str(tmp_path / "bsn.pth"),),
        "sr_path": (str(tmp_path / "sr.pth"),),
        "deblur_path": (str(tmp_path / "ldn1.pth"), str(tmp_path / "ldn2.pth")),
        "output": str(tmp_path / "tables"),
        "cost_size": (32, 64),
        "device": "cpu",
        "workers": 0,
    }


def test_all_tables_with_published_numbers_beside_and_sources_under_each(options, tmp_path, monkeypatch):
    sequence, modules, other, networks, cost_of = tables.main(tables.Options(**options))
    by_name = {line[0]: dict(zip(sequence.columns, line, strict=True)) for line in sequence.rows}
    assert by_name["S-SDM (LDN)"]["PSNR, V_th 2, published"] == 26.37
    assert by_name["S-SDM (LDN)"]["PSNR, V_th 1"] != by_name["S-SDM (LDN)"]["PSNR, V_th 2"]
    assert by_name["REFID"]["PSNR, V_th 1"] is None and by_name["REFID"]["PSNR, V_th 1, published"] == 28.12
    assert [line[0] for line in modules.rows] == list(paper_tables.MODULES.values())
    assert len(networks.rows) == len(published.OUTPUTS) == 9
    for table in (modules, other, networks):
        ours = [place for place, column in enumerate(table.columns) if column in ("PSNR", "SSIM", "SSIM (paper)")]
        # Super-resolution and iterations are measured with weights of their recipe; data consistency, where it has it.
        lines = [line for line in table.rows if not any(name in line[0] for name in ("multi-", "iteration", "without"))]
        assert all(isinstance(line[place], float) for line in lines for place in ours)
    assert cost_of.rows[0][:3] == ["LDN", 234158, 234158]
    for name in NAMES:
        text = (tmp_path / f"tables/{name}.md").read_text()
        assert "protocol: " in text and "made by" in text and "not measured here" in text
        assert name == "cost" or (text.count("sha256") >= 4 and re.search(r"ldn[12]\.pth", text))
        assert r"\bottomrule" in (tmp_path / f"tables/{name}.tex").read_text()
        with open(tmp_path / f"tables/{name}.csv", newline="") as file:
            widths = {len(line) for line in csv.reader(line for line in file if not line.startswith("#"))}
        assert len(widths) == 1


def measurements(options: dict, monkeypatch) -> tuple[list[str], list[list]]:
    """Make the tables; return which stages were measured for it, and the rows of the sequence."""
    measured = []
    with monkeypatch.context() as patch:
        for name, stage in tables.STAGES.items():
            patch.setattr(stage, "main", lambda o, name=name, main=stage.main: measured.append(name) or main(o))
        patch.setattr(paper_tables, "NETWORKS", ())
        return measured, tables.main(tables.Options(**options))[0].rows


def test_values_are_measured_again_for_other_content_alone(options, tmp_path, monkeypatch, capsys):
    """Neither for other times or places, nor twice for the same; what changed is named."""
    first, rows = measurements(options, monkeypatch)
    assert first == ["bsn", "sr", "deblur", "deblur"] and measurements(options, monkeypatch) == ([], rows)
    moved = shutil.copytree(tmp_path / "GOPRO", tmp_path / "local/disk", copy_function=shutil.copyfile)
    options["base_folder"] = (str(moved),)
    assert measurements(options, monkeypatch) == ([], rows)
    capsys.readouterr()

    stream = moved / "threshold_2/test/spike_data/scene/000000.dat"
    before = stream.stat()
    stream.write_bytes(stream.read_bytes()[::-1])
    os.utime(stream, ns=(before.st_atime_ns, before.st_mtime_ns))
    again, changed = measurements(options, monkeypatch)
    assert again == ["deblur"] and changed != rows
    told = "deblur at V_th 2 is measured again: data: spike_data/scene/000000.dat changed\n"
    assert told in capsys.readouterr().err

    torch.save(LDN().state_dict(), options["deblur_path"][1])
    assert measurements(options, monkeypatch)[0] == ["deblur"]
    assert "deblur at V_th 2 is measured again: weights: --deblur_path changed" in capsys.readouterr().err

    code = source_fingerprint("train_deblur") | {"codes.physics.sdm": "other"}
    monkeypatch.setattr(tables, "source_fingerprint", lambda module: code)
    assert measurements(options, monkeypatch)[0] == first
    assert "deblur at V_th 2 is measured again: code: codes.physics.sdm changed\n" in capsys.readouterr().err

    monkeypatch.setattr(tables, "lpips_fault", lambda: "")
    assert measurements(options, monkeypatch)[0] == first
    assert "LPIPS: missing then, available now" in capsys.readouterr().err


def test_a_set_that_was_made_anew_at_another_threshold_shows_its_own_values(options, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "demo"
    shutil.copytree(tmp_path / "GOPRO/threshold_1", folder)
    options |= {"base_folder": (str(folder),), "deblur_path": options["deblur_path"][:1]}
    (folder / "demo.json").write_text('{"options": {"threshold": 1.0}}')
    measurements(options, monkeypatch)
    (folder / "demo.json").write_text('{"options": {"threshold": 4.0}}')
    assert measurements(options, monkeypatch)[0] == ["bsn", "sr", "deblur"]
    assert "V_th 4 is measured again: threshold: 1 then, 4 now" in capsys.readouterr().err


def test_each_value_is_shown_with_the_versions_that_measured_it(options, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "versions", lambda: {"python": "3.0", "commit": "0000abc"})
    measurements(options, monkeypatch)
    monkeypatch.setattr(tables, "versions", lambda: {"python": "3.0", "commit": "1111def"})
    assert measurements(options, monkeypatch)[0] == []
    text = (tmp_path / "tables/modules_1.md").read_text()
    assert "measured with python 3.0, commit 0000abc" in text and "1111def" not in text


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (None, "unknown"),
        ({}, "unknown"),
        ({"threshold": 1.0}, "1"),
        ({"threshold": [1.0]}, "1"),
        ({"threshold": [1.0, 4.0]}, "1 to 4"),
    ],
)
def test_a_threshold_is_what_is_known_of_it(options, tmp_path, monkeypatch, record, told):
    """Published numbers, which are of V_th 1, stand beside no other, and not beside an unknown one."""
    folder = tmp_path / "demo"
    shutil.copytree(tmp_path / "GOPRO/threshold_1", folder)
    if record is not None:
        (folder / "demo.json").write_text(json.dumps({"options": record}))
    options |= {"base_folder": (str(folder),), "deblur_path": options["deblur_path"][:1], "cost_size": (0,)}
    sequence, modules, networks = tables.main(tables.Options(**options))
    assert sequence.columns[1] == f"PSNR, V_th {told}" and modules.title.endswith(f"at V_th {told}")
    assert modules.name == f"modules_{told}".replace(" ", "_")
    for table in (modules, networks):
        assert ("PSNR, published" in table.columns) == (told == "1")
    assert (sequence.rows[0][3] == published.SEQUENCE["S-SDM (LDN)"][1]) == (told == "1")
    if told == "unknown":
        known = tables.main(tables.Options(**options | {"threshold": (1.0,)}))
        assert known[0].columns[1] == "PSNR, V_th 1" and "PSNR, published" in known[1].columns


def test_a_test_split_that_is_a_link_has_the_threshold_of_its_recordings(options, tmp_path):
    """The training split of re-simulated data has a range of thresholds; tested on are the recordings."""
    folder = tmp_path / "resimulated"
    folder.mkdir()
    (folder / "resimulated.json").write_text('{"options": {"threshold": [1.0, 4.0]}}')
    (folder / "test").symlink_to(tmp_path / "GOPRO/threshold_2/test")
    assert list(data_sets((str(folder),), ())) == [paper_tables.Threshold((2.0,))]


FLAGS = {
    "base_folder": (("nowhere", "elsewhere"), r"elsewhere and nowhere: both of V_th unknown"),
    "threshold": ((3.0, 4.0), r"--threshold 3: .*threshold_1 was made at V_th 1"),
    "bsn_path": (("nowhere.pth",), r"nowhere\.pth: no such weight file"),
    "sr_path": (("nowhere.pth",), r"nowhere\.pth: no such weight file"),
    "deblur_path": (("nowhere.pth",), r"nowhere\.pth: no such weight file"),
    "cost_size": ((32,), r"--cost_size 32: height and width"),
    "device": ("abacus", r"--device abacus: cannot be used here"),
    "workers": (-1, r"--workers -1: has to be 0 or more"),
    "output": ("file/folder", None),
    "use_small": (True, None),
}


@pytest.mark.parametrize("flag", [field.name for field in dataclasses.fields(tables.Options)])
def test_no_flag_is_ignored(options, tmp_path, flag):
    value, told = FLAGS[flag]
    if told:
        with pytest.raises(InputError, match=told):
            tables.main(tables.Options(**options | {flag: value}))
    elif flag == "output":
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(OSError, match="file/folder"):
            tables.main(tables.Options(**options | {"output": str(tmp_path / "file/folder")}))
    else:
        made = tables.main(tables.Options(**options | {"use_small": True}))
        assert any("the first 1 samples" in note for note in made[0].notes)


def test_weights_of_the_rates_recipe_need_no_bsn(options, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "MODEL", tmp_path / "nowhere")
    torch.save({"net": LDN().state_dict(), "recipe": recipe.ISI}, tmp_path / "isi.pth")
    own = {"bsn_path": (), "sr_path": (), "deblur_path": (str(tmp_path / "isi.pth"),)}
    _, modules, _, networks = tables.main(tables.Options(**options | own | {"cost_size": (0,)}))
    found = {line[0]: line[1] for line in modules.rows}
    assert found[paper_tables.MODULES["SDM MFSR"]] > found["blurry picture"] and found["SDM + BSN"] is None
    assert [line[0] for line in networks.rows if line[1] is not None] == ["LDN, colour"]


def test_what_does_not_fit_is_named(options, tmp_path):
    with pytest.raises(InputError, match=r"--deblur_path: one file, or one for each of the 1 data sets"):
        tables.main(tables.Options(**options | {"base_folder": (str(tmp_path / "GOPRO/threshold_1"),)}))
    with pytest.raises(InputError, match=r"nowhere\.pth: no such weight file.*--bsn_path"):
        tables.main(tables.Options(**options | {"bsn_path": (str(tmp_path / "nowhere.pth"),)}))
    with pytest.raises(InputError, match=r"both of V_th unknown; name one for each, or give the V_th of each by --thr"):
        data_sets((str(tmp_path / "a"), str(tmp_path / "b")), ())
    with pytest.raises(InputError, match="both of V_th 2; name one for each"):
        data_sets((str(tmp_path / "a"), str(tmp_path / "b")), (2.0, 2.0))
    for wrong in ((1.0,), (1.0, 0.0), (1.0, float("nan"))):
        with pytest.raises(InputError, match=r"--threshold 1\.0.*: a number above 0 for each of the 2 data sets"):
            data_sets((str(tmp_path / "a"), str(tmp_path / "b")), wrong)


@pytest.mark.parametrize("name", published.SIZE)
def test_parameters_and_multiply_adds_are_the_published_ones(name):
    parameters, giga = published.SIZE[name]
    small = cost(name, height=320, width=320, repeats=1) if name == "LDN" else None
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in NETWORKS[name]().parameters()) == parameters
    if small:
        assert small["multiply_adds"] * 9 / 1e9 == pytest.approx(giga, rel=2e-3)
        assert small["milliseconds"] > 0


def test_cells_are_escaped():
    table = Table("a", "50 % of a_b", ["x|y", "n"], [["a_b & c", 1234], ["", None]], ["note"])
    assert r"| x\|y | n |" in table.markdown() and "| a_b & c | 1,234 |" in table.markdown()
    assert r"a\_b \& c & 1,234 \\" in table.latex() and r"\caption{50 \% of a\_b}" in table.latex()
    assert "a_b & c,1234\r\n,\r\n# note\n" in table.csv()


@pytest.mark.parametrize(
    ("letter", "written"),
    {
        **{letter: f"\\{letter}" for letter in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }.items(),
)
def test_each_special_character_of_latex_is_shown_as_itself(letter, written):
    table = Table("a", f"1{letter}2", [f"3{letter}4", "n"], [[f"5{letter}6", None]], [f"7{letter}8\nnine"])
    lines = table.latex().splitlines()
    assert (
        rf"\caption{{1{written}2}}" in lines and f"3{written}4 & n \\\\" in lines and f"5{written}6 & - \\\\" in lines
    )
    assert lines[0] == f"% 7{letter}8 nine"  # of a comment nothing is left outside
