"""The three scripts, run as a user runs them, on tiny data: they resume bit for bit, measure, stop with a reason."""

import copy
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, needs_compiler
from training import ISI, LIVE, STAGES, assert_same, lines, losses, run, state, update_difference

import train_bsn
import train_deblur
import train_sr
from codes import stage
from codes.cli import parse
from codes.data.batches import Batches, Packed
from codes.data.dataset import SpikeDataset
from codes.data.images import write_image
from codes.data.spikes import write_spikes
from codes.distillation.label_cache import cache_labels
from codes.distillation.teachers import NetworkTeacher
from codes.engine import distributed
from codes.errors import InputError
from codes.networks import EDSR, LDN
from codes.stage import loaders


# BSN takes 5 steps a batch: 7 stops it in the middle of the second.
@pytest.mark.parametrize(
    "stage, stop, recipe", [("bsn", 7, {}), ("sr", 3, {}), ("deblur", 3, {}), ("deblur", 3, ISI), ("deblur", 3, LIVE)]
)
def test_stopped_and_resumed_is_uninterrupted(data, weights, stage, stop, recipe):
    through = run(stage, data, weights, exp_name="through", workers=1, **recipe)
    stopped = run(stage, data, weights, exp_name="stopped", workers=1, steps=stop, **recipe)
    assert state(stopped)["progress"]["step"] == stop
    resumed = run(stage, data, weights, exp_name="stopped", workers=1, **recipe)
    assert_same(state(resumed), state(through))


@pytest.mark.parametrize("cache", ["ram", "device"])
def test_a_cache_changes_nothing_but_the_time(data, weights, cache):
    plain = run("sr", data, weights, exp_name="plain", augment=True, steps=3)
    assert_same(state(run("sr", data, weights, exp_name=cache, augment=True, steps=3, cache=cache)), state(plain))
    assert f"--cache {cache}: 3 samples, 0.00 GB" in (plain.parent / cache / "log.txt").read_text()


@needs_compiler
def test_compiled_training_is_training(data, weights, monkeypatch):
    """The same weights to rounding after three steps, of a network small enough to be compiled in a test."""
    distributed.check_compiler(torch.device("cpu"))
    small = torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.PixelShuffle(4)
    monkeypatch.setattr(train_sr, "EDSR", lambda: copy.deepcopy(torch.nn.Sequential(*small)))
    plain, compiled = (run("sr", data, weights, exp_name=str(c), steps=3, compile=c) for c in (False, True))
    start = state(run("sr", data, weights, exp_name="start", steps=1))["net"]
    assert update_difference(start, state(plain)["net"], state(compiled)["net"]) < 1e-3


def test_without_a_compiler_compile_says_what_it_needs(data, weights, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("backend='inductor' raised:\nNo working C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda function: broken)
    with pytest.raises(
        InputError, match=r"--compile: .*C\+\+ compiler.*\(No working C\+\+ compiler found\); leave it out"
    ):
        run("sr", data, weights, compile=True)


@pytest.mark.parametrize("test_mode, chosen", [(False, "bf16"), (True, "fp32")])
def test_precision_follows_the_gpu_and_is_kept_as_chosen(data, weights, monkeypatch, test_mode, chosen):
    """A GPU that has bfloat16 trains in it; a table is made in fp32; a resumed run is told when the machine differs."""
    monkeypatch.setattr(distributed, "initialize", lambda device: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    options = train_sr.Options(save_folder=str(data / "log"), test_mode=test_mode, seed=0, sr_path="sr.pth")
    opened = stage.open_run(options, "sr")
    record = json.loads((opened.journal.folder / "options.json").read_text())["options"]
    assert opened.precision == record["precision"] == chosen
    monkeypatch.undo()
    assert (
        stage.open_run(train_sr.Options(save_folder=str(data / "other"), device="cpu", seed=0), "sr").precision
        == "fp32"
    )


def test_a_run_records_the_precision_that_it_has(data, weights):
    """A CPU has no TF32."""
    folder = run("sr", data, weights, steps=1, precision="tf32")
    assert json.loads((folder / "options.json").read_text())["options"]["precision"] == "fp32"


def test_weights_of_an_epoch_are_not_overwritten_by_a_stop_inside_the_next(data, weights):
    folder = run("bsn", data, weights, evaluate_every=1, steps=10)  # 2 batches of 5 steps are an epoch
    assert state(folder)["progress"] == {"step": 10, "batch": 2, "taken": 0}
    first = (folder / "checkpoints/BSN_0001.pth").read_bytes()
    run("bsn", data, weights, evaluate_every=1, steps=13)
    assert (folder / "checkpoints/BSN_0001.pth").read_bytes() == first
    assert (folder / "checkpoints/BSN_step0000013.pth").is_file()


@pytest.mark.parametrize(
    "stage, wrong, message",
    [
        ("bsn", {"bsn_len": 43}, "--bsn_len 43.*1 to 41"),
        ("bsn", {"blur_step": 0}, "--blur_step 0"),
        ("bsn", {"bs": 0}, "--bs 0"),
        ("sr", {"lr": -1.0}, "--lr -1"),
        ("sr", {"device": "gpu"}, "--device gpu: cannot be used here"),
        ("sr", {"roi_size": (30,)}, "--roi_size 30"),
        ("bsn", {"roi_size": (8,)}, "--roi_size 8: one or two multiples of 4, 16 or more"),
        ("bsn", {"seed": 2**63}, "--seed 9223372036854775808: below"),
        ("sr", {"spike_full": True}, "--spike_full"),
        ("sr", {"augment": True, "roi_size": (16, 32)}, "--augment: .* square crops, not 16x32"),
        ("deblur", {"sr_path": ""}, "--sr_path is missing"),
        ("deblur", {"center_weight": 2.0}, "--center_weight 2"),
    ],
)
def test_values_that_cannot_be_meant_are_named(data, weights, stage, wrong, message):
    with pytest.raises(InputError, match=message):
        run(stage, data, weights, **wrong)


@pytest.mark.parametrize(
    "device, machine, message",
    [
        ("cuda", {"WORLD_SIZE": "4", "LOCAL_RANK": "2"}, "--device cuda: process 3 .* finds 2 GPUs.*nproc_per_node=2"),
        ("cuda:1", {"WORLD_SIZE": "4", "LOCAL_RANK": "1"}, "--device cuda:1: all 4 processes would share it; cuda"),
    ],
)
def test_processes_without_a_gpu_of_their_own_are_refused(monkeypatch, device, machine, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in machine.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        distributed.initialize(device)


@pytest.mark.parametrize("device, chosen", [("cuda", 1), ("cuda:0", 0)])
def test_a_process_touches_no_gpu_but_its_own(monkeypatch, device, chosen):
    """Each that opened the first one on its way would take hundreds of megabytes there."""
    touched = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", lambda size, device: touched.append(device))
    monkeypatch.setattr(torch.cuda, "set_device", touched.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.initialize(device) == torch.device("cuda", chosen)
    assert touched == [torch.device("cuda", chosen)] * 2


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or "LD_PRELOAD" in os.environ, reason="another allocator than that of glibc"
)
def test_memory_of_large_tensors_is_kept_when_they_are_freed():
    """By glibc's own account: a tensor lies in the heap, not in a map, and the heap keeps its size without it."""
    program = """
import ctypes, torch
from codes.engine import distributed

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("arena", *"abc", "hblkhd", *"defgh")]

libc = ctypes.CDLL("libc.so.6")
libc.mallinfo.restype = Mallinfo

def sizes():
    found = libc.mallinfo()
    return found.arena, found.hblkhd

for started in (False, True):
    if started:
        distributed.initialize("cpu")
    before = sizes()
    tensor = torch.empty(64 * 2**20, dtype=torch.uint8)
    during = sizes()
    del tensor
    after = sizes()
    print(*(later - earlier > 2**25 for later, earlier in zip(during + after, before + before)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    # Larger by half of its size or more, with the tensor and without it: heap, maps; heap, maps.
    assert done.stdout.splitlines() == ["False True False False", "True False True False"]


def test_a_finished_run_stays_as_it_is(data, weights):
    before = state(run("sr", data, weights))
    assert_same(state(run("sr", data, weights)), before)


def test_a_run_with_other_options_is_refused_and_named(data, weights):
    run("sr", data, weights, steps=1)
    with pytest.raises(InputError, match=r"--lr: 0\.0002 then, 0\.01 now.*--force_resume"):
        run("sr", data, weights, lr=0.01)
    run("sr", data, weights, lr=0.01, force_resume=True)


@pytest.mark.parametrize(
    "stage, rows",
    [
        ("bsn", ["TFP_9", "BSN"]),
        ("sr", ["TFP_97 nearest", "SR against blur"]),
        ("deblur", ["blurry", "TFP_9", "TFI", "SDM", "SDM+BSN", "teacher", "SDM ISI", "LDN"]),
    ],
)
def test_a_run_leaves_options_log_curves_tables_pictures_and_weights(data, weights, stage, rows):
    folder = run(stage, data, weights, epochs=2, evaluate_every=1)
    _, name = STAGES[stage]
    record = json.loads((folder / "options.json").read_text())
    assert record["options"]["bs"] == 2 and record["versions"]["torch"] == torch.__version__
    assert "complete" in (folder / "log.txt").read_text()
    assert list(folder.glob("events.out.tfevents.*"))
    assert [p.name for p in sorted(folder.glob("checkpoints/*.pth"))] == [
        f"{name}_0001.pth",
        f"{name}_0002.pth",
        "state.before.pth",
        "state.pth",
    ]
    last = sorted(folder.glob("step-*"))[-1]
    means = {line["output"]: float(line["psnr"]) for line in lines(last / "means.csv")}
    pictures = lines(last / "pictures.csv")
    assert list(means) == rows
    for row in rows:
        values = [float(line["psnr"]) for line in pictures if line["output"] == row]
        assert len(values) == 2 and sum(values) / 2 == pytest.approx(means[row])
        assert (last / f"scene_000000 {row}.png").is_file()


def test_the_sequence_is_measured_where_the_data_have_it(data, weights):
    for t in range(20, 117, 16):
        write_image(data / f"test/sharp_sequence/scene/000001/{t:03d}.png", np.full((32, 64, 3), t, np.uint8))
    folder = run("deblur", data, weights, steps=1, evaluate_every=1)
    step = next(folder.glob("step-*"))
    pictures = [line for line in lines(step / "pictures.csv") if line["output"] == "LDN sequence"]
    assert [line["sample"] for line in pictures] == [f"scene/000001 {place}" for place in range(7)]
    means = {line["output"]: float(line["psnr"]) for line in lines(step / "means.csv")}
    assert means["LDN sequence"] == pytest.approx(sum(float(line["psnr"]) for line in pictures) / 7)


def test_an_output_that_is_not_a_number_is_refused(data, weights, monkeypatch):
    monkeypatch.setattr(train_sr, "nearest", lambda intensity: F.interpolate(intensity, scale_factor=4) * float("nan"))
    with pytest.raises(FloatingPointError, match="psnr of TFP_97 nearest, sample scene/000000, is not a number"):
        run("sr", data, weights, steps=1, evaluate_every=1)


def test_evaluation_is_beside_the_run_and_once(data, weights):
    folder = run("bsn", data, weights, epochs=1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    run("bsn", data, weights, test_mode=True, bsn_path=weights["bsn_path"])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(folder.glob("test-*/step-*/means.csv"))) == 1


def test_evaluations_of_one_second_have_folders_of_their_own(data, weights, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "20260101-120000")
    for _ in range(2):
        folder = run("bsn", data, weights, test_mode=True, bsn_path=weights["bsn_path"])
    assert sorted(path.name for path in folder.glob("test-*")) == ["test-20260101-120000", "test-20260101-120000-2"]
    assert all(list(path.glob("step-*/means.csv")) for path in folder.glob("test-*"))


@pytest.mark.parametrize("recipe", [{}, LIVE, ISI], ids=["published", "sdm", "mfsr"])
def test_cached_labels_have_the_loss_of_live_ones(data, weights, tmp_path, recipe):
    """In the first step, on whole pictures, to the rounding of float16 (2^-11). Those of MFSR are always cached."""
    one_step = {"steps": 1, "roi_size": (0,), "lambda_tea": 1.0, "init": "random"} | recipe
    live = run("deblur", data, weights, exp_name="live", **one_step)
    cached = run("deblur", data, weights, exp_name="cached", **one_step, teacher_cache=str(tmp_path / "labels"))
    assert losses(cached, "teacher") == pytest.approx(losses(live, "teacher"), rel=2**-11)


@pytest.mark.parametrize("place", ["folder", "ram"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cached_labels_are_the_live_ones_on_whole_pictures(data, weights, tmp_path, monkeypatch, place, precision):
    """To the rounding of float16: 2^-11 of the value, and what lies below its smallest normal number."""
    live, kept = [], []

    def compared(teacher: NetworkTeacher, dataset: SpikeDataset, **settings: object) -> dict:
        found = cache_labels(teacher, dataset, **settings)
        for index, name in enumerate(dataset.names):
            spikes = Packed.collate([dataset[index]]).to(torch.device("cpu")).spikes
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                live.append(teacher.ratios(spikes, settings["centers"])[0, :, 0])
            kept.append(found[name] if place == "ram" else np.load(tmp_path / f"labels/train/{name}.npy"))
        return found

    monkeypatch.setattr(loaders, "cache_labels", compared)
    labels = "ram" if place == "ram" else str(tmp_path / "labels")
    run("deblur", data, weights, steps=1, teacher_cache=labels, precision=precision, roi_size=(0,))
    assert len(live) == 3
    for one, other in zip(live, kept, strict=True):
        assert one.std() > 0
        torch.testing.assert_close(torch.from_numpy(other).float(), one, rtol=2**-11, atol=2**-25)


def test_labels_wait_until_all_data_were_checked(data, weights, tmp_path):
    (data / "test/sharp_data/scene/000001.png").unlink()
    with pytest.raises(InputError, match=r"sharp_data/scene/000001\.png: missing"):
        run("deblur", data, weights, evaluate_every=1, teacher_cache=str(tmp_path / "labels"))
    assert not (tmp_path / "labels").exists()


def test_without_a_distillation_loss_neither_labels_nor_lpips_are_needed(data, weights, monkeypatch):
    monkeypatch.setattr(train_deblur, "perceptual", lambda *_, **__: pytest.fail("LPIPS is not used"))
    folder = run("deblur", data, weights, **ISI, steps=1, lambda_tea=0.0, tea_loss="lpips")
    assert set(losses(folder, "reblur")) and not (folder / "labels").exists()


def test_labels_in_memory_train_as_those_in_a_folder(data, weights, tmp_path):
    folder, ram, both = (
        run("deblur", data, weights, exp_name=name, steps=3, **settings)
        for name, settings in {
            "folder": {"teacher_cache": str(tmp_path / "labels")},
            "ram": {"teacher_cache": "ram"},
            "both": {"teacher_cache": "ram", "cache": "ram"},
        }.items()
    )
    assert_same(state(ram), state(folder))
    assert_same(state(both), state(folder))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_state(data, weights, monkeypatch):
    folder = run("sr", data, weights, steps=2)
    before = state(folder)
    monkeypatch.setattr(train_sr, "mse", lambda image, truth: image.sum() * float("nan"))
    with pytest.raises(
        FloatingPointError, match=r"not finite at step 3 \(sr nan; samples scene/00000\d, scene/00000\d"
    ):
        run("sr", data, weights)
    assert_same(state(folder), before)


def test_without_data_training_says_so_in_one_line(tmp_path):
    command = [sys.executable, str(ROOT / "train_bsn.py"), "--base_folder", "nowhere/", "--save_folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: nowhere/test/spike_data: no spike files")
    assert "Traceback" not in done.stderr


def test_samples_of_different_sizes_need_a_crop_that_fits_all(data, weights):
    spikes = data / "train/spike_data/scene"
    write_spikes(spikes / "000000.dat", np.zeros((137, 16, 8), np.uint8))
    write_image(data / "train/blur_data/scene/000000.png", np.zeros((64, 32, 3), np.uint8))
    with pytest.raises(InputError, match=r"different sizes.*--roi_size 32 32"):
        run("sr", data, weights, roi_size=(64,))
    run("sr", data, weights, epochs=1, roi_size=(32,))


def test_what_goes_wrong_while_training_is_told_in_one_line(data, tmp_path):
    """A picture damaged in its middle is found when it is decoded, by a process that reads data."""
    for picture in data.glob("train/blur_data/scene/*.png"):
        content = bytearray(picture.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 50] = bytes(50)
        picture.write_bytes(content)
    command = [sys.executable, "train_sr.py", "--base_folder", str(data), "--save_folder", str(tmp_path)]
    options = "--epochs 1 --roi_size 32 --workers 1 --device cpu --evaluate_every 0"
    done = subprocess.run([*command, *options.split()], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    told = done.stderr.splitlines()[-1]
    assert re.fullmatch(r"error: .*blur_data/scene/00000\d\.png: damaged at byte \d+ .*", told)


@pytest.mark.parametrize(
    "command",
    [
        "train_bsn.py --base_folder GOPRO/ --bsn_len 9 --data_type GOPRO",
        "train_sr.py --base_folder GOPRO/ --data_type GOPRO",
        "train_deblur.py --base_folder GOPRO/ --bsn_path model/BSN_1000.pth --sr_path model/SR_70.pth"
        " --lambda_reblur 100 --data_type GOPRO",
        "train_bsn.py --test_mode --bsn_path model/BSN_1000.pth --data_type GOPRO",
        "train_sr.py --test_mode --bsn_path model/BSN_1000.pth --sr_path model/SR_70.pth --data_type GOPRO",
        "train_deblur.py --test_mode --bsn_path model/BSN_1000.pth --sr_path model/SR_70.pth"
        " --deblur_path model/DeblurNet_100.pth --data_type GOPRO",
        "train_bsn.py --exp_name a --epochs 3 --lr 0.1 --seed 1 --spike_bsn_len 9 --width 1280 --height 720 --use_small"
        " --spike_full --blur_step 12 --bs 8 --roi_size 256 256",
        "train_deblur.py --spike_deblur_len 21 --lambda_tea 1 --use_ssim --blur_step 12 --roi_size 512",
    ],
)
def test_the_published_commands_are_understood(command):
    script, *flags = command.split()
    module = {"train_bsn.py": train_bsn, "train_sr.py": train_sr, "train_deblur.py": train_deblur}[script]
    options = parse(module.Options, module.__doc__, flags)
    assert options.test_mode == ("--test_mode" in flags)


def test_published_defaults():
    assert (train_bsn.Options().lr, train_bsn.Options().epochs) == (3e-4, 1001)
    assert (train_sr.Options().lr, train_sr.Options().epochs) == (2e-4, 101)
    assert (train_deblur.Options().lr, train_deblur.Options().epochs, LDN().spike_enc[0].in_channels) == (1e-3, 101, 21)


def together(script: str, **options: object) -> subprocess.CompletedProcess:
    """Run a script in two processes, as torchrun does."""
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script, *flags]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=900
    )  # it hangs, however busy the machine is


@pytest.mark.parametrize(
    "stage, recipe, first, last",
    [("bsn", {}, 6, 7), ("sr", {}, 1, 3), ("deblur", ISI, 1, 3), ("deblur", LIVE, 1, 3)],
    ids=["bsn", "sr", "mfsr", "sdm"],
)
def test_two_processes_go_on_where_one_stopped_and_train_as_one(data, weights, stage, recipe, first, last):
    """Steps on twice two samples are steps on four, to rounding, and so are the tables; of BSN inside its second batch.

    Of all stages the run is stopped after one epoch and less than another.
    """
    settings = {"bs": 4, "epochs": 3, "roi_size": (32,), "workers": 0} | recipe
    alone = run(stage, data, weights, exp_name="alone", steps=last, evaluate_every=1, **settings)
    both = run(stage, data, weights, exp_name="both", steps=first, **settings)
    start = state(both)["net"]
    settings |= {"base_folder": data, "save_folder": data.parent / "log", "exp_name": "both", "device": "cpu"}
    settings |= {"roi_size": 32} | ({"tea_loss": "ssim"} if recipe else {})
    done = together(f"train_{stage}.py", **settings, steps=last, evaluate_every=1)
    assert done.returncode == 0, done.stderr
    assert f"resumed at epoch 1, step {first}" in (both / "log.txt").read_text()
    assert update_difference(start, state(alone)["net"], state(both)["net"]) < 1e-3
    tables = [lines(folder / f"step-{last:07d}/pictures.csv") for folder in (alone, both)]
    assert tables[0] and len({line["sample"] for line in tables[0]}) == 2
    for one, other in zip(*tables, strict=True):
        assert (one["sample"], one["output"]) == (other["sample"], other["output"])
        assert float(one["psnr"]) == pytest.approx(float(other["psnr"]), abs=1e-4)


def test_two_processes_share_the_labels_and_the_fault_of_one_ends_both(data, weights, tmp_path):
    """One process meets a picture damaged in its middle: both end, and its name is told; the labels are whole."""
    (_, sample, _), *_ = next(iter(Batches(3, 2, epochs=1, seed=0, rank=1, world=2)))
    picture = data / f"train/blur_data/scene/{sample:06d}.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2] + bytes(50) + whole[len(whole) // 2 + 50 :])
    options = {"base_folder": data, "save_folder": data.parent / "log", "device": "cpu", "tea_loss": "ssim"} | weights
    options |= {"teacher_cache": tmp_path / "both", "bs": 2, "roi_size": 32, "workers": 0, "evaluate_every": 0}
    done = together("train_deblur.py", **options, epochs=1)
    assert done.returncode != 0
    assert f"error: {picture}: damaged at byte " in done.stderr
    picture.write_bytes(whole)
    run("deblur", data, weights, epochs=1, teacher_cache=str(tmp_path / "alone"))
    names = [path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*.npy")]
    assert len(names) == 3
    for name in names:
        both, alone = (np.load(tmp_path / place / name) for place in ("both", "alone"))
        np.testing.assert_allclose(both, alone, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("stage, recipe", [(stage, {}) for stage in STAGES] + [("deblur", ISI)], ids=[*STAGES, "isi"])
def test_training_reads_neither_the_test_split_nor_the_truth(data, weights, stage, recipe):
    """Where they are not there at all, it learns the same to the bit; nor does measuring between change anything."""
    kept = run(stage, data, weights, exp_name="measured", epochs=2, evaluate_every=1, **recipe)
    shutil.rmtree(data / "test")
    shutil.rmtree(data / "train/sharp_data")
    without = run(stage, data, weights, exp_name="without", epochs=2, **recipe)
    assert_same(state(without)["net"], state(kept)["net"])


def test_tables_are_made_in_evaluation_mode_without_gradients_in_fp32(data, weights, monkeypatch):
    """Whatever a training computes in, bfloat16 or TF32: it goes on in that after a table."""
    modes, forward = [], EDSR.forward

    def watched(net, intensity):
        allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        modes.append((net.training, torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), *allowed))
        return forward(net, intensity)

    monkeypatch.setattr(EDSR, "forward", watched)
    folder = run("sr", data, weights, steps=3, evaluate_every=1, precision="bf16")  # 2 batches are an epoch
    training, measuring = (True, False, True, True, True), (False, True, False, False, False)
    assert modes == [training] * 2 + [measuring] * 2 + [training] + [measuring] * 2
    for about in folder.glob("step-*/about.json"):
        assert json.loads(about.read_text())["protocol"].endswith("; fp32 on cpu")


def test_an_output_that_is_infinite_is_refused(data, weights, monkeypatch):
    monkeypatch.setattr(train_sr, "nearest", lambda intensity: F.interpolate(intensity, scale_factor=4) + float("inf"))
    with pytest.raises(FloatingPointError, match="TFP_97 nearest, sample scene/000000, holds infinity"):
        run("sr", data, weights, steps=1, evaluate_every=1)
