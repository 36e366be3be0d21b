"""Former names and values in weight files, records of runs and commands mean what they meant."""

import json

import pytest
import torch
from training import LIVE, assert_same, run, state

import train_bsn
import train_deblur
from codes.cli import parse
from codes.errors import InputError
from codes.networks import LDN, read_recipe
from codes.recipe import ISI, RESIM
from scripts import deblur

FORMER_ISI = {"spike_input": "rates", "picture": "blurry", "consistency": "none", "teacher": "fused"}
FORMER_RESIM = {"spike_input": "rates", "picture": "fused", "consistency": "picture", "teacher": "refilmed"}


@pytest.mark.parametrize("former, now", [(FORMER_ISI, ISI), (FORMER_RESIM, RESIM)])
def test_weight_files(tmp_path, former, now):
    torch.save({"net": LDN().state_dict(), "recipe": former | {"bsn_len": "9"}}, tmp_path / "LDN.pth")
    assert read_recipe(tmp_path / "LDN.pth") == now | {"bsn_len": "9"}


def test_a_run_resumes_bit_for_bit(data, weights):
    whole = state(run("deblur", data, weights, **LIVE, exp_name="whole", lr_cycles=2.0))
    folder = run("deblur", data, weights, **LIVE, steps=1, lr_cycles=2.0)
    record = json.loads((folder / "options.json").read_text())
    options = record["options"]
    options |= {"recipe": "rates", "teacher": "consistent", "lr_swings": options.pop("lr_cycles")}
    (folder / "options.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"--teacher: sdm then, mfsr now"):
        run("deblur", data, weights, **LIVE | {"teacher": "mfsr"}, lr_cycles=2.0)
    run("deblur", data, weights, **LIVE, lr_cycles=2.0)
    assert_same(whole["net"], state(folder)["net"])
    assert_same(whole["optimizer"], state(folder)["optimizer"])


@pytest.mark.parametrize(
    "module, words, name, value",
    [
        (train_deblur, "--recipe rates", "recipe", "isi"),
        (train_deblur, "--recipe fused", "recipe", "resim"),
        (train_deblur, "--teacher consistent", "teacher", "sdm"),
        (train_deblur, "--teacher fused", "teacher", "mfsr"),
        (train_deblur, "--teacher refilmed", "teacher", "resim"),
        (train_deblur, "--spike_input rates", "spike_input", "isi"),
        (train_deblur, "--lr_swings 2.5", "lr_cycles", 2.5),
        (train_bsn, "--spike_input rates", "spike_input", "isi"),
        (train_bsn, "--spike_bsn_len 7", "bsn_len", 7),
        (deblur, "a.png a.dat --method fused", "method", "mfsr"),
        (deblur, "a.png a.dat --spike_input rates", "spike_input", "isi"),
        (deblur, "a.png a.dat --looks 2", "iterations", 2),
    ],
)
def test_commands(module, words, name, value):
    assert getattr(parse(module.Options, "", words.split()), name) == value
