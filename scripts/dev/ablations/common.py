"""What the parts of the ablation share: labels of columns, provenance, and writing of the table."""

import shlex
import sys
from pathlib import Path

from codes.data import manifest
from codes.engine.provenance import versions
from codes.reporting.table import Table


def data_label(folder: str) -> str:
    """Name a data set in the head of a column, by its V_th and its folder."""
    threshold = " to ".join(f"{value:g}" for value in manifest.thresholds(folder)) or "unknown"
    return f"V_th {threshold}, {Path(folder).name}"


def provenance() -> str:
    """Say which command and versions measured a table."""
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"measured by `{shlex.join(sys.argv)}`, {found}"


def written(table: Table, folder: str) -> Table:
    """Write and print a table."""
    table.write(folder)
    print(table.markdown())
    return table
