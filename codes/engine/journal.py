"""What a run leaves behind: options, log, curves, tables and pictures in one folder, never deleting any."""

import csv
import io
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from codes.errors import InputError
from codes.files import replacing
from codes.images import write_image

Rows = dict[str, dict[str, float]]


class Journal:
    """The folder of a run. Only the process that `writes` touches it; for the others all is silent."""

    def __init__(self, folder: str | Path, *, writes: bool = True):
        self.folder, self.writes = Path(folder), writes
        self.writer: SummaryWriter | None = None
        if writes:
            self.folder.mkdir(parents=True, exist_ok=True)

    def log(self, text: str) -> None:
        """Print lines and append them, with the time, to log.txt."""
        if not self.writes:
            return
        print(text, file=sys.stderr, flush=True)
        with open(self.folder / "log.txt", "a", encoding="utf-8") as file:
            file.writelines(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n" for line in text.splitlines())

    def options(self, options: dict, *, same_but: set[str] | None = None) -> None:
        """Keep the options of a run, with the versions it runs on.

        Raises: InputError if they differ from those kept before in any that is not in `same_but` (None: all may).
        """
        if not self.writes:
            return
        path = self.folder / "options.json"
        if same_but is not None and path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))["options"]
            changed = [
                f"--{name}: {before[name]} then, {value} now"
                for name, value in json.loads(json.dumps(options)).items()
                if name in before and name not in same_but and before[name] != value
            ]
            if changed:
                raise InputError(
                    f"{self.folder} holds a run with other options ({'; '.join(changed)}). Choose another --exp_name, "
                    "or go on knowingly with --force_resume"
                )
        record = {"options": options, "versions": versions(), "command": sys.argv}
        with replacing(path) as file:
            file.write(json.dumps(record, indent=1).encode())

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Add points to the TensorBoard curves."""
        if self.writes:
            if self.writer is None:
                self.writer = SummaryWriter(str(self.folder), purge_step=step)
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def table(self, step: int, rows: Rows, pictures: list[dict]) -> None:
        """Log a table of means, draw its numbers as curves, and keep it and every picture's numbers as CSV."""
        if not self.writes:
            return
        self.log(f"step {step}\n{as_text(rows)}")
        self.scalars(step, {f"{row}/{metric}": value for row, line in rows.items() for metric, value in line.items()})
        folder = self.folder / f"step-{step:07d}"
        means = [{"output": row, **line} for row, line in rows.items()]
        _write_csv(folder / "means.csv", means)
        _write_csv(folder / "pictures.csv", pictures)

    def picture(self, step: int, sample: str, name: str, image: Tensor) -> None:
        """Write a picture [C,H,W] in [0,1] as it is, clipped and not stretched."""
        if self.writes:
            pixels = image.detach().float().permute(1, 2, 0).cpu().numpy()
            file = f"{sample} {name}.png".replace("/", "_")
            write_image(self.folder / f"step-{step:07d}" / file, np.squeeze(pixels))

    def close(self) -> None:
        if self.writer:
            self.writer.close()


def as_text(rows: Rows) -> str:
    """Lay out rows of numbers as an aligned table."""
    metrics = list(dict.fromkeys(metric for line in rows.values() for metric in line))
    width = max((len(row) for row in rows), default=0)
    lines = [" " * width + "".join(f"{metric:>12}" for metric in metrics)]
    for row, line in rows.items():
        cells = (f"{line[metric]:12.3f}" if metric in line else f"{'-':>12}" for metric in metrics)
        lines.append(row.ljust(width) + "".join(cells))
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Say what a run was made with: Python, torch, numpy, and the commit where there is one."""
    root = Path(__file__).resolve().parents[2]
    found = {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__}
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, timeout=10, check=True
        )
        found["commit"] = commit.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass  # a copy without git
    return found


def _write_csv(path: Path, lines: list[dict]) -> None:
    columns = list(dict.fromkeys(column for line in lines for column in line))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(lines)
    with replacing(path) as file:
        file.write(text.getvalue().encode())
