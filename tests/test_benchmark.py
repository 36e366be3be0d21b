"""Each measure of speed runs as a user runs it, and says its rate beside its yardstick."""

import importlib.util
import json
import sys

import pytest
import torch
from conftest import ROOT

from codes.cli import parse
from codes.speed import copy_rate, matmul_rate, spread, timed


@pytest.mark.parametrize(
    "command, rows, share",
    [
        ("load --size 64 96 --samples 1 --repeats 2 --roi_size 32", 7, "of cv2.imread"),
        ("eval --size 32 32 --repeats 2", 1, "copies"),
        ("growth growth.svg --sides 16 --batches 1 --samples 4 --size 256 384 --repeats 1 --device cpu", 15, "value"),
        ("infer --size 32 64 --repeats 2 --device cpu", 2, "share"),
        ("train --stages SR LDN --roi_size 32 --steps 30 --workers 0 --device cpu --base_folder", 2, "published hours"),
    ],
)
def test_rates_are_told_beside_their_yardsticks(data, command, rows, share, monkeypatch, capsys):
    """Ceilings, which take long to measure, are given here; that they are measured is tested below."""
    found = importlib.util.spec_from_file_location("benchmark", ROOT / "scripts/benchmark.py")
    benchmark = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "benchmark", benchmark)
    found.loader.exec_module(benchmark)
    monkeypatch.setattr(benchmark, "matmul_rate", lambda *_: 1e11)
    monkeypatch.setattr(benchmark, "copy_rate", lambda *_: 1e10)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    name, *words = [*command.split(), *([str(data)] if command.endswith("--base_folder") else []), "--json"]
    monkeypatch.chdir(data.parent)
    measure, options = benchmark.BENCHMARKS[name]
    measure(parse(options, "", words))
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == rows and all(row[share] > 0 and row.get("spread", 0) >= 0 for row in found)


def test_time_is_what_passed_and_spread_is_of_the_middle_half():
    assert spread([1, 2, 3, 4, 100]) == pytest.approx((52 - 1.5) / 3)
    assert len(timed(lambda: None, repeats=5)) == 5


def test_ceilings_grow_with_what_is_done(monkeypatch):
    """A product that takes a second has the rate that its size says; so has a copy."""
    monkeypatch.setattr("codes.speed.timed", lambda call, **settings: [1.0])
    monkeypatch.setattr(torch, "matmul", lambda one, other: None)
    assert matmul_rate("cpu") == 2 * 2048**3
    assert copy_rate("cpu") == 2 * 4 * 2**26
