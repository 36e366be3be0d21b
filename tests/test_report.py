"""The figures of a run: the grid is what the pictures are, the page works in a browser and needs no other file."""

import csv
import re
import xml.etree.ElementTree as ElementTree
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from browser import shown_in_browser

from codes.data.images import read_image
from codes.engine import Journal
from codes.engine.provenance import record_options
from codes.engine.tables import read_csv, write_csv
from codes.errors import InputError
from codes.reporting.curves import draw_panel, group_into_panels
from codes.reporting.figures import GAP, LARGEST_ERROR, comparison_grid, side_by_side
from codes.reporting.run_results import read_curves, read_record
from scripts import figures

HOSTILE = "</script><b onload='x'>\"&"


@pytest.fixture
def run(tmp_path) -> Path:
    """A run of two evaluations, with names that would break a careless page."""
    folder = tmp_path / "log" / "deblur" / "<i>run"
    journal = Journal(folder)
    rows = ["blurry", HOSTILE.replace("/", ""), "LDN"]
    for step in (5, 10):
        journal.scalars(step, {"train/reblur": 1 / step, "train/lr": 0.1})
        for place, row in enumerate([*rows, "truth"]):
            journal.picture(step, "scene/000001", row, torch.full((3, 32, 64), 0.2 * place))
        values = [{"sample": "scene/000001", "output": row, "psnr": 20.0 + step, "ssim": 0.5} for row in rows]
        means = {row: {"psnr": 20.0 + step, "ssim": 0.5} for row in rows}
        journal.table(step, means, values)
    record_options(folder, {"exp_name": HOSTILE})
    journal.close()
    return folder


def test_the_newest_evaluation_and_all_curves_are_read(run):
    record, curves = read_record(run), read_curves(run)
    assert record.folder.name == "step-0000010" and record.rows["LDN"] == {"psnr": 30, "ssim": 0.5}
    assert list(record.outputs("scene/000001")) == [*record.rows, "truth"]
    assert curves["train/reblur"] == [(5, pytest.approx(0.2)), (10, pytest.approx(0.1))]
    assert list(group_into_panels(curves))[:2] == ["train/reblur", "train/lr"]
    with pytest.raises(InputError, match="name the folder of a run"):
        read_record(run / "step-0000010")


def test_the_grid_shows_detail_error_and_numbers():
    truth = np.zeros((64, 128, 3), np.uint8)
    blurry = truth.copy()
    blurry[16:48, 64:96] = 255
    image = comparison_grid({"blurry": blurry, "truth": truth}, {"blurry": "20 dB"}, width=128)
    assert image.shape[1] == 2 * (128 + GAP) + GAP
    detail = image[GAP + 64 + GAP :][:128, GAP : GAP + 128]
    assert (detail == 255).all()  # the square that errs is what is enlarged
    errors = image[2 * GAP + 64 + 128 + GAP :][:64, GAP : GAP + 128]
    brightest = cv2.applyColorMap(np.full((1, 1), 255, np.uint8), cv2.COLORMAP_INFERNO)[0, 0]
    assert (errors[30, 80] == brightest).all() and errors[5, 5].max() < 10 and LARGEST_ERROR < 1
    assert (image[-60:, : 128 + GAP] < 100).any()


def test_a_grid_without_a_truth_has_no_errors():
    picture = np.zeros((20, 40, 3), np.uint8)
    assert len(comparison_grid({"blurry": picture}, {}, width=80)) < len(
        comparison_grid({"blurry": picture, "truth": picture}, {}, width=80)
    )


def test_curves_are_well_formed_and_leave_gaps():
    text = draw_panel("<psnr>", {"a&b": [(0, 1.0), (1, float("nan")), (2, 3.0), (3, 4.0)], "c": [(0, 2.0)]})
    paths = [path.get("d") for path in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}path")]
    assert paths[-2].count("M") == 2 and paths[-2].count("L") == 1 and "nan" not in text
    assert draw_panel("loss", {"a": [(0, 1e-3), (1, 0.0), (2, 1e-2)]}, logarithmic=True).count(' d="M') == 6  # 5 lines
    ElementTree.fromstring(draw_panel("empty", {}))


def test_figures_writes_grid_curves_and_page(run):
    written = {path.name for path in figures.main(figures.Options(run=str(run)))}
    assert {"grid-scene_000001.png", "curves-train-reblur.svg", "curves-psnr.svg", "report.html"} <= written
    curves = list(csv.DictReader((run / "curves.csv").read_text().splitlines()))
    assert [float(line["value"]) for line in curves if line["curve"] == "train/reblur"] == [0.2, 0.1]
    assert read_image(run / "grid-scene_000001.png").shape[1] == 4 * (320 + GAP) + GAP


def test_of_a_run_that_was_only_evaluated_the_latest_evaluation_is_drawn(run):
    for name in ("test-20260101-120000", "test-20260102-120000"):
        (run / name).mkdir()
    for step, name in (("step-0000005", "test-20260102-120000"), ("step-0000010", "test-20260101-120000")):
        (run / step).rename(run / name / "step-0000000")
    written = figures.main(figures.Options(run=str(run)))
    assert {path.parent for path in written} == {run / "test-20260102-120000"}


def test_more_samples_than_were_saved_are_named(run, capsys):
    figures.main(figures.Options(run=str(run), samples=99))
    assert re.search(r"--samples 99: .*step-\d+ has the pictures of \d+\n", capsys.readouterr().err)


def test_the_page_holds_all_it_needs_and_escapes_every_name(run):
    figures.main(figures.Options(run=str(run)))
    page = (run / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", page) and "@import" not in page and "url(" not in page
    assert "<b onload" not in page and "<i>run" not in page
    assert page.count("</script>") == 2 and "<svg" in page


# Runs in the page: moves the slider, changes a side; tells through the title.
PROBE = """<script>addEventListener("load", () => {
  const pair = document.querySelector(".pair"), left = pair.querySelector("img.left");
  const slider = pair.querySelector("input"), shown = [];
  for (const place of [0, 25, 100]) {
    slider.value = place;
    slider.dispatchEvent(new Event("input"));
    shown.push(getComputedStyle(left).clipPath);
  }
  pair.scrollIntoView();
  const box = pair.getBoundingClientRect(), hit = document.elementFromPoint(box.x + 9, box.y + 9) === slider;
  const choice = document.querySelector("select.right"), before = pair.querySelector("img.right").src;
  choice.value = "truth";
  choice.dispatchEvent(new Event("change"));
  const changed = pair.querySelector("img.right").src !== before;
  const loaded = [...document.images].every(image => image.naturalWidth === 64);
  document.title = JSON.stringify({ shown, hit, changed, loaded, faults });
});</script>"""


def test_the_page_works_in_a_browser(run, tmp_path):
    figures.main(figures.Options(run=str(run)))
    document = shown_in_browser((run / "report.html").read_text(), tmp_path, PROBE)
    title = unescape(re.search(r"<title>(.*?)</title>", document, re.DOTALL)[1])
    assert title.endswith('"faults":[]}') and '"hit":true,"changed":true,"loaded":true' in title
    assert re.findall(r"inset\(0px (\S+) ", title) == ["100%", "75%", "0%"], title


def test_pictures_of_different_sizes_lie_side_by_side_under_their_names():
    rows = [[np.full((10, 200, 3), shade, np.uint8) for shade in (10, 50)], [np.zeros((20, 90, 3), np.uint8)] * 2]
    image = side_by_side(("one", "two"), rows)
    head = len(image) - 30
    assert (
        image.shape[1] == 400
        and (image[head : head + 10, :200] == 10).all()
        and (image[head + 10 :, 180:] == 255).all()
    )
    assert image[:head, :100].min() < 100 and image[:head, 200:300].min() < 100


def test_a_run_that_is_no_better_ends_with_code_1(run):
    assert "strip.png" not in {path.name for path in figures.main(figures.Options(run=str(run)))}
    with pytest.raises(SystemExit, match=r"failed: LDN gains .* asks for 2 dB"):
        figures.main(figures.Options(run=str(run), better_by=2.0))
    figures.main(figures.Options(run=str(run), better_by=0.0))


def test_a_metric_that_a_row_lacks_is_read_as_missing(tmp_path):
    write_csv(tmp_path / "means.csv", [{"output": "a", "psnr": 1.5, "lpips": 0.5}, {"output": "b", "psnr": 2.0}])
    assert read_csv(tmp_path / "means.csv", "output") == {("a",): {"psnr": 1.5, "lpips": 0.5}, ("b",): {"psnr": 2.0}}
