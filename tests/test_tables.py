"""The tables: ours and published numbers apart, sources under each, nothing measured twice; cost as published."""

import csv
import re
import sys

import numpy as np
import pytest
import torch
from conftest import make_data

from codes import recipe
from codes.data.images import write_image
from codes.errors import InputError
from codes.evaluation import published
from codes.networks import BSN, EDSR, LDN
from codes.reporting.cost import NETWORKS, cost
from codes.reporting.tables import Table
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
    monkeypatch.setattr(tables, "NETWORKS", ("LDN",))
    monkeypatch.setattr(
        sys.modules["codes.engine.evaluate"], "_has_lpips", lambda journal: False
    )  # a download that may take long to fail
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
    assert [line[0] for line in modules.rows] == list(tables.MODULES.values())
    assert len(networks.rows) == len(published.OUTPUTS) == 9
    for table in (modules, other, networks):
        ours = [place for place, column in enumerate(table.columns) if column in ("PSNR", "SSIM", "SSIM (paper)")]
        # Fusion and looks are measured with weights of their recipe; data consistency, where it is of the recipe.
        lines = [line for line in table.rows if not any(name in line[0] for name in ("fused", "one look", "before"))]
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

    def again(options: object) -> None:
        raise AssertionError("measured twice")

    for stage in tables.STAGES.values():
        monkeypatch.setattr(stage, "main", again)
    monkeypatch.setattr(tables, "NETWORKS", ())
    assert tables.main(tables.Options(**options))[0].rows == sequence.rows
    torch.save(LDN().state_dict(), options["deblur_path"][1])
    with pytest.raises(AssertionError, match="measured twice"):
        tables.main(tables.Options(**options))


def test_weights_of_the_rates_recipe_need_no_bsn(options, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "MODEL", tmp_path / "nowhere")
    torch.save({"net": LDN().state_dict(), "recipe": recipe.RATES}, tmp_path / "rates.pth")
    own = {"bsn_path": (), "sr_path": (), "deblur_path": (str(tmp_path / "rates.pth"),)}
    _, modules, _, networks = tables.main(tables.Options(**options | own | {"cost_size": (0,)}))
    found = {line[0]: line[1] for line in modules.rows}
    assert found[tables.MODULES["SDM MFSR"]] > found["blurry picture"] and found["SDM + BSN"] is None
    assert [line[0] for line in networks.rows if line[1] is not None] == ["LDN, colour"]


def test_what_does_not_fit_is_named(options, tmp_path):
    with pytest.raises(InputError, match=r"--deblur_path: one file, or one for each of the 1 data sets"):
        tables.main(tables.Options(**options | {"base_folder": (str(tmp_path / "GOPRO/threshold_1"),)}))
    with pytest.raises(InputError, match=r"nowhere\.pth: no such weight file.*--bsn_path"):
        tables.main(tables.Options(**options | {"bsn_path": (str(tmp_path / "nowhere.pth"),)}))
    with pytest.raises(InputError, match="both of V_th 1"):
        tables.data_sets((str(tmp_path / "a"), str(tmp_path / "b")))


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
