"""check_gpu.py: the short form passes on a CPU; a device that computes something else fails, with exit code 1."""

import pytest
import torch

from codes.errors import InputError
from scripts import check_gpu
from scripts.checks import common, equality


def run(tmp_path, *checks: str) -> str:
    path = tmp_path / "report.md"
    check_gpu.main(check_gpu.Options(device="cpu", output=str(path), short=True, checks=checks))
    return path.read_text()


def test_the_short_form_passes_on_a_cpu(tmp_path, capsys):
    text = run(tmp_path, *check_gpu.CHECKS)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    verdicts = {row[0].removeprefix("| "): row[1] for row in rows}
    assert {f"deblur.py --method {case}, fp32" for case in equality.CASES} <= verdicts.keys()
    checked = common.precisions(torch.device("cpu"))
    assert {f"training of {stage}, {precision}" for stage in common.STAGES for precision in checked} <= verdicts.keys()
    assert ("bf16 was not run" in text) == ("bf16" not in checked)
    assert {name for name, verdict in verdicts.items() if verdict == "not run"} == {
        "--compile",
        "two processes: losses",
    }
    assert "FAILED" not in verdicts.values() and "no GPU was used" in text and "- torch: " in text
    with pytest.raises(InputError, match="exists already"):
        run(tmp_path, "cache")


def test_a_device_that_restores_another_picture_fails(tmp_path, monkeypatch):
    """The second restoration of a method is the device's; one grey level is ten times what is accepted."""
    real, calls = equality.restore, []

    def restore(*given):
        calls.append(given)
        return real(*given) + (len(calls) == 2)

    monkeypatch.setattr(equality, "restore", restore)
    monkeypatch.setattr(equality, "CASES", ("tfp",))
    with pytest.raises(SystemExit) as end:
        run(tmp_path, "restoration")
    assert end.value.code == 1
    assert "| deblur.py --method tfp, fp32 | FAILED | 1/255 | at most 0.1/255 |" in (tmp_path / "report.md").read_text()


def test_an_error_fails_its_check_and_the_others_run(tmp_path, monkeypatch):
    def broken(setting):
        raise RuntimeError("CUDA error")

    monkeypatch.setitem(check_gpu.CHECKS, "processes", broken)
    with pytest.raises(SystemExit):
        run(tmp_path, "processes", "compilation")
    text = (tmp_path / "report.md").read_text()
    assert "| processes | FAILED | RuntimeError: CUDA error | no error |" in text and "| --compile | not run |" in text
