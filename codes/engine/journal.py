"""What a run leaves behind: options, log, curves, tables and pictures in one folder, never deleting any."""

import csv
import errno
import fcntl
import io
import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codes.data import manifest
from codes.data.fingerprint import Digests, changes
from codes.data.images import write_image
from codes.errors import InputError
from codes.files import replacing

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:  # curves are left out
    SummaryWriter = None

Rows = dict[str, dict[str, float]]
STATE = "the state"
HASHES = re.compile(r"sha256 (\w+)(?:, content sha256 (\w+))?$")


class Journal:
    """The folder of a run. Only the process that `writes` touches it; for the others all is silent.

    What cannot be written while a training runs (the disk is full, a drive is gone) does not end it: that is told
    loudly, tried again the next time, and kept in `unwritten` as long as it lasts.
    """

    def __init__(self, folder: str | Path, *, writes: bool = True, alone: bool = False):
        """Open the folder of a run, of which `alone` one process may have it open at a time.

        Raises: InputError if another has.
        """
        self.folder, self.writes = Path(folder), writes
        self.writer: SummaryWriter | None = None
        self.resumed_at = 0  # the step that curves go on from; what a killed process drew beyond it is void
        self.about: dict[str, Any] = {}  # what tables are made of
        self.unwritten: dict[str, OSError] = {}
        if writes:
            self.folder.mkdir(parents=True, exist_ok=True)
        if writes and alone:
            # Held as long as the process lives; those that it starts to read data do not hold it.
            self.lock = open(self.folder / ".lock", "a")  # noqa: SIM115
            try:
                fcntl.lockf(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise InputError(
                    f"{self.folder}: another process trains this run; wait for it, or choose another --exp_name"
                ) from None
            except OSError:
                pass  # a file system without locks

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Within, a failure to write `what` is told and kept instead of raised."""
        try:
            yield
            self.unwritten.pop(what, None)
        except OSError as error:
            if what not in self.unwritten or what == STATE:
                told = f"WARNING: {what} cannot be written ({error}); it goes on, and tries again"
                print(f"\n{'!' * 80}\n{told}\n{'!' * 80}", file=sys.stderr, flush=True)
            self.unwritten[what] = error

    def complain(self) -> None:
        """Raise OSError if something could not be written, and not later either."""
        for what, error in self.unwritten.items():
            raise OSError(error.errno, f"{error.strerror}: {what} could not be written", error.filename)

    def log(self, text: str) -> None:
        """Print lines and append them, with the time, to log.txt."""
        if not self.writes:
            return
        print(text, file=sys.stderr, flush=True)
        with (
            self.writing("the log"),
            open(self.folder / "log.txt", "a", encoding="utf-8", errors="surrogateescape") as file,
        ):
            file.writelines(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n" for line in text.splitlines())

    def options(
        self,
        options: dict,
        *,
        defaults: dict | None = None,
        same_but: set[str] | None = None,
        by_content: Iterable[str] = (),
        translated: Callable[[dict], dict] = dict,
    ) -> None:
        """Keep the options of a run, with the versions it runs on.

        An option that the record of an older run does not have is taken to have been at its default. Options that are
        compared `by_content` name files, which `sources` compares; records from before it did are compared by path.
        `translated` replaces former names and values in a record by those of today.
        Raises: InputError if they differ from those kept before in any that is not in `same_but` (None: all may), or
        nothing was kept.
        """
        if not self.writes:
            return
        path, options = self.folder / "options.json", json.loads(json.dumps(options))
        record = {}
        if same_but is not None:
            if not path.exists():
                raise InputError(
                    f"{path}: missing, so what this run was started with is not known; bring it back, choose another "
                    "--exp_name, or go on knowingly with --force_resume"
                )
            record = _read_json(path)
            before = {name: value for name, value in json.loads(json.dumps(defaults or {})).items() if name in options}
            before |= translated(record.get("options", {}))
            free = same_but | set(by_content if record.get("sources") else ())
            self._refuse(
                f"--{name}: {_told(before.get(name))} then, {_told(options.get(name))} now"
                for name in before | options
                if name not in free and before.get(name) != options.get(name)
            )
        _write_json(path, record | {"options": options, "versions": versions(), "command": sys.argv})

    def sources(self, sources: dict[str, str], digests: dict[str, Digests], *, same: bool) -> None:
        """Record what a run is made of: name -> description with a hash of content, and the digests of its files.

        Raises: InputError naming what changed, if the content is another than that of the record and has to be the
        `same`. Where files lie does not count.
        """
        if not self.writes:
            return
        path, files = self.folder / "options.json", self.folder / "fingerprint.json"
        record, found = _read_json(path), _read_or_nothing(files)
        before = record.get("sources", {}) if same else {}
        differences = []
        for name in before | sources:
            now = sources.get(name, "nothing")
            # An older record may not have every source; weight files it has always had.
            was = before.get(name, "nothing" if before and name.endswith("_path") else now)
            if not same_content(was, now):
                changed = changes(found[name], digests[name]) if name in found and name in digests else ""
                differences.append(f"{name}: {changed or f'{was} then, {now} now'}")
        self._refuse(differences)
        _write_json(files, digests)
        _write_json(path, record | {"sources": sources})

    def _refuse(self, changes: Iterable[str]) -> None:
        if listed := "; ".join(changes):
            raise InputError(
                f"{self.folder} holds a run with other options ({listed}). Choose another --exp_name, "
                "or go on knowingly with --force_resume"
            )

    def resume(self, step: int) -> None:
        """Go on from a step: clear what a killed process left half written, and let the curves go on from there."""
        self.resumed_at = step
        if self.writes:
            for pattern in (".*.partial", "checkpoints/.*.partial", "step-*/.*.partial"):
                for path in self.folder.glob(pattern):
                    path.unlink(missing_ok=True)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Add points to the TensorBoard curves, if TensorBoard is installed."""
        if SummaryWriter is None:
            self._warn_of_no_curves()
        elif self.writes:
            with self.writing("the curves"):
                try:
                    if self.writer is None:
                        # Points beyond it are void, if there are any: they are drawn again.
                        first = self.resumed_at + 1 if self.resumed_at else 0
                        self.writer = SummaryWriter(str(self.folder), purge_step=first)
                    for name, value in values.items():
                        self.writer.add_scalar(name, value, step)
                except OSError:
                    self.writer, self.resumed_at = None, max(step - 1, 0)  # a file that broke off is not gone on with
                    raise

    @cache  # noqa: B019 (a run has one journal)
    def _warn_of_no_curves(self) -> None:
        self.log("WARNING: no curves are drawn, tensorboard is not installed; training and tables need none")

    def flush(self) -> None:
        """Bring all points of the curves to the disk."""
        if self.writer:
            with self.writing("the curves"):
                try:
                    self.writer.flush()
                    next(self.folder.glob("events.out.tfevents.*"))  # into a file without a name one can write for ever
                except (OSError, StopIteration):
                    self.writer = None
                    raise OSError(errno.EIO, "the file of the curves is gone", str(self.folder)) from None

    def table(self, step: int, rows: Rows, pictures: list[dict]) -> None:
        """Log a table of means, draw its numbers as curves, and keep it and every picture's numbers as CSV.

        Beside them about.json says what it was made of. means.csv comes last: where it is, all is.
        """
        if not self.writes:
            return
        self.log(f"step {step}\n{as_text(rows)}")
        folder = self.folder / f"step-{step:07d}"
        if (folder / "means.csv").is_file() and not self.has_table(step):
            self.log(f"{folder}: the test data changed since this table was made; it is made again")
        means = [{"output": row, **line} for row, line in rows.items()]
        with self.writing("the table"):
            _write_json(folder / "about.json", self.about | {"step": step, "versions": versions()})
            _write_csv(folder / "pictures.csv", pictures)
        curves = {f"{row}/{metric}": value for row, line in rows.items() for metric, value in line.items()}
        self.scalars(step, curves)
        self.flush()
        with self.writing("the table"):
            _write_csv(folder / "means.csv", means)

    def has_table(self, step: int) -> bool:
        """Say whether the table of a step was made, of the content that the test data have now."""
        folder = self.folder / f"step-{step:07d}"
        if not (folder / "means.csv").is_file():
            return False
        made_of, now = _read_or_nothing(folder / "about.json").get("data"), self.about.get("data")
        return not made_of or not now or same_content(made_of, now)

    def kept_table(self, step: int) -> Rows:
        """Return the table of a step that was made before; none without its file."""
        return read_means(self.folder / f"step-{step:07d}") if self.has_table(step) else {}

    def picture(self, step: int, sample: str, name: str, image: Tensor) -> None:
        """Write a picture [C,H,W] in [0,1] as it is, clipped and not stretched."""
        if self.writes:
            pixels = image.detach().float().permute(1, 2, 0).cpu().numpy()
            file = f"{sample} {name}.png".replace("/", "_")
            with self.writing("the pictures"):
                write_image(self.folder / f"step-{step:07d}" / file, np.squeeze(pixels))

    def close(self) -> None:
        if self.writer:
            self.writer.close()


def same_content(before: str, now: str) -> bool:
    """Compare two descriptions by the hashes of content that they end in, not by the paths that they begin with.

    Descriptions of data sets in older records have a hash of names and sizes alone, which is compared there.
    """
    hashes = [HASHES.search(text) for text in (before, now)]
    if not all(hashes):
        return before == now
    (names, content), (names_now, content_now) = (found.groups() for found in hashes)
    return content == content_now if content and content_now else names == names_now


def as_text(rows: Rows) -> str:
    """Lay out rows of numbers as an aligned table."""
    metrics = list(dict.fromkeys(metric for line in rows.values() for metric in line))
    width = max((len(row) for row in rows), default=0)
    lines = [" " * width + "".join(f"{metric:>12}" for metric in metrics)]
    for row, line in rows.items():
        cells = (f"{line[metric]:12.3f}" if metric in line else f"{'-':>12}" for metric in metrics)
        lines.append(row.ljust(width) + "".join(cells))
    return "\n".join(lines)


@cache
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


def _told(value: Any) -> str:
    """Write the value of an option; of one that is not given there is nothing to write."""
    return "nothing" if value in (None, "", []) else str(value)


def _read_json(path: Path) -> dict:
    return manifest.read(path, otherwise="--force_resume writes a new one")


def _read_or_nothing(path: Path) -> dict:
    """Read a record that can be done without; empty if it is missing or damaged."""
    with suppress(InputError):
        return manifest.read(path)
    return {}


def _write_json(path: Path, record: dict) -> None:
    with replacing(path) as file:
        file.write(json.dumps(record, indent=1).encode())


def _write_csv(path: Path, lines: list[dict]) -> None:
    columns = list(dict.fromkeys(column for line in lines for column in line))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(lines)
    with replacing(path) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))


def read_means(folder: Path) -> dict[str, dict[str, float]]:
    """Read the table of an evaluation from its folder: output -> metric -> mean.

    Raises: InputError if it is damaged.
    """
    return {output: line for (output,), line in read_csv(folder / "means.csv", "output").items()}


def read_csv(path: Path, *names: str) -> dict[tuple[str, ...], dict[str, float]]:
    """Read a table: the columns `names` of each line -> its numbers."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {tuple(line[name] for name in names): _numbers(line) for line in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{path}: no table of a run ({error}); evaluate it again with --test_mode") from None


def _numbers(line: dict[str, str]) -> dict[str, float]:
    return {name: float(value) for name, value in line.items() if name not in ("sample", "output") and value}
