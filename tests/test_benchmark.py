"""Each measure of speed runs as a user runs it, and says its rate beside its yardstick."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from codes.cli import parse
from codes.data.images import write_image
from codes.errors import InputError
from codes.reporting.machine import copy_rate, matmul_rate, seconds_of, spread, timed


@pytest.fixture
def benchmark(monkeypatch):
    found = importlib.util.spec_from_file_location("benchmark", ROOT / "scripts/dev/benchmark.py")
    benchmark = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "benchmark", benchmark)
    found.loader.exec_module(benchmark)
    return benchmark


@pytest.mark.parametrize(
    "command, rows, share",
    [
        ("load --size 64 96 --samples 1 --repeats 2 --roi_size 32", 7, "of cv2.imread"),
        ("eval --size 32 32 --repeats 2", 1, "copies"),
        ("growth growth.svg --sides 16 --batches 1 --samples 4 --size 256 384 --repeats 1 --device cpu", 15, "value"),
        ("infer --size 32 64 --repeats 2 --device cpu", 2, "share"),
        ("recipes --size 32 64 --roi_size 32 --repeats 2 --device cpu", 9, "of the first"),
        ("data frames --count 150 --workers 1 --repeats 2", 1, "of cv2.imread"),
        ("train --stages SR LDN --roi_size 32 --steps 30 --workers 0 --device cpu --base_folder", 2, "share"),
    ],
)
def test_rates_are_told_beside_their_yardsticks(data, benchmark, command, rows, share, monkeypatch, capsys):
    """Ceilings, which take long to measure, are given here; that they are measured is tested below."""
    if command.startswith("data"):
        for number in range(150):
            write_image(data.parent / f"frames/{number:06d}.png", np.full((16, 16, 3), number, np.uint8))
    monkeypatch.setattr(benchmark, "matmul_rate", lambda *_: 1e11)
    monkeypatch.setattr(benchmark, "copy_rate", lambda *_: 1e10)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    name, *words = [*command.split(), *([str(data)] if command.endswith("--base_folder") else []), "--json"]
    monkeypatch.chdir(data.parent)
    measure, options = benchmark.BENCHMARKS[name]
    measure(parse(options, "", words))
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == rows and all(row[share] > 0 and row.get("spread", 0) >= 0 for row in found)
    if name == "train":
        assert [row["teacher loss"] for row in found] == ["none", "ssim"]
        assert all(row["hours of published length"] > 0 for row in found)


def test_crops_that_the_pictures_do_not_hold_are_refused(data, benchmark):
    """They would be cut smaller, and the operations of the crops asked for be counted."""
    with pytest.raises(InputError, match=r"--roi_size 512: .* 32x64.* 4 to 32 fit.*make_demo\.py .* --size 512"):
        benchmark.train(benchmark.TrainOptions(base_folder=str(data), roi_size=512))


def test_the_time_of_a_gpu_is_that_of_what_was_launched(monkeypatch):
    """It begins when nothing is left to do there, and ends when all of the call is done."""
    done = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: done.append("waited"))
    assert seconds_of(lambda: done.append("launched"), "cuda") >= 0
    assert done == ["waited", "launched", "waited"]


def test_time_is_what_passed_and_spread_is_of_the_middle_half():
    assert spread([1, 2, 3, 4, 100]) == pytest.approx((52 - 1.5) / 3)
    assert len(timed(lambda: None, repeats=5)) == 5


def test_ceilings_grow_with_what_is_done(monkeypatch):
    """A product that takes a second has the rate that its size says; so has a copy."""
    monkeypatch.setattr("codes.reporting.machine.timed", lambda call, **settings: [1.0])
    monkeypatch.setattr(torch, "matmul", lambda one, other: None)
    assert matmul_rate("cpu") == 2 * 2048**3
    assert copy_rate("cpu") == 2 * 4 * 2**26
