"""Read the results of a run from its folder: tables, pictures and curves."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codes.data import manifest
from codes.data.images import read_image
from codes.engine.tables import read_csv, read_means
from codes.errors import InputError

Curves = dict[str, list[tuple[int, float]]]  # name -> (step, value), in order


@dataclass(frozen=True)
class Record:
    """The latest evaluation of a run: its table, and the folder of its pictures."""

    folder: Path  # step-0000320
    rows: dict[str, dict[str, float]]  # output -> metric -> mean
    values: dict[tuple[str, str], dict[str, float]]  # (sample, output) -> metric -> value

    def samples(self) -> list[str]:
        """List the samples whose pictures were saved."""
        first = next(iter(self.rows))
        return [sample for sample, output in self.values if output == first and self._path(sample, first).is_file()]

    def outputs(self, sample: str) -> dict[str, np.ndarray]:
        """Read the saved pictures of a sample in the order of the table, [H,W,3] uint8 BGR, the truth last."""
        paths = {output: self._path(sample, output) for output in (*self.rows, "truth")}
        return {output: read_image(path) for output, path in paths.items() if path.is_file()}

    def _path(self, sample: str, output: str) -> Path:
        return self.folder / f"{sample} {output}.png".replace("/", "_")


def read_record(run: str | Path) -> Record:
    """Read the latest evaluation of a run, or the evaluation in a folder RUN/test-*.

    Raises: InputError if there is none.
    """
    found = _evaluations(run)
    if not found:
        raise InputError(f"{run}: no step-*/means.csv found; name the folder of a run that has been evaluated")
    rows = read_means(found[-1])
    values = read_csv(found[-1] / "pictures.csv", "sample", "output")
    if not rows:
        raise InputError(f"{found[-1]}: its table is empty; data without sharp ground truth have no metrics")
    return Record(found[-1], rows, values)


def evaluated_folder(run: str | Path) -> Path:
    """Return the folder of a run, or of its latest evaluation by --test_mode if only such were made of it."""
    tests = sorted(path for path in Path(run).glob("test-*") if _evaluations(path))
    return Path(run) if _evaluations(run) or not tests else tests[-1]


def _evaluations(run: str | Path) -> list[Path]:
    """List the folders of the evaluations of a run, in the order of their steps."""
    return sorted(path.parent for path in Path(run).glob("step-*/means.csv"))


def read_options(run: str | Path) -> dict:
    """Read options.json of a run; empty if there is none."""
    return manifest.read(Path(run) / "options.json", otherwise="delete it to go on without the options")


def read_curves(run: str | Path) -> Curves:
    """Read the losses and metrics of a run from its TensorBoard files; empty if there are none.

    Raises: InputError if TensorBoard is not installed.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
    except ImportError:
        raise InputError(
            "tensorboard is not installed; it reads the curves of a run: pip install tensorboard"
        ) from None
    events = EventAccumulator(str(run), size_guidance={SCALARS: 0}).Reload()
    return {
        name: sorted({event.step: event.value for event in events.Scalars(name)}.items())
        for name in events.Tags()["scalars"]
    }
