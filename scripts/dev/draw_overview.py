"""Draw the overview of the method, imgs/overview.svg, with pictures of a demo scene.

    python scripts/make_demo.py
    python scripts/dev/draw_overview.py

The pictures of LDN come from the weights in model/. The drawing embeds all pictures and has a white background.
"""

import base64
import sys
import tempfile
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from codes.cli import option, program
from codes.data.images import read_image
from codes.data.spikes import UPSCALE, Exposure, read_spikes
from codes.files import replacing
from codes.reporting.curves import COLOURS
from scripts import deblur

SHOWN = (52, Exposure().center, 84)  # spike frames
WIDTH, HEIGHT = 1080, 668
PUBLISHED, OURS, STUDENT, INK, GRAY = *COLOURS[:3], "#1f2933", "#667380"

# Left, top, width, height, colour, title.
PANELS = (
    (246, 24, 574, 196, PUBLISHED, "Teacher, as published: spike counts, trained networks"),
    (246, 238, 574, 126, OURS, "Teacher, ours: inter-spike intervals, nothing trained"),
    (246, 382, 574, 172, STUDENT, "Student: restores the sequence"),
)
# Left, top, width, height, colour, whether it is a network, two lines; *italic*.
BOXES = (
    (270, 64, 116, 52, PUBLISHED, False, "TFP", "9 frames around t"),
    (410, 64, 96, 52, PUBLISHED, True, "BSN", "denoise"),
    (530, 64, 96, 52, PUBLISHED, True, "EDSR", "enlarge x4"),
    (270, 148, 116, 52, PUBLISHED, False, "TFP", "97 frames"),
    (530, 148, 96, 52, PUBLISHED, True, "EDSR", "enlarge x4"),
    (676, 106, 120, 52, PUBLISHED, False, "*B* · *S* / *M*", "SDM"),
    (270, 284, 116, 56, OURS, False, "ISI intensity", "1 / interval"),
    (422, 284, 148, 56, OURS, False, "Super-resolution", "flow-guided, 97 frames"),
    (606, 284, 190, 56, OURS, False, "½ *B* · *S* / *M* + ½ (*B* + *S* \u2212 *M*)", "multiplicative, additive"),
    (270, 424, 170, 52, STUDENT, False, "21 frames around t", "spikes, or ISI intensity"),
    (530, 426, 170, 102, STUDENT, True, "LDN", "234,158 parameters"),
)
# Colour, corners.
ARROWS = (
    (INK, (184, 150), (216, 150), (216, 90), (270, 90)),
    (INK, (216, 150), (216, 174), (270, 174)),
    (INK, (216, 174), (216, 312), (270, 312)),
    (INK, (216, 312), (216, 450), (270, 450)),
    (INK, (178, 502), (530, 502)),
    (PUBLISHED, (386, 90), (410, 90)),
    (PUBLISHED, (506, 90), (530, 90)),
    (PUBLISHED, (626, 90), (652, 90), (652, 122), (676, 122)),
    (PUBLISHED, (386, 174), (530, 174)),
    (PUBLISHED, (626, 174), (652, 174), (652, 142), (676, 142)),
    (PUBLISHED, (796, 132), (844, 132), (844, 176), (886, 176)),
    (OURS, (386, 312), (422, 312)),
    (OURS, (570, 312), (606, 312)),
    (OURS, (796, 312), (844, 312), (844, 212), (886, 212)),
    (OURS, (652, 340), (652, 426)),
    (STUDENT, (440, 450), (530, 450)),
    (STUDENT, (700, 477), (874, 477)),
    (GRAY, (950, 260), (950, 304)),
    (GRAY, (950, 386), (950, 352)),
    (GRAY, (950, 576), (950, 620), (820, 620)),
    (GRAY, (614, 620), (420, 620)),
    (GRAY, (104, 562), (104, 620), (246, 620)),
)
# Centre, baseline, size, colour, text.
WORDS = (
    (106, 64, 14, INK, "**Spikes**"),
    (106, 250, 12, GRAY, "137 frames of 1 bit"),
    (104, 402, 14, INK, "**Blurry picture** *B*"),
    (640, 84, 12, PUBLISHED, "*S*"),
    (640, 190, 12, PUBLISHED, "*M*"),
    (588, 304, 12, OURS, "*S*, *M*"),
    (484, 494, 12, INK, "*B*"),
    (950, 114, 14, INK, "**Label** for t"),
    (844, 199, 12, GRAY, "or"),
    (702, 412, 12, OURS, "or, instead of *B*"),
    (894, 284, 12, OURS, "or re-simulated"),
    (950, 566, 14, INK, "**Sharp pictures** *L*(t), any t"),
)
# Left, top, width, two lines.
LOSSES = (
    (860, 304, 180, "Distillation loss", "LPIPS, or SSIM and L1"),
    (246, 596, 174, "Reblur loss", "mean squared error"),
)


@dataclass(frozen=True)
class Options:
    sample: str = option(
        "data/demo/test/blur_data/chelsea-000/000019.png", "blurry picture in a data set of the GOPRO layout"
    )
    output: str = option("imgs/overview.svg", "SVG file to write")
    deblur_path: str = option("", "weights of LDN [as in deblur.py]")


def main(o: Options) -> None:
    blur = read_image(o.sample)
    path = Path(o.sample.replace("blur_data", "spike_data")).with_suffix(".dat")
    spikes = read_spikes(path, *(side // UPSCALE for side in blur.shape[:2]))
    with tempfile.TemporaryDirectory() as folder:
        restored = []
        for method, times in (("mfsr", SHOWN[1:2]), ("ldn", SHOWN)):
            out = f"{folder}/{method}"
            options = deblur.Options(o.sample, str(path), out=out, method=method, times=times)
            deblur.main(replace(options, deblur_path=o.deblur_path if method == "ldn" else ""))
            restored += [read_image(f"{out}/{time:03d}.png") for time in times]
    with replacing(o.output) as file:
        file.write(overview(blur, spikes[list(SHOWN)], *restored).encode())
    print(f"{o.output}: {Path(o.output).stat().st_size / 1e3:.0f} kB")


def overview(blur: np.ndarray, spikes: np.ndarray, label: np.ndarray, *sharp: np.ndarray) -> str:
    """Draw the method as SVG with square pictures [H,W,3] uint8 BGR and spike frames [T,h,w] of 0 and 1."""
    parts = [_rectangle(0.5, 0.5, WIDTH - 1, HEIGHT - 1, "#d5dbe1", "#fff")]
    for left, top, width, height, colour, title in PANELS:
        parts.append(_rectangle(left, top, width, height, colour, colour, "fill-opacity='.06' stroke-opacity='.45'"))
        parts.append(_words(left + 24, top + 25, 14, colour, f"**{title}**", anchor="start"))
    parts += [_arrow(colour, *corners) for colour, *corners in ARROWS]
    for left, top, width, height, colour, network, *lines in BOXES:
        parts.append(
            _box(left, top, width, height, colour, "#fff" if network else INK, colour if network else "#fff", *lines)
        )
    for left, top, width, *lines in LOSSES:
        parts.append(_box(left, top, width, 48, GRAY, INK, "#fff3d6", *lines))
    parts.append(_box(614, 596, 206, 48, GRAY, INK, "#fff", "Mean of *L*(t)", "over the exposure"))
    for place, frame in enumerate(spikes):
        parts.append(_picture(30 + 12 * place, 76 + 12 * place, 128, 255 * frame.astype(np.uint8), ".png"))
    for place, image in enumerate(sharp):
        parts.append(_picture(874 + 12 * place, 392 + 12 * place, 128, image, ".jpg"))
    parts += [_picture(30, 414, 148, blur, ".jpg"), _picture(886, 126, 134, label, ".jpg")]
    parts += [_words(*words) for words in WORDS]
    for place, (colour, meaning) in enumerate((("#fff", "computed"), (INK, "trained"))):
        parts.append(_rectangle(868 + 96 * place, 36, 22, 14, INK, colour))
        parts.append(_words(896 + 96 * place, 47, 12, INK, meaning, anchor="start"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" role="img" aria-label="Overview of the method">\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _rectangle(left: float, top: float, width: float, height: float, line: str, fill: str, more: str = "") -> str:
    place = f'x="{left}" y="{top}" width="{width}" height="{height}" rx="7"'
    return f'<rect {place} fill="{fill}" stroke="{line}" stroke-width="1.4" {more}/>'


def _box(
    left: float, top: float, width: float, height: float, line: str, ink: str, fill: str, first: str, second: str
) -> str:
    middle, baseline = left + width / 2, top + height / 2
    return (
        _rectangle(left, top, width, height, line, fill)
        + _words(middle, baseline - 3, 14, ink, first)
        + _words(middle, baseline + 15, 11.5, ink, second)
    )


def _words(left: float, baseline: float, size: float, colour: str, words: str, *, anchor: str = "middle") -> str:
    """Write a line of text; **bold** and *italic* are marked."""
    for mark, style in (("**", "font-weight='bold'"), ("*", "font-family='Georgia, serif' font-style='italic'")):
        pieces = (escape(words) if mark == "**" else words).split(mark)
        words = "".join(f"<tspan {style}>{piece}</tspan>" if odd % 2 else piece for odd, piece in enumerate(pieces))
    return f'<text x="{left}" y="{baseline}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{words}</text>'


def _arrow(colour: str, *corners: tuple[float, float]) -> str:
    """Draw an arrow along the corners."""
    (x0, y0), (x, y) = corners[-2:]
    right, down = np.sign((x - x0, y - y0)).tolist()
    line = "L".join(f"{x} {y}" for x, y in (*corners[:-1], (x - 6 * right, y - 6 * down)))
    wings = " ".join(f"{x - 9 * right + s * 4 * down},{y - 9 * down + s * 4 * right}" for s in (1, -1))
    return (
        f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        f'<polygon points="{x},{y} {wings}" fill="{colour}"/>'
    )


def _picture(left: float, top: float, side: int, image: np.ndarray, kind: str) -> str:
    """Embed a framed picture: .jpg is resized to twice the drawn size, .png keeps its pixels."""
    if kind == ".jpg":
        image = cv2.resize(image, (2 * side, 2 * side), interpolation=cv2.INTER_AREA)
    bits = [cv2.IMWRITE_JPEG_QUALITY, 80] if kind == ".jpg" else [cv2.IMWRITE_PNG_BILEVEL, 1]
    data = base64.b64encode(cv2.imencode(kind, image, bits)[1]).decode()
    mime, scaling = ("jpeg", "auto") if kind == ".jpg" else ("png", "pixelated")
    place = f'x="{left}" y="{top}" width="{side}" height="{side}"'
    return (
        f'<image {place} style="image-rendering:{scaling}" href="data:image/{mime};base64,{data}"/>'
        f'<rect {place} fill="none" stroke="#fff" stroke-width="2"/>'
    )


if __name__ == "__main__":
    program(main, Options, __doc__)
