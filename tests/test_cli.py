"""Command line: former names and values are accepted and not listed; every script describes its flags."""

from dataclasses import MISSING, dataclass

import pytest

from codes.cli import option, parse


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
