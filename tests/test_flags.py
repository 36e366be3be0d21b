"""No flag is ignored: each is used in every mode of its program, or refused by name where it would not be."""

import dataclasses
import os
from importlib import import_module

import numpy as np
import pytest
import torch

from codes.cli import parse
from codes.data.images import write_image
from codes.data.spikes import write_spikes
from codes.engine import Journal
from codes.errors import InputError
from codes.networks import LDN

USED = ()  # in every mode
# Program: flag: command lines in which it could not be used, or whose value means nothing, and what they are refused
# with. A new flag belongs here.
FLAGS = {
    "scripts.export": {
        "weights": USED,
        "out": USED,
        "formats": USED,
        "spike_deblur_len": ("LDN.pth --spike_deblur_len 9", "--spike_deblur_len 21"),
        "force": USED,
    },
    "scripts.figures": {
        "run": ("empty", "no step-*/means.csv found"),
        "output": USED,
        "samples": ("sr --samples -1", "--samples -1"),
        "width": ("sr --width 99", "--width 99: no grid is drawn"),
        "better_by": ("sr --better_by 2", "--better_by is for runs of train_deblur.py"),
    },
    "scripts.inspect_spikes": {
        "files": USED,
        "picture": ("a.dat a.dat --picture a.png", "--picture a.png: belongs to one file"),
        "instant": USED,
        "output": USED,
    },
    "scripts.dev.kill_test": {
        "kills": ("--kills 0", "--kills 0: at least 1"),
        "stages": USED,
        "seed": USED,
        "output": ("--output LDN.pth", "LDN.pth: exists already"),
        "force": USED,
    },
    "scripts.dev.soak": {
        "pid": ("999999999 LDN.pth", "999999999: no such process"),
        "log": ("PID missing.log", "missing.log: no such file"),
        "output": ("PID LDN.pth --output soaked", "soaked/soak.csv: exists already"),
        "every": ("PID LDN.pth --every 0", "--every 0: seconds above 0"),
    },
    "scripts.dev.benchmarks.data": {
        "frames": USED,
        "count": ("frames --count 9", "--count 9 needs more"),
        "workers": USED,
        "repeats": USED,
        "interpolator": USED,
        "json": USED,
    },
    "scripts.dev.benchmarks.interpolation": dict.fromkeys(("folder", "frames", "weights", "json"), USED),
    "scripts.dev.benchmarks.metrics": {
        "base_folder": USED,
        "size": ("--base_folder data --size 32 32", "--size is for the synthetic sample"),
        "repeats": USED,
        "threads": USED,
        "json": USED,
    },
    "scripts.dev.benchmarks.load": {
        "base_folder": USED,
        "size": ("--base_folder data --size 32 32", "--size is for synthetic pictures"),
        "samples": ("--base_folder data --samples 99", "--samples 99: data has 3"),
        "roi_size": USED,
        "repeats": USED,
        "device": USED,
        "json": USED,
    },
    "scripts.dev.benchmarks.train": {
        "base_folder": USED,
        "stages": USED,
        "roi_size": ("--base_folder data --roi_size 512", "--roi_size 512: data has pictures of 32x64"),
        "bs": USED,
        "steps": ("--base_folder data --roi_size 32 --steps 9", "--steps 9: at least 20"),
        "repeats": USED,
        "tea_loss": (
            "--base_folder data --roi_size 32 --stages BSN --tea_loss lpips",
            "--tea_loss lpips: no stage with a teacher",
        ),
        "precision": USED,
        "compile": USED,
        "cache": USED,
        "workers": ("--base_folder data --roi_size 32 --cache ram --workers 3", "--workers 3: with --cache ram"),
        "device": USED,
        "json": USED,
    },
    "scripts.dev.benchmarks.eval": dict.fromkeys(("size", "repeats", "device", "json"), USED),
    "scripts.dev.benchmarks.infer": dict.fromkeys(
        ("size", "times", "precision", "compile", "repeats", "device", "json"), USED
    ),
    "scripts.dev.benchmarks.recipes": dict.fromkeys(("size", "roi_size", "bs", "repeats", "device", "json"), USED),
    "scripts.dev.benchmarks.growth": dict.fromkeys(
        ("picture", "sides", "batches", "samples", "size", "precision", "repeats", "device", "json"), USED
    ),
    "scripts.check_gpu": {
        "device": USED,
        "output": ("--output LDN.pth", "LDN.pth: exists already"),
        "short": USED,
        "minutes": ("--minutes 0", "--minutes 0: has to be above 0"),
        "checks": USED,
    },
}
REFUSED = [(program, flag, *case) for program, flags in FLAGS.items() for flag, case in flags.items() if case != USED]


@pytest.fixture
def files(tmp_path, data, monkeypatch):
    """Work in a folder with weights, a data set, a stream, frames, and runs without pictures and without results."""
    monkeypatch.chdir(tmp_path)
    torch.save(LDN().state_dict(), "LDN.pth")
    for folder in ("empty", "soaked"):
        (tmp_path / folder).mkdir()
    (tmp_path / "soaked/soak.csv").write_text("")
    write_spikes(tmp_path / "a.dat", np.zeros((137, 8, 16), np.uint8))
    write_image(tmp_path / "a.png", np.zeros((32, 64, 3), np.uint8))
    write_image(tmp_path / "frames/000000.png", np.zeros((32, 64, 3), np.uint8))
    journal = Journal(tmp_path / "sr")
    journal.table(5, {"SR": {"psnr": 20.0, "ssim": 0.5}}, [{"sample": "a", "output": "SR", "psnr": 20.0, "ssim": 0.5}])
    journal.close()


@pytest.mark.parametrize("program", FLAGS)
def test_every_flag_is_accounted_for(program):
    fields = {field.name for field in dataclasses.fields(import_module(program).Options)}
    assert fields == FLAGS[program].keys()


@pytest.mark.parametrize(("program", "flag", "words", "message"), REFUSED, ids=[f"{p}-{f}" for p, f, *_ in REFUSED])
def test_a_flag_that_cannot_be_used_is_refused_before_anything_is_written(
    program, flag, words, message, files, tmp_path
):
    before = sorted(tmp_path.rglob("*"))
    module = import_module(program)
    with pytest.raises(InputError) as error:
        module.main(parse(module.Options, "", words.replace("PID", str(os.getpid())).split()))
    assert message in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
