"""Command line: former names and values are accepted and not listed; every script describes its flags."""

import math
import sys
from dataclasses import MISSING, dataclass

import pytest

from codes.cli import check_range, option, parse, program
from codes.errors import InputError


@dataclass(frozen=True)
class Options:
    file: str = option(MISSING, "input", positional=True)
    method: str = option("mfsr", "what restores, 100 %", choices=("mfsr", "isi"), renamed={"fused": "mfsr"})
    iterations: int = option(0, "number", aliases=("looks",), group="ablation")
    sizes: tuple[int, ...] = option((1, 2), "sides")
    fast: bool = option(False, "switch")


def test_former_names_and_values_are_accepted_and_not_listed(capsys):
    found = parse(Options, "", ["a.dat", "--method", "fused", "--looks", "3", "--sizes", "4", "5"])
    assert found == Options(file="a.dat", method="mfsr", iterations=3, sizes=(4, 5))
    with pytest.raises(SystemExit):
        parse(Options, "", ["--help"])
    text = capsys.readouterr().out
    assert "looks" not in text and "fused" not in text
    assert "100 % [mfsr]" in text and "number [0]" in text and "[False]" not in text
    assert text.index("ablation:") > text.index("--sizes") > text.index("--method")


@pytest.mark.parametrize("words", [["--method", "other"], ["--looks", "many"], ["--iter", "3"], []])
def test_unknown_values_and_abbreviations_are_refused(words, capsys):
    file = ["a.dat"] if words else []
    with pytest.raises(SystemExit) as end:
        parse(Options, "", file + words)
    assert end.value.code == 2 and "error: " in capsys.readouterr().err


def test_a_file_in_the_place_of_a_folder_is_wrong_input(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["program", "a.dat"])
    with pytest.raises(SystemExit) as end:
        program(lambda o: (tmp_path / "file/log").mkdir(parents=True), Options, "")
    told = capsys.readouterr().err
    assert end.value.code == 2 and told == f"error: {tmp_path}/file/log: Not a directory; name another place\n"


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_no_range_holds_infinity(value):
    with pytest.raises(InputError, match=r"--sizes 1 -?(inf|nan): accepted is 0 or more"):
        check_range(Options(file="a.dat", sizes=(1, value)), "sizes", 0)
