"""Draw what a run came to: the qualitative grid, its curves, and one HTML page of everything.

    python scripts/figures.py log/deblur/GOPRO          # its newest evaluation: grid-*.png, curves-*.svg, report.html
    python scripts/figures.py log/deblur/GOPRO/test-20260101-120000 --output figures --samples 2

It reads the folder of a run of any of the three stages; nothing is computed again. The page needs no server.
"""

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codes.cli import option, program
from codes.curves import drawn, panels
from codes.files import replacing
from codes.grid import grid
from codes.images import write_image
from codes.record import Record, read_curves, read_options, read_record
from codes.report import report


@dataclass(frozen=True)
class Options:
    run: str = option(MISSING, "folder of the run, or of one evaluation in it", positional=True)
    output: str = option("", "folder for the figures [that of the run]")
    samples: int = option(4, "samples shown, of those whose pictures were kept")
    width: int = option(320, "pixels of a column of the grid")


def main(o: Options) -> list[Path]:
    output, record, curves = Path(o.output or o.run), read_record(o.run), read_curves(o.run)
    written = []
    for sample in record.samples()[: o.samples]:
        written.append(output / f"grid-{sample.replace('/', '_')}.png")
        write_image(written[-1], grid(record.outputs(sample), captions(record, sample), width=o.width))
    pages = {
        f"curves-{name.replace('/', '-')}.svg": text for name, text in zip(panels(curves), drawn(curves), strict=True)
    }
    folder = Path(o.run).resolve()
    title = f"{folder.parent.name}/{folder.name}"
    pages["report.html"] = report(title, record, curves, read_options(o.run), samples=o.samples)
    for name, text in pages.items():
        written.append(output / name)
        with replacing(written[-1]) as file:
            file.write(text.encode())
    print("\n".join(map(str, written)))
    return written


def captions(record: Record, sample: str) -> dict[str, str]:
    """Write the PSNR and SSIM of each output of a sample."""
    return {
        output: f"{line['psnr']:.2f} dB  {line['ssim']:.3f}"
        for (of_sample, output), line in record.values.items()
        if of_sample == sample
    }


if __name__ == "__main__":
    program(main, Options, __doc__)
