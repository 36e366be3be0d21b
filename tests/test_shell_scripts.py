"""Shell scripts: they run from any folder, stop at errors, refuse unknown arguments, and every flag in them exists."""

import os
import shutil
import subprocess
from importlib import import_module

import pytest
from conftest import ROOT

from codes.cli import parse

# Answers for the interpreter: requirements are met, every command is written down, one may fail.
STUB = """#!/bin/sh
case "$1" in
    scripts/has_requirements.py) exit 0 ;;
esac
printf '%s\\n' "$PWD" "$@" END >> "$COMMANDS"
[ "$1" != "$FAILS" ]
"""


def run(tmp_path, script: str, *arguments: str, fails: str = "none") -> tuple[subprocess.CompletedProcess, list]:
    """Run a script of a copy of scripts/ from another folder; return its end and its commands."""
    repository, elsewhere, programs = (tmp_path / name for name in ("repository", "elsewhere", "programs"))
    if not repository.exists():
        shutil.copytree(ROOT / "scripts", repository / "scripts")
        (elsewhere / "videos").mkdir(parents=True)
        programs.mkdir()
        (programs / "python").write_text(STUB)
        (programs / "python").chmod(0o755)
    commands = tmp_path / "commands"
    commands.write_text("")
    settings = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "COMMANDS": str(commands), "FAILS": fails}
    command = ["bash", str(repository / "scripts" / script), *arguments]
    done = subprocess.run(command, cwd=elsewhere, env=settings, capture_output=True, text=True)
    found = [block.strip().split("\n") for block in commands.read_text().split("END\n") if block]
    assert all(folder == str(repository) for folder, *_ in found)
    return done, [words for _, *words in found]


@pytest.mark.parametrize(
    "script, arguments, number",
    [
        ("quickstart.sh", [], 1),
        ("quickstart.sh", ["--pretrained"], 1),
        ("reproduce.sh", ["videos", "out put", "3"], 10),
        ("dev/train_release.sh", [], 8),
        ("dev/train_release.sh", ["videos", "one", "two"], 10),
        ("test.sh", ["-x"], 1),
    ],
)
def test_every_command_is_one_that_its_program_accepts(tmp_path, script, arguments, number):
    done, commands = run(tmp_path, script, *arguments)
    assert done.returncode == 0, done.stderr
    assert len(commands) == number
    for program, *words in commands:
        if program != "-m":
            module = import_module(program.removesuffix(".py").replace("/", "."))
            parse(getattr(module, "Options", None), "", words)
    given = [str(tmp_path / "elsewhere" / name) for name in ("videos", "out put")]
    if script == "reproduce.sh":
        assert commands[0][1:4] == [given[0], "--output", given[1]]
    if "one" in arguments:
        assert given[0] in commands[3] and commands[3][-2:] == ["one", "two"]


@pytest.mark.parametrize(
    "script, arguments, message",
    [
        ("quickstart.sh", ["--pretraind"], "usage: "),
        ("quickstart.sh", ["--pretrained", "more"], "usage: "),
        ("reproduce.sh", [], "usage: "),
        ("reproduce.sh", ["missing"], "missing: no such folder"),
        ("dev/train_release.sh", ["missing"], "missing: no such folder"),
        ("dev/fuzz.sh", ["30"], "usage: "),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(tmp_path, script, arguments, message):
    done, commands = run(tmp_path, script, *arguments)
    assert done.returncode == 2 and message in done.stderr and not commands


@pytest.mark.parametrize("script", ["reproduce.sh", "dev/train_release.sh"])
def test_a_script_stops_at_the_first_command_that_fails(tmp_path, script):
    done, commands = run(tmp_path, script, *["videos"] * (script == "reproduce.sh"), fails="train_deblur.py")
    assert done.returncode == 1 and commands[-1][0] == "train_deblur.py"
