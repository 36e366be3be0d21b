"""The quickstart: its commands exist, trainings are as long as the time allows, and a stop reaches what it runs."""

import os
import signal
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from codes import stage
from codes.cli import parse
from codes.recipe import PUBLISHED
from scripts import quickstart
from scripts.quickstart import BUDGET, EPOCH, LENGTHS, all_steps, choose, estimate, table


def step_times(seconds: float) -> dict[str, float]:
    return dict.fromkeys(EPOCH, seconds)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_every_program_accepts_its_flags(lengths):
    for step in all_steps(dict(zip(EPOCH, lengths, strict=True))):
        module = import_module(step.program.removesuffix(".py").replace("/", "."))
        parse(module.Options, "", step.flags.split())


def test_each_later_training_reads_what_an_earlier_one_writes():
    flags = {step.training: step.flags.split() for step in all_steps(dict.fromkeys(EPOCH, 3))}
    for network, name in (("bsn", "BSN"), ("sr", "SR")):
        expected = f"log/{network}/quickstart_published/checkpoints/{name}_0003.pth"
        assert flags["published"][flags["published"].index(f"--{network}_path") + 1] == expected
        assert flags[network][flags[network].index("--epochs") + 1] == "3"


def test_steps_of_an_epoch_are_those_of_32_scenes():
    targets = len(stage.exposure_read(PUBLISHED, margin=4).centers(24))
    batches = {"bsn": 32 * targets, "sr": 32, "published": 32 / 2, "default": 32 / 2}
    assert batches == EPOCH


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.2, 0.4, 0.7])
def test_trainings_are_the_longest_that_fit_into_the_time(seconds):
    plan = choose(step_times(seconds), 1.0)
    chosen = LENGTHS.index(tuple(plan["epochs"].values()))

    def needed(lengths: tuple[int, ...]) -> float:
        rest = sum(step.rest for step in all_steps(plan["epochs"]))
        return rest + seconds * sum(map(int.__mul__, lengths, EPOCH.values()))

    total = sum(estimate(step, plan) for step in all_steps(plan["epochs"]))
    assert total == pytest.approx(needed(LENGTHS[chosen]))
    assert total <= BUDGET
    assert chosen == 0 or needed(LENGTHS[chosen - 1]) > BUDGET


def test_however_slow_a_machine_something_is_trained():
    assert tuple(choose(step_times(1e3), 100.0)["epochs"].values()) == LENGTHS[-1]


def test_the_lengths_are_chosen_once(tmp_path, monkeypatch):
    """A second call goes on with the trainings that the first one began, however fast the machine is now."""
    monkeypatch.setattr(quickstart, "measured", lambda: (step_times(0.7), 1.0))
    first = quickstart.made_plan(tmp_path / "plan.json")
    monkeypatch.setattr(quickstart, "measured", lambda: (step_times(0.01), 1.0))
    assert quickstart.made_plan(tmp_path / "plan.json") == first
    assert tuple(first["epochs"].values()) != LENGTHS[0]


def test_progress_is_of_the_whole_run(tmp_path, monkeypatch, capsys):
    """The first program takes twice as long as planned, and so will the rest; a call after a stop does not count it."""
    takes, clock = {"render": 120.0, "train": 60.0, "draw": 60.0}, [0.0]
    steps = [quickstart.Step(title, 0, title, "") for title in takes]

    def run(program: str, _: str) -> None:
        if program == stops:
            raise SystemExit(75)
        clock[0] += 0.5 if Path(tmp_path, program).exists() else takes[program]
        Path(tmp_path, program).touch()

    monkeypatch.setattr(quickstart.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(quickstart, "run", run)
    told, stops = [], "train"
    for _ in range(2):
        with suppress(SystemExit):
            quickstart.run_all(steps, [60.0, 120.0, 60.0], tmp_path / "finished.json")
        stops = ""
        told.append([line.partition("about ")[2] for line in capsys.readouterr().out.splitlines() if line])
    assert told == [
        ["4 minutes left: render", "6 minutes left: train"],
        ["3 minutes left: render", "3 minutes left: train", "1 minute left: draw"],
    ]


def test_a_row_no_better_than_those_above_says_why():
    scores = [20.0, 23.0, 22.0, 22.5, 24.0]
    text = table([(f"row {n}", {"psnr": psnr, "ssim": 0.5}, f"why {n}") for n, psnr in enumerate(scores)])
    assert [n for n in range(5) if f"why {n}" in text] == [2, 3]


@pytest.mark.parametrize("answer", ["signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))", ""])
def test_sigterm_is_passed_on_and_the_exit_code_is_that_of_a_stop(tmp_path, answer):
    """The trainings answer a signal with their state written and code 75; it ends the other programs."""
    child = tmp_path / "child.py"
    child.write_text(f"import os, signal, sys, time\n{answer}\nos.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(30)\n")
    reached = []
    former = signal.signal(signal.SIGTERM, lambda *_: reached.append("this process"))
    try:
        with pytest.raises(SystemExit) as end:
            quickstart.run(str(child), "")
        assert not reached and end.value.code == 75
        os.kill(os.getpid(), signal.SIGTERM)
        assert reached == ["this process"]
    finally:
        signal.signal(signal.SIGTERM, former)
