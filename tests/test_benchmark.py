"""Each measure of scripts/dev/benchmark.py runs as a user runs it, and reports its rate next to a reference rate."""

import json
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from conftest import ROOT

from codes.cli import parse
from codes.data.images import write_image
from codes.errors import InputError
from codes.reporting.cost import step_flops, training_step
from codes.reporting.machine import copy_rate, matmul_rate, seconds_in_turn, seconds_of, spread, timed
from scripts.dev import benchmark

SMALL_TRAIN = "--stages SR LDN --roi_size 32 --steps 30 --repeats 1 --workers 0 --device cpu"


def measured(command: str, monkeypatch, capsys) -> list[dict]:
    """Run a measure and return the rows of its tables; the rate of matrix products, slow to measure, is given."""
    name, *words = command.split()
    assert name in benchmark.MEASURES
    measure = import_module(f"scripts.dev.benchmarks.{name}")
    for rate in ("matmul_rate", "copy_rate"):
        monkeypatch.setattr(measure, rate, lambda *_: 1e11, raising=False)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    measure.main(parse(measure.Options, "", [*words, "--json"]))
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    "command, rows, share",
    [
        ("load --size 64 96 --samples 1 --repeats 2 --roi_size 32", 7, "of cv2.imread"),
        ("eval --size 32 32 --repeats 2", 1, "of copying"),
        ("metrics --size 32 32 --repeats 2", 3, "of reading"),
        ("growth growth.svg --sides 64 --batches 1 --samples 4 --size 256 384 --repeats 1 --device cpu", 15, "value"),
        ("infer --size 32 64 --repeats 2 --device cpu", 2, "share"),
        ("recipes --size 32 64 --roi_size 32 --repeats 2 --device cpu", 9, "of the first"),
        ("data frames --count 150 --workers 1 --repeats 2", 1, "of cv2.imread"),
        ("interpolation . --frames 2", 6, "PSNR"),
    ],
)
def test_rates_are_reported_next_to_reference_rates(tmp_path, command, rows, share, monkeypatch, capsys):
    for number in range(150):
        write_image(tmp_path / f"frames/{number:06d}.png", np.full((16, 16, 3), number, np.uint8))
    monkeypatch.chdir(tmp_path)
    found = measured(command, monkeypatch, capsys)
    assert len(found) == rows and all(row[share] > 0 and row.get("spread", 0) >= 0 for row in found)


def test_training_is_measured_and_compared_with_plain_networks(data, monkeypatch, capsys):
    train = import_module("scripts.dev.benchmarks.train")
    monkeypatch.setattr(
        train, "seconds_in_turn", lambda calls, **_: {"ours": [1.0, 1.0, 1.0], "plain": [1.5, 1.5, 1.0]}
    )
    rows = measured(f"train --base_folder {data} {SMALL_TRAIN}", monkeypatch, capsys)
    stages, comparisons = rows[:2], rows[2:]
    assert [row["teacher loss"] for row in stages] == ["none", "ssim"]
    assert all(row["hours of published length"] > 0 and row["share"] > 0 for row in stages)
    assert [(row["network"], row["speed-up"]) for row in comparisons] == [("SR", 1.5), ("LDN", 1.5)]


def test_steps_slower_than_those_of_plain_networks_fail():
    train = import_module("scripts.dev.benchmarks.train")
    row = {"network": "SR", "crop": 256}
    train.refuse_slower([row | {"speed-up": 1 - train.NOISE / 2}])
    with pytest.raises(SystemExit, match=r"failed: .*SR at crops of 256: 0\.80 of their speed"):
        train.refuse_slower([row | {"speed-up": 1.3}, row | {"speed-up": 0.8}])


@pytest.mark.parametrize("name", ["BSN", "SR", "LDN"])
def test_a_plain_step_is_contiguous_and_both_change_the_weights(name, monkeypatch):
    """Formats are seen in the first convolution of each step."""
    formats, made = [], []
    real = torch.optim.Adam

    def adam(parameters, **settings):
        parameters = list(parameters)
        made.append((parameters, [each.detach().clone() for each in parameters], settings["fused"]))
        return real(parameters, **settings)

    monkeypatch.setattr(torch.optim, "Adam", adam)
    for plain in (False, True):
        training_step(name, side=32, batch=1, device="cpu", plain=plain)()
        after, before, fused = made[-1]
        assert any(not torch.equal(one, other) for one, other in zip(after, before, strict=True))
        formats.append((all(each.is_contiguous() for each in after), fused))
    assert formats[1] == (True, None)


def test_operations_of_a_step_are_those_of_its_convolutions():
    """EDSR: forward, and backward twice as much, without the gradient of the input; by hand for each layer."""
    side = 8
    layers = [
        (1, 1, 1, 1),
        (1, 64, 9, 1),
        *[(64, 64, 9, 1)] * 33,
        (64, 256, 9, 1),
        (64, 256, 9, 4),
        (64, 1, 9, 16),
        (1, 1, 1, 16),
    ]
    forward = [2 * inputs * outputs * kernel * side**2 * scale for inputs, outputs, kernel, scale in layers]
    trained = 3 * sum(forward[1:-1]) - forward[1]  # the two shifts of the mean are fixed, the input has no gradient
    assert step_flops("SR", side=4 * side, batch=1) == trained + forward[0] + 2 * forward[-1]


@pytest.mark.parametrize("network", ["BSN", "LDN"])
def test_operations_of_every_network_are_counted(network):
    """A batch of two takes twice the operations."""
    assert 0 < 2 * step_flops(network, side=32, batch=1) == step_flops(network, side=32, batch=2)


def test_crops_larger_than_the_pictures_are_refused(data):
    """They would be cut smaller, and the operations of the crops asked for be counted."""
    train = import_module("scripts.dev.benchmarks.train")
    with pytest.raises(InputError, match=r"--roi_size 512: .* 32x64.* 4 to 32 fit.*make_demo\.py .* --size 512"):
        train.main(train.Options(base_folder=str(data), roi_size=(32, 512)))


def test_the_front_names_its_measures():
    front = [sys.executable, str(ROOT / "scripts/dev/benchmark.py")]
    wrong = subprocess.run([*front, "speed"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "speed: unknown measure; accepted: data, " in wrong.stderr
    listed = {path.stem for path in (ROOT / "scripts/dev/benchmarks").glob("*.py")} - {"common"}
    assert listed == set(benchmark.MEASURES)
    usage = subprocess.run([*front, "eval", "--help"], capture_output=True, text=True, check=True).stdout
    assert "--repeats INT" in usage


def test_calls_are_timed_in_turn_after_a_warm_up_round():
    made = []
    found = seconds_in_turn({"a": lambda: made.append("a"), "b": lambda: made.append("b")}, repeats=2)
    assert made == list("ababab") and {name: len(times) for name, times in found.items()} == {"a": 2, "b": 2}


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
    """A product that takes a hundredth of a second has the rate that its size says; so has a copy."""
    monkeypatch.setattr("codes.reporting.machine.timed", lambda call, **settings: [0.01])
    monkeypatch.setattr(torch, "matmul", lambda one, other: None)
    assert matmul_rate("cpu") == 2 * 2048**3 / 0.01
    monkeypatch.setattr("codes.reporting.machine.timed", lambda call, **settings: [1.0])
    assert matmul_rate("cpu") == 2 * 256**3  # so slow that larger products are left out
    assert copy_rate("cpu") == 2 * 4 * 2**26
