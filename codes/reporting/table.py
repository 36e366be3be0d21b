"""A table of results that says what it was made from, as Markdown, CSV and LaTeX."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from codes.files import replacing

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns; None where nothing was measured. `notes` stand under the table."""

    name: str  # of its files
    title: str
    columns: list[str]
    rows: list[list[Cell]]
    notes: list[str]

    def write(self, folder: str | Path) -> None:
        """Write FOLDER/NAME.{md,csv,tex}."""
        for suffix, text in (("md", self.markdown()), ("csv", self.csv()), ("tex", self.latex())):
            with replacing(Path(folder) / f"{self.name}.{suffix}") as file:
                file.write(text.encode())

    def markdown(self) -> str:
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        table = "\n".join("| " + " | ".join(shown(cell).replace("|", r"\|") for cell in line) + " |" for line in lines)
        return f"### {self.title}\n\n{table}\n\n" + "\n".join(f"- {note}" for note in self.notes) + "\n"

    def csv(self) -> str:
        """Numbers in full; the notes are lines that begin with #."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue() + "".join(f"# {' '.join(note.split())}\n" for note in self.notes)

    def latex(self) -> str:
        """A table environment; it needs the package booktabs."""
        head, *body = (
            " & ".join(_escaped(shown(cell)) for cell in line) + r" \\" for line in [self.columns, *self.rows]
        )
        return "\n".join(
            [
                *(f"% {' '.join(note.split())}" for note in self.notes),
                r"\begin{table}\centering",
                rf"\caption{{{_escaped(self.title)}}}",
                rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
                *(r"\toprule", head, r"\midrule", *body, r"\bottomrule"),
                r"\end{tabular}\end{table}",
                "",
            ]
        )


def shown(cell: Cell) -> str:
    """Write a cell as it is read: three decimals, thousands apart, a dash for none."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.3f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
LATEX |= {letter: f"\\{letter}" for letter in "&%$#_{}"}


def _escaped(text: str) -> str:
    """Write text for LaTeX: every letter that is a command there, or another letter, is shown as itself."""
    return "".join(LATEX.get(letter, letter) for letter in text)
