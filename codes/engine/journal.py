"""The journal of a run, which writes its log, curves, tables and pictures into one folder and never deletes any."""

import errno
import fcntl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from codes.data.images import write_image
from codes.engine.provenance import read_or_nothing, same_content, versions, write_json
from codes.engine.tables import Rows, as_text, read_means, write_csv
from codes.errors import InputError

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:  # curves are left out
    SummaryWriter = None

STATE = "the state"


class Journal:
    """The folder of a run. Only the process that `writes` touches it; for the others all is silent.

    What cannot be written while a training runs (the disk is full, a drive is gone) does not end it: that is warning
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
        """Within, a failure to write `what` is reported and kept instead of raised."""
        try:
            yield
            self.unwritten.pop(what, None)
        except OSError as error:
            if what not in self.unwritten or what == STATE:
                warning = f"WARNING: {what} cannot be written ({error}); it goes on, and tries again"
                print(f"\n{'!' * 80}\n{warning}\n{'!' * 80}", file=sys.stderr, flush=True)
            self.unwritten[what] = error

    def raise_unwritten(self) -> None:
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
            write_json(folder / "about.json", self.about | {"step": step, "versions": versions()})
            write_csv(folder / "pictures.csv", pictures)
        curves = {f"{row}/{metric}": value for row, line in rows.items() for metric, value in line.items()}
        self.scalars(step, curves)
        self.flush()
        with self.writing("the table"):
            write_csv(folder / "means.csv", means)

    def has_table(self, step: int) -> bool:
        """Say whether the table of a step was made, of the content that the test data have now."""
        folder = self.folder / f"step-{step:07d}"
        if not (folder / "means.csv").is_file():
            return False
        made_of, now = read_or_nothing(folder / "about.json").get("data"), self.about.get("data")
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
