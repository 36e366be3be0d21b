"""Show what a run came to: its table, pictures side by side, the qualitative grid, its curves, and one HTML page.

    python scripts/figures.py log/deblur/GOPRO          # its newest evaluation: *.png, *.svg, curves.csv, report.html
    python scripts/figures.py log/deblur/GOPRO/test-20260101-120000 --output figures --samples 2

It reads the folder of a run of any of the three stages; nothing is computed again. The page needs no server.
"""

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codes.cli import option, program
from codes.data.images import write_image
from codes.engine.journal import as_text
from codes.errors import InputError
from codes.files import replacing
from codes.reporting.curves import drawn, panels
from codes.reporting.figures import grid, strip
from codes.reporting.html import report
from codes.reporting.run_record import Record, read_curves, read_options, read_record

# What is shown side by side, of the first of which a run has all.
STRIPS = ("blurry", "teacher", "LDN", "truth"), ("blurry", "SDM", "SDM fused", "LDN", "truth")


@dataclass(frozen=True)
class Options:
    run: str = option(MISSING, "folder of the run, or of one evaluation in it", positional=True)
    output: str = option("", "folder for the figures [that of the run]")
    samples: int = option(4, "samples shown, of those whose pictures were kept")
    width: int = option(320, "pixels of a column of the grid")
    better_by: float | None = option(None, "dB that LDN has to be over the blurry picture; exit code 1 if it is not")


def main(o: Options) -> list[Path]:
    output, record, curves = Path(o.output or o.run), read_record(o.run), read_curves(o.run)
    pictures = {sample: record.outputs(sample) for sample in record.samples()[: o.samples]}
    written = [output / f"grid-{sample.replace('/', '_')}.png" for sample in pictures]
    for path, (sample, outputs) in zip(written, pictures.items(), strict=True):
        write_image(path, grid(outputs, captions(record, sample), width=o.width))
    for names in STRIPS:
        rows = [[outputs[name] for name in names] for outputs in pictures.values() if outputs.keys() >= set(names)]
        if rows:
            written.append(output / "strip.png")
            write_image(written[-1], strip(names, rows))
            break
    pages = {
        f"curves-{name.replace('/', '-')}.svg": text for name, text in zip(panels(curves), drawn(curves), strict=True)
    }
    folder = Path(o.run).resolve()
    title = f"{folder.parent.name}/{folder.name}"
    lines = [f"{name},{step},{value:.6g}\n" for name, points in curves.items() for step, value in points]
    pages["curves.csv"] = "".join(["curve,step,value\n", *lines])
    pages["report.html"] = report(title, record, curves, read_options(o.run), samples=o.samples)
    for name, text in pages.items():
        written.append(output / name)
        with replacing(written[-1]) as file:
            file.write(text.encode())
    print("\n".join([as_text(record.rows), *map(str, written)]))
    if o.better_by is not None:
        refuse_no_better(record, o.better_by)
    return written


def refuse_no_better(record: Record, by: float) -> None:
    """End the program if LDN is not better than the blurry picture, or was not measured."""
    if not record.rows.keys() >= {"LDN", "blurry"}:
        raise InputError(f"{record.folder}: no rows LDN and blurry; --better_by is for runs of train_deblur.py")
    gain = record.rows["LDN"]["psnr"] - record.rows["blurry"]["psnr"]
    print(f"LDN is {gain:+.2f} dB against the blurry picture")
    if gain < by:
        sys.exit(f"failed: LDN has to be {by:g} dB better than the blurry picture, it is {gain:+.2f} dB")


def captions(record: Record, sample: str) -> dict[str, str]:
    """Write the PSNR and SSIM of each output of a sample."""
    return {
        output: f"{line['psnr']:.2f} dB  {line['ssim']:.3f}"
        for (of_sample, output), line in record.values.items()
        if of_sample == sample
    }


if __name__ == "__main__":
    program(main, Options, __doc__)
