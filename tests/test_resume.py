"""A run loses nothing: after a signal, a full disk or a damaged file it goes on where it was, or says why not."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from torch.utils.tensorboard import SummaryWriter
from training import assert_same, lines, run, state

import train_sr
from codes.cli import RESUMABLE, program
from codes.data.batches import Batches
from codes.data.images import read_image, write_image
from codes.data.spikes import write_spikes
from codes.engine import Journal, checkpoint, signals
from codes.engine.provenance import record_options
from codes.engine.run_state import RunState
from codes.errors import InputError, Interrupted
from codes.evaluation.losses import mse
from codes.files import replacing
from codes.reporting.run_results import read_curves


def at_step(monkeypatch, step: int, what) -> None:
    """Do something while a step of train_sr is taken."""
    taken = []

    def loss(image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        taken.append(1)
        if len(taken) == step:
            what()
        return mse(image, truth)

    monkeypatch.setattr(train_sr, "mse", loss)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_and_writes_the_state(data, weights, monkeypatch, number):
    through = run("sr", data, weights, exp_name="through")
    handler = signal.getsignal(number)
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted, match="at step 3, the state is written; the same command goes on"):
        run("sr", data, weights, exp_name="stopped")
    assert signal.getsignal(number) == handler
    folder = data.parent / "log/sr/stopped"
    assert state(folder)["progress"]["step"] == 3
    assert_same(state(run("sr", data, weights, exp_name="stopped"))["net"], state(through)["net"])


def test_a_signal_during_the_evaluation_stops_it_and_the_same_command_makes_the_table(data, weights, monkeypatch):
    through = run("sr", data, weights, exp_name="through", evaluate_every=1)
    original, calls = train_sr.nearest, []

    def nearest(intensity):
        calls.append(1)
        if len(calls) == 3:  # in the second evaluation
            os.kill(os.getpid(), signal.SIGTERM)
        return original(intensity)

    monkeypatch.setattr(train_sr, "nearest", nearest)
    with pytest.raises(Interrupted, match="SIGTERM during the evaluation"):
        run("sr", data, weights, exp_name="stopped", evaluate_every=1)
    folder = data.parent / "log/sr/stopped"
    assert [path.parent.name for path in sorted(folder.glob("step-*/means.csv"))] == ["step-0000002"]
    run("sr", data, weights, exp_name="stopped", evaluate_every=1)
    for path in through.glob("step-*/*.csv"):
        assert (folder / path.relative_to(through)).read_bytes() == path.read_bytes()
    assert_same(state(folder), state(through) | {"checksum": state(folder)["checksum"]})


def command(data: Path, *options: str) -> list[str]:
    fixed = f"--base_folder {data} --save_folder {data.parent / 'log'} --device cpu --roi_size 32 --bs 2 --exp_name run"
    return ["train_sr.py", *fixed.split(), "--evaluate_every", "0", *options]


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def test_a_signal_to_the_whole_group_ends_resumable(data):
    """As Ctrl-C and clusters send it: the processes that read data get it too, and must not take the step with them."""
    options = ("--epochs", "100000", "--workers", "2", "--save_every", "0")
    process = subprocess.Popen(
        [sys.executable, *command(data, *options)], cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True
    )
    wait_for(data.parent / "log/sr/run/checkpoints/state.pth", process)
    os.killpg(process.pid, signal.SIGTERM)
    told = process.communicate(timeout=300)[1].decode()
    assert process.returncode == RESUMABLE, told
    assert told.splitlines()[-1].startswith("stopped: at step")


def test_a_second_signal_ends_the_process_at_once():
    process = os.fork()
    if process == 0:
        os.close(2)
        with signals.noted():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGTERM


def test_a_signal_during_a_call_that_does_not_return_ends_the_process_resumable():
    """Python handles no signal while its main thread is in such a call, for instance a wait for another process."""
    code = """
import torch.distributed as dist
from codes.engine import signals
signals.GRACE = 0.5
store = dist.TCPStore("127.0.0.1", 0, 1, True)
with signals.noted():
    print(flush=True)
    store.get("a key that nobody sets")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == RESUMABLE, told
    assert "a wait for another process has not ended; the same command goes on from the last state" in told


def test_a_run_that_another_process_trains_is_refused(data, weights):
    options = ("--epochs", "100000", "--workers", "1", "--save_every", "0")
    process = subprocess.Popen([sys.executable, *command(data, *options)], cwd=ROOT, stderr=subprocess.PIPE)
    wait_for(data.parent / "log/sr/run/checkpoints/state.pth", process)
    with pytest.raises(InputError, match=r"log/sr/run: another process trains this run; .*--exp_name"):
        run("sr", data, weights, exp_name="run", epochs=100000)
    process.kill()
    process.communicate()
    run("sr", data, weights, exp_name="run", epochs=100000, steps=1)  # what it held is free, whatever it left behind


def test_a_finished_run_asked_for_again_has_its_table(data):
    settings = {"base_folder": str(data), "save_folder": str(data.parent / "log"), "exp_name": "whole", "device": "cpu"}
    settings |= {"epochs": 2, "bs": 2, "roi_size": (32,), "workers": 0, "evaluate_every": 1}
    first = train_sr.main(train_sr.Options(**settings))
    made = [path for path in (data.parent / "log/sr/whole").rglob("*") if path.suffix in (".csv", ".png", ".pth")]
    times = {path: path.stat().st_mtime_ns for path in made}
    again = train_sr.main(train_sr.Options(**settings))
    assert {path: path.stat().st_mtime_ns for path in made} == times and len(made) > 6
    assert again.keys() == first.keys() and all(again[row] == pytest.approx(first[row]) for row in first)
    table = max(path for path in made if path.name == "means.csv")
    table.unlink()  # a killed process did not write it
    train_sr.main(train_sr.Options(**settings))
    assert table.is_file()


def test_under_torchrun_all_processes_stop_at_the_same_step(data):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    options = ("--epochs", "100000", "--workers", "0", "--save_every", "0")
    process = subprocess.Popen(
        [*launch, *command(data, *options)], cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True
    )
    folder = data.parent / "log/sr/run"
    wait_for(folder / "checkpoints/state.pth", process)
    process.send_signal(signal.SIGTERM)  # the launcher hands it on
    told = process.communicate(timeout=300)[1].decode()
    stopped = re.findall(r"stopped: at step (\d+), the state is written", told)
    assert stopped == 2 * [str(state(folder)["progress"]["step"])], told


def test_exit_codes_are_as_documented(monkeypatch, capsys):
    """One line each, and no traceback."""
    ends = {
        Interrupted("at step 3"): (75, "stopped: at step 3"),
        InputError("x.png: missing"): (2, "error: x.png: missing"),
        OSError(28, "No space left on device", "log/state.pth"): (1, "stopped: log/state.pth: No space left on device"),
        FloatingPointError("the loss"): (1, "stopped: the loss"),
    }
    monkeypatch.setattr(sys, "argv", ["train_sr.py"])
    for error, (code, told) in ends.items():

        def main(_, error=error):
            raise error

        with pytest.raises(SystemExit) as end:
            program(main, train_sr.Options, "")
        assert end.value.code == code and capsys.readouterr().err.strip() == told


@pytest.fixture
def saved(tmp_path) -> tuple[Path, torch.nn.Module, dict]:
    """Two states of a small network, the newest and the one before."""
    net = torch.nn.Linear(3, 2)
    path = tmp_path / "state.pth"
    for step in (1, 2):
        with torch.no_grad():
            net.weight.fill_(step)
        checkpoint.save_state(path, {"step": step}, net=net)
    return path, net


def test_a_state_that_was_just_written_is_not_old(tmp_path):
    net = torch.nn.Linear(3, 2)
    of_run = RunState(net, torch.optim.Adam(net.parameters()), Batches(4, 2, epochs=1, seed=0), Journal(tmp_path))
    assert not of_run.is_old(10)
    of_run.saved -= 601
    assert of_run.is_old(10)
    of_run.save(None)
    assert not of_run.is_old(10) and of_run.path.is_file()


def test_the_newest_two_states_are_kept(saved):
    path, net = saved
    assert checkpoint.load_state(path, net=net) == {"step": 2}
    assert torch.load(path.with_name("state.before.pth"), weights_only=True)["progress"] == {"step": 1}
    assert sorted(p.name for p in path.parent.iterdir()) == ["state.before.pth", "state.pth"]


def test_any_damage_to_the_newest_state_is_told_or_harmless(saved):
    """A bit flipped anywhere, the file cut anywhere: never is something else loaded than what was saved."""
    path, net = saved
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    fallen_back = 0
    for place in rng.integers(0, len(whole), 300):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        for content in (bytes(broken), whole[:place]):
            path.write_bytes(content)
            told = []
            step = checkpoint.load_state(path, told.append, net=net)["step"]
            assert (net.weight == step).all() and len(told) == (step == 1)
            if step == 1:
                assert f"{path}: not a state of a run" in told[0] and f"the state before it, {path.parent}" in told[0]
            fallen_back += step == 1
    assert fallen_back > 400


def test_a_damaged_state_does_not_take_the_place_of_a_good_one(saved):
    path, net = saved
    path.write_bytes(b"damaged")
    checkpoint.save_state(path, {"step": 3}, net=net)
    before = torch.load(path.with_name("state.before.pth"), weights_only=True)
    assert before["progress"] == {"step": 1} and checkpoint.load_state(path, net=net) == {"step": 3}


def test_without_a_whole_state_both_files_are_named(saved):
    path, net = saved
    path.write_bytes(b"damaged")
    path.with_name("state.before.pth").write_bytes(b"")
    with pytest.raises(InputError, match=r"state\.pth: not a state.*state\.before\.pth: not a state.*move them away"):
        checkpoint.load_state(path, net=net)


def test_states_of_other_versions_are_read_or_refused(saved):
    path, net = saved
    old = {"format": 1, "progress": {"step": 9}, "net": net.state_dict()}  # as written before there were checksums
    torch.save(old, path)
    assert checkpoint.load_state(path, net=net) == {"step": 9}
    torch.save(old | {"format": 3}, path)
    with pytest.raises(InputError, match=r"state\.pth: state of format 3, this code reads 1 and 2"):
        checkpoint.load_state(path, net=net)


def test_where_the_state_cannot_be_written_training_goes_on_and_tries_again(data, weights, monkeypatch, capsys):
    """The folder is gone and something else is in its place; later it is back."""
    through = run("sr", data, weights, exp_name="through")
    folder = data.parent / "log/sr/run/checkpoints"

    def vanish() -> None:
        folder.rename(folder.parent / "away")
        folder.write_bytes(b"")

    def come_back() -> None:
        folder.unlink()
        (folder.parent / "away").rename(folder)

    at_step(monkeypatch, 3, vanish)
    with pytest.raises(OSError, match="the state could not be written") as told:
        run("sr", data, weights, exp_name="run", save_every=0)
    assert str(folder) in told.value.filename
    assert capsys.readouterr().err.count("WARNING: the state cannot be written") > 2
    come_back()
    monkeypatch.undo()
    assert_same(state(run("sr", data, weights, exp_name="run"))["net"], state(through)["net"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_is_written_in_the_end_is_no_failure(data, weights, monkeypatch, capsys):
    through = run("sr", data, weights, exp_name="through")
    folder = data.parent / "log/sr/run"
    taken = []

    def loss(image, truth):
        taken.append(1)
        if len(taken) == 2:
            folder.rename(folder.with_name("away"))
            folder.write_bytes(b"")
        if len(taken) == 4:
            folder.unlink()
            folder.with_name("away").rename(folder)
        return mse(image, truth)

    monkeypatch.setattr(train_sr, "mse", loss)
    run("sr", data, weights, exp_name="run", save_every=0)
    told = capsys.readouterr().err
    assert "WARNING: the state cannot be written" in told and "WARNING: the log cannot" not in told
    assert_same(state(folder)["net"], state(through)["net"])


def test_leftovers_of_a_killed_process_are_cleared(data, weights):
    folder = run("sr", data, weights, steps=2)
    left = [folder / ".options.json.x.partial", folder / "checkpoints/.state.pth.x.partial"]
    for path in left:
        path.write_bytes(b"half")
    kept = folder / "test-20260101-000000/step-0000000/.means.csv.x.partial"  # of an evaluation that may still run
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half")
    run("sr", data, weights)
    assert not any(path.exists() for path in left) and kept.exists()


def test_what_killed_processes_left_does_not_pile_up(tmp_path):
    """What nobody touched for a day is removed; a younger one may be of a process that lives."""
    left, young = tmp_path / ".000.npy.x.partial", tmp_path / ".000.npy.y.partial"
    for path in (left, young):
        path.write_bytes(b"half")
    os.utime(left, (0, time.time() - 2 * 86400))
    with replacing(tmp_path / "001.npy") as file:
        file.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, "001.npy"]


def test_curves_go_on_without_duplicate_steps(tmp_path):
    """A process was killed after it drew more than it saved; what it drew beyond the state is drawn again."""
    killed = SummaryWriter(str(tmp_path))
    for step in (10, 20, 30, 40):
        killed.add_scalar("train/sr", step, step)
    killed.close()
    time.sleep(1.1)  # event files are ordered by the second they begin in
    journal = Journal(tmp_path)
    journal.resume(20)
    for step in (30, 40, 50):
        journal.scalars(step, {"train/sr": -step})
    journal.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    drawn = [(event.step, event.value) for event in EventAccumulator(str(tmp_path)).Reload().Scalars("train/sr")]
    assert drawn == [(10, 10), (20, 20), (30, -30), (40, -40), (50, -50)]
    assert read_curves(tmp_path)["train/sr"] == drawn


def test_options_that_older_runs_did_not_have_count(data, weights):
    """They were what they are by default."""
    folder = run("sr", data, weights, steps=1)
    record = json.loads((folder / "options.json").read_text())
    del record["options"]["augment"], record["sources"]
    record["options"]["retired"] = 3
    (folder / "options.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"--retired: 3 then, nothing now"):
        run("sr", data, weights)
    del record["options"]["retired"]
    (folder / "options.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"--augment: False then, True now"):
        run("sr", data, weights, augment=True)
    run("sr", data, weights, save_every=3.0)


def test_an_option_that_is_not_given_is_called_nothing(tmp_path):
    record_options(tmp_path, {"consistency": "", "lr_cycles": 2.0})
    with pytest.raises(
        InputError, match=r"\(--consistency: nothing then, picture now; --lr_cycles: 2\.0 then, nothing now\)"
    ):
        record_options(tmp_path, {"consistency": "picture", "lr_cycles": None}, same_but=set())


def test_without_its_record_a_run_is_not_gone_on_with(data, weights):
    folder = run("sr", data, weights, steps=1)
    (folder / "options.json").unlink()
    with pytest.raises(InputError, match=r"options\.json: missing, .* not known; .*--force_resume"):
        run("sr", data, weights, steps=2)
    run("sr", data, weights, steps=2, force_resume=True)


@pytest.mark.parametrize("began, goes_on", [("", "ram"), ("labels", "")])
def test_kept_labels_do_not_take_the_place_of_live_ones_nor_the_other_way_round(
    data, weights, tmp_path, began, goes_on
):
    """They are float16, and of whole pictures. Where they are kept may change; an older run did not say."""
    began, goes_on = (str(tmp_path / place) if place == "labels" else place for place in (began, goes_on))
    folder = run("deblur", data, weights, steps=1, teacher_cache=began)
    then, now = ("labels kept", "labels computed live") if began else ("labels computed live", "labels kept")
    with pytest.raises(InputError, match=f"--teacher_cache: {then} then, {now} now"):
        run("deblur", data, weights, teacher_cache=goes_on)
    assert state(folder)["progress"]["step"] == 1
    if began:
        run("deblur", data, weights, steps=2, teacher_cache="ram")
    record = json.loads((folder / "options.json").read_text())
    del record["sources"]["--teacher_cache"]
    (folder / "options.json").write_text(json.dumps(record))
    run("deblur", data, weights, steps=3, teacher_cache=began)


def test_other_data_and_other_weights_under_the_same_names_are_refused(data, weights):
    run("deblur", data, weights, steps=1)
    torch.save({k: v * 2 for k, v in torch.load(weights["sr_path"]).items()}, weights["sr_path"])
    with pytest.raises(InputError, match=r"--sr_path: .*sr\.pth, sha256 [0-9a-f]{16} then, .*sr\.pth, sha256 "):
        run("deblur", data, weights)
    run("deblur", data, weights, steps=2, force_resume=True)
    shutil.copytree(data / "train/spike_data/scene", data / "train/spike_data/other")
    shutil.copytree(data / "train/blur_data/scene", data / "train/blur_data/other")
    told = r"training data: blur_data/other/000000\.png added, .*, and 3 more\)"
    with pytest.raises(InputError, match=told):
        run("deblur", data, weights)


@pytest.mark.parametrize("name", ["spike_data/scene/000001.dat", "blur_data/scene/000001.png"])
def test_content_changed_at_equal_size_and_time_is_named(data, weights, name):
    path, uncompressed = data / "train" / name, [cv2.IMWRITE_PNG_COMPRESSION, 0]
    if path.suffix == ".png":
        cv2.imwrite(str(path), cv2.imread(str(path)), uncompressed)
    folder, before = run("deblur", data, weights, steps=1), path.stat()
    if path.suffix == ".png":
        cv2.imwrite(str(path), 255 - cv2.imread(str(path)), uncompressed)
    else:
        path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(InputError, match=rf"\(training data: {re.escape(name)} changed\)"):
        run("deblur", data, weights)
    (folder / "fingerprint.json").write_bytes(b"{")  # names are lost, the difference is not
    with pytest.raises(InputError, match=r"training data: .* content sha256 \w+ now"):
        run("deblur", data, weights)
    assert state(folder)["progress"]["step"] == 1
    run("deblur", data, weights, steps=2, force_resume=True)


def test_moved_data_and_weights_resume_as_they_are(data, weights, tmp_path):
    """A job copies both to a local disk: other folders and other times, the same content."""
    through = run("deblur", data, weights, exp_name="through")
    folder = run("deblur", data, weights, steps=1)
    shutil.copytree(data, tmp_path / "local/copy", copy_function=shutil.copyfile)
    shutil.rmtree(data)
    moved = {}
    for name, path in weights.items():
        moved[name] = str(shutil.copyfile(path, tmp_path / f"local/{name}.pth"))
        Path(path).unlink()
    options = {"save_folder": str(folder.parents[1])}
    run("deblur", tmp_path / "local/copy", moved, **options)
    assert_same(state(folder)["net"], state(through)["net"])


def test_weights_that_are_given_or_left_out_only_now_are_named(data, weights):
    for name, then, now in (("given", "bsn_path", ""), ("left_out", "", "bsn_path")):
        run("sr", data, weights, steps=1, exp_name=name, bsn_path=weights.get(then, ""))
        told = (
            r"--bsn_path: .*bsn\.pth, sha256 \w+ then, nothing now" if then else r"--bsn_path: nothing then, .*bsn\.pth"
        )
        with pytest.raises(InputError, match=told):
            run("sr", data, weights, exp_name=name, bsn_path=weights.get(now, ""))


def test_a_run_from_before_content_was_compared_goes_on(data, weights):
    """Its record ends after the hash of names and sizes; from now on content counts."""
    folder = run("sr", data, weights, steps=1)
    record = json.loads((folder / "options.json").read_text())
    full = record["sources"]["training data"]
    record["sources"]["training data"] = full.partition(", content")[0]
    (folder / "options.json").write_text(json.dumps(record))
    (folder / "fingerprint.json").unlink()
    run("sr", data, weights, steps=2)
    assert json.loads((folder / "options.json").read_text())["sources"]["training data"] == full
    path = data / "train/spike_data/scene/000001.dat"
    write_spikes(path, np.zeros((137, 8, 16), np.uint8))
    with pytest.raises(InputError, match=r"scene/000001\.dat changed"):
        run("sr", data, weights)


def test_a_table_of_other_test_data_is_made_again(data, weights):
    """Asked for once more, a finished run gives the table that it has, unless its test data changed since."""
    folder = run("sr", data, weights, evaluate_every=3)
    table = next(folder.glob("step-*/means.csv"))
    first = table.read_bytes()
    path = data / "test/blur_data/scene/000000.png"
    write_image(path, 255 - read_image(path))
    run("sr", data, weights, evaluate_every=3)
    assert table.read_bytes() != first
    assert "the test data changed since this table was made; it is made again" in (folder / "log.txt").read_text()


def test_a_table_says_what_it_was_made_of(data, weights):
    folder = run("sr", data, weights, epochs=1, evaluate_every=1, bsn_path=weights["bsn_path"])
    about = json.loads(next(folder.glob("step-*/about.json")).read_text())
    assert about["data"].startswith("test, 2 samples, file list sha256 ")
    assert "spike frame 68 of 137" in about["protocol"] and about["protocol"].endswith("fp32 on cpu")
    assert about["files"]["--bsn_path"].startswith(f"{weights['bsn_path']}, sha256 ")
    first = about["network"]
    write_spikes(data / "test/spike_data/scene/000002.dat", np.zeros((137, 8, 16), np.uint8))
    for part in ("blur", "sharp"):
        write_image(data / f"test/{part}_data/scene/000002.png", np.zeros((32, 64, 3), np.uint8))
    run("sr", data, weights, test_mode=True, sr_path=str(folder / "checkpoints/SR_0001.pth"))
    again = json.loads(next(folder.glob("test-*/step-*/about.json")).read_text())
    assert again["network"] == first and again["data"] != about["data"]
    assert len(lines(next(folder.glob("test-*/step-*/pictures.csv")))) == 6
