"""What programs say where their environment lacks something: a device, a package, weights, an encoding."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from training import run

from codes.engine import distributed, journal
from codes.engine.evaluate import lpips_fault
from codes.errors import InputError
from codes.evaluation import metrics
from codes.restoration.outputs import RECORD, Output, begin
from codes.restoration.pairs import find_pairs
from codes.restoration.preparation import check_picture


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("mps", "--device mps: not supported; cpu, cuda or cuda:NUMBER are"),
        ("meta", "--device meta: not supported; cpu, cuda or cuda:NUMBER are"),
        ("gpu", "--device gpu: cannot be used here ("),
        ("cuda:99", "--device cuda:99: cannot be used here ("),
    ],
)
def test_a_device_that_cannot_be_used_is_refused_in_one_line(device, message):
    with pytest.raises(InputError) as error:
        distributed.initialize(device)
    said = str(error.value)
    assert said.startswith(message) and "\n" not in said and said.endswith(("; cpu always can", "NUMBER are"))


def test_without_tensorboard_a_run_has_all_but_its_curves(data, weights, monkeypatch):
    monkeypatch.setattr(journal, "SummaryWriter", None)
    folder = run("sr", data, weights, epochs=2, evaluate_every=1)
    assert len(list(folder.glob("step-*/means.csv"))) == 2 and not list(folder.glob("events.*"))
    assert (folder / "log.txt").read_text().count("no curves are drawn, tensorboard is not installed") == 1


def test_missing_weights_of_lpips_are_said_once_in_a_short_line(data, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))

    def no_network(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    for known in (lpips_fault, metrics._alex):
        known.cache_clear()
    try:
        folder = run("sr", data, weights, epochs=2, evaluate_every=1, bsn_path=weights["bsn_path"])
    finally:
        lpips_fault.cache_clear()
    place, said = tmp_path / "hub/hub/checkpoints/alexnet-owt-7be5be79.pth", capsys.readouterr().err
    line = f"tables are without LPIPS: {place} is missing and cannot be downloaded"
    assert said.count(line) == said.count("LPIPS") == 1 and "urlopen" not in said
    tables = [json.loads(about.read_text()) for about in folder.glob("step-*/about.json")]
    assert [about["LPIPS"] for about in tables] == [line, line]


def test_names_outside_of_an_ascii_terminal_are_escaped(tmp_path):
    folder = tmp_path / "Übung 夜"
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0", "LC_ALL": "C"}
    make = [sys.executable, "scripts/make_demo.py", "--size", "32", "--train", "1", "--test", "1", "--output", folder]
    made = subprocess.run(make, cwd=ROOT, env=environment, capture_output=True)
    assert made.returncode == 0 and b"bung \\u" in made.stdout and (folder / "demo.json").is_file(), made.stderr
    wrong = subprocess.run([*make, "--seed", "1"], cwd=ROOT, env=environment, capture_output=True)
    assert wrong.returncode == 2 and wrong.stderr.startswith(b"error: ") and b"bung \\u" in wrong.stderr


def test_a_picture_or_folder_that_is_not_there_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"nowhere: no such picture or folder"):
        find_pairs(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"nowhere\.dat: no such spike file or folder"):
        find_pairs(tmp_path / "a.png", tmp_path / "nowhere.dat")
    with pytest.raises(InputError, match=r"a\.png: name the spike file of this picture after it"):
        find_pairs(tmp_path / "a.png")


@pytest.mark.parametrize(
    "picture, told",
    [
        (np.zeros((1, 1, 3), np.uint8), "a picture of 1x1; 20x20 or more are accepted"),
        (np.full((64, 64, 3), 255, np.uint8), "shows nothing, all its values are 255"),
    ],
)
def test_a_picture_that_cannot_be_restored_is_named(picture, told):
    with pytest.raises(InputError, match=rf"blur\.png: {told}"):
        check_picture("blur.png", picture)


def test_two_programs_do_not_write_into_one_folder(tmp_path):
    """Both found it empty before they restored."""
    output = Output(tmp_path / "out", None)
    begin(output, [], {"--method": "sdm"}, may_exist=False)
    with pytest.raises(InputError, match=r"out: another program writes there; name another one"):
        begin(output, [], {"--method": "tfp"}, may_exist=False)
    assert '"sdm"' in (output.folder / RECORD).read_text()
    begin(output, [], {"--method": "tfp"}, may_exist=True)
