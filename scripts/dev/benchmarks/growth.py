"""Measure time and memory of a training step and of reading, from small sizes to large ones, and draw them.

    python scripts/dev/benchmark.py growth growth.svg

Writes the drawing, and its values as CSV next to it.
"""

import tempfile
from dataclasses import MISSING, dataclass
from pathlib import Path

from codes.cli import option
from codes.engine import distributed
from codes.files import replacing
from codes.reporting.cost import reading_cost, step_cost
from codes.reporting.curves import HEIGHT, WIDTH, draw_panel
from codes.reporting.run_results import Curves
from scripts.dev.benchmarks.common import Row, print_table, write_sample


@dataclass(frozen=True)
class Options:
    picture: str = option(MISSING, "SVG file to write; a CSV file of the same name goes next to it", positional=True)
    sides: tuple[int, ...] = option((256, 384, 512, 768, 1024), "sides of crops in picture pixels, at batch size 1")
    batches: tuple[int, ...] = option((1, 2, 4, 8), "batch sizes, with crops of the first side")
    samples: tuple[int, ...] = option((16, 64, 128, 256), "numbers of samples of a data set")
    size: tuple[int, ...] = option((360, 640), "height and width of the pictures of these data sets")
    precision: str = option("fp32", "arithmetic", choices=("fp32", "tf32", "bf16"), idle=distributed.no_tf32)
    repeats: int = option(3, "steps after two warm-up steps; the median is reported")
    device: str = option("", "device [cuda if available, else cpu]")
    json: bool = option(False, "print one JSON object a line")


def main(o: Options) -> None:
    curves = step_curves(o) | {"MB of reading against samples": reading_curves(o.samples, o.size)}
    rows: list[Row] = [
        {"curve": title, "of": line, "at": at, "value": value}
        for title, lines in curves.items()
        for line, points in lines.items()
        for at, value in points
    ]
    table = "".join(",".join(map(str, line)) + "\n" for line in (rows[0], *(row.values() for row in rows)))
    for path, text in ((Path(o.picture), draw(curves)), (Path(o.picture).with_suffix(".csv"), table)):
        with replacing(path) as file:
            file.write(text.encode())
    print_table(rows, as_json=o.json)


def step_curves(o: Options) -> dict[str, Curves]:
    """Measure a step of each network over the sides of the crops, and over batch sizes."""
    device, curves = distributed.chosen(o.device), {}
    sizes = [("crop", side, 1) for side in o.sides] + [("batch", o.sides[0], batch) for batch in o.batches]
    for name in ("BSN", "SR", "LDN"):
        for varied, side, batch in sizes:
            found = step_cost(name, side=side, batch=batch, precision=o.precision, device=device, repeats=o.repeats)
            at = side if varied == "crop" else batch
            panel = curves.setdefault(f"ms a step against {varied}", {})
            panel.setdefault(name, []).append((at, found["milliseconds"]))
            if found["memory"] is not None:
                panel = curves.setdefault(f"MB a step against {varied}", {})
                panel.setdefault(name, []).append((at, found["memory"] / 1e6))
    return curves


def reading_curves(counts: tuple[int, ...], size: tuple[int, ...]) -> Curves:
    """Measure the memory that reading takes, in MB, and what `--cache ram` reports, over the number of samples."""
    curves: Curves = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as place:
            write_sample(Path(place), *size, split="train", name="0000")
            for first in list(Path(place).rglob("0000.*")):
                for number in range(1, count):
                    first.with_stem(f"{number:04d}").hardlink_to(first)
            found = {cache: reading_cost(place, cache, crop=128) for cache in ("none", "ram")}
        for cache, cost in found.items():
            if cost["memory"] is not None:
                curves.setdefault(f"--cache {cache}", []).append((count, cost["memory"] / 1e6))
        curves.setdefault("reported by ram", []).append((count, found["ram"]["kept"] / 1e6))
    return curves


def draw(curves: dict[str, Curves]) -> str:
    """Draw one panel for each title, two in a row, as SVG."""
    panels = [draw_panel(title, lines) for title, lines in curves.items()]
    places = ((WIDTH * (n % 2), (HEIGHT + 20) * (n // 2)) for n in range(len(panels)))
    placed = (f'<g transform="translate({x},{y})">{panel}</g>' for (x, y), panel in zip(places, panels, strict=True))
    size = f'width="{2 * WIDTH}" height="{(HEIGHT + 20) * -(-len(panels) // 2)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(placed)}</svg>\n'
