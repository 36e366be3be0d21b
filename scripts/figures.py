"""Draw the results of a run: table, pictures side by side, comparison grid, curves, and one HTML page.

    python scripts/figures.py log/deblur/GOPRO            # its latest evaluation, in training or else by --test_mode
    python scripts/figures.py log/deblur/GOPRO/test-20260101-120000 --output figures --samples 2

Works for the runs of all three stages and reads only files of the run: writes *.png, *.svg, curves.csv and report.html.
"""

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from codes.cli import option, program
from codes.data.images import write_image
from codes.engine.tables import as_text
from codes.errors import InputError
from codes.files import replacing
from codes.reporting.curves import draw_curves, group_into_panels
from codes.reporting.figures import comparison_grid, side_by_side
from codes.reporting.html import html_report
from codes.reporting.run_results import Curves, Record, evaluated_folder, read_curves, read_options, read_record

# Outputs shown side by side: the first list that a run has completely.
SIDE_BY_SIDE = ("blurry", "teacher", "LDN", "truth"), ("blurry", "SDM", "SDM MFSR", "LDN", "truth")


@dataclass(frozen=True)
class Options:
    run: str = option(MISSING, "folder of a run, or of one evaluation in it", positional=True)
    output: str = option("", "folder of the figures [that of the run, or of the evaluation]")
    samples: int = option(4, "number of samples to draw, of those whose pictures were saved")
    width: int = option(320, "width of a column of the grid in pixels")
    better_by: float | None = option(
        None, "least gain in PSNR (dB) of LDN over the blurry picture; exit code 1 if it is smaller"
    )


def main(o: Options) -> list[Path]:
    if o.samples < 0 or o.width < 1:
        raise InputError(f"--samples {o.samples} --width {o.width}: at least 0 samples and a width of 1 are accepted")
    run = evaluated_folder(o.run)
    output, record, curves = Path(o.output or run), read_record(run), read_curves(run)
    if o.better_by is not None and not record.rows.keys() >= {"LDN", "blurry"}:
        raise InputError(f"{record.folder}: no rows LDN and blurry; --better_by is for runs of train_deblur.py")
    saved = record.samples()
    if o.samples != Options.samples and o.samples > len(saved):
        print(f"--samples {o.samples}: {record.folder} has the pictures of {len(saved)}", file=sys.stderr)
    pictures = {sample: record.outputs(sample) for sample in saved[: o.samples]}
    if o.width != Options.width and not pictures:
        raise InputError(
            f"--width {o.width}: no grid is drawn, {record.folder} has no saved pictures or --samples is 0"
        )
    written = write_pictures(output, record, pictures, width=o.width)
    folder = run.resolve()
    title = f"{folder.parent.name}/{folder.name}"
    page = html_report(title, record, curves, read_options(run), samples=o.samples)
    for name, text in (curve_files(curves) | {"report.html": page}).items():
        written.append(output / name)
        with replacing(written[-1]) as file:
            file.write(text.encode())
    print("\n".join([as_text(record.rows), *map(str, written)]))
    if o.better_by is not None:
        check_gain(record, o.better_by)
    return written


def write_pictures(
    output: Path, record: Record, pictures: dict[str, dict[str, np.ndarray]], *, width: int
) -> list[Path]:
    """Write a comparison grid for each sample, and strip.png with the samples side by side; return the paths."""
    written = []
    for sample, outputs in pictures.items():
        written.append(output / f"grid-{sample.replace('/', '_')}.png")
        write_image(written[-1], comparison_grid(outputs, captions(record, sample), width=width))
    for names in SIDE_BY_SIDE:
        rows = [[outputs[name] for name in names] for outputs in pictures.values() if outputs.keys() >= set(names)]
        if rows:
            written.append(output / "strip.png")
            write_image(written[-1], side_by_side(names, rows))
            break
    return written


def curve_files(curves: Curves) -> dict[str, str]:
    """Return the content of curves-*.svg and curves.csv by file name."""
    names = (f"curves-{name.replace('/', '-')}.svg" for name in group_into_panels(curves))
    lines = [f"{name},{step},{value:.6g}\n" for name, points in curves.items() for step, value in points]
    return dict(zip(names, draw_curves(curves), strict=True)) | {"curves.csv": "".join(["curve,step,value\n", *lines])}


def check_gain(record: Record, least: float) -> None:
    """End the program with code 1 if LDN gains less than `least` dB over the blurry picture."""
    gain = record.rows["LDN"]["psnr"] - record.rows["blurry"]["psnr"]
    print(f"LDN gains {gain:+.2f} dB over the blurry picture")
    if gain < least:
        sys.exit(f"failed: LDN gains {gain:+.2f} dB over the blurry picture, --better_by asks for {least:g} dB")


def captions(record: Record, sample: str) -> dict[str, str]:
    """Return PSNR and SSIM of each output of a sample as text."""
    return {
        output: f"{line['psnr']:.2f} dB  {line['ssim']:.3f}"
        for (of_sample, output), line in record.values.items()
        if of_sample == sample
    }


if __name__ == "__main__":
    program(main, Options, __doc__)
