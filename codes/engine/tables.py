"""Tables of an evaluation: as text for the log, and as CSV files in the folder of a run."""

import csv
import io
from pathlib import Path

from codes.errors import InputError
from codes.files import replacing

Rows = dict[str, dict[str, float]]  # output -> metric -> mean


def as_text(rows: Rows) -> str:
    """Lay out rows of numbers as an aligned table."""
    metrics = list(dict.fromkeys(metric for line in rows.values() for metric in line))
    width = max((len(row) for row in rows), default=0)
    lines = [" " * width + "".join(f"{metric:>12}" for metric in metrics)]
    for row, line in rows.items():
        cells = (f"{line[metric]:12.3f}" if metric in line else f"{'-':>12}" for metric in metrics)
        lines.append(row.ljust(width) + "".join(cells))
    return "\n".join(lines)


def write_csv(path: Path, lines: list[dict]) -> None:
    """Write lines with a column for each of their keys."""
    columns = list(dict.fromkeys(column for line in lines for column in line))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(lines)
    with replacing(path) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))


def read_means(folder: Path) -> Rows:
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
