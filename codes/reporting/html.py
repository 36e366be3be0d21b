"""Report of a run as one self-contained HTML page: table, before/after sliders, curves."""

import base64
import json
from html import escape

import cv2
import numpy as np

from codes.reporting.curves import draw_curves
from codes.reporting.run_results import Curves, Record

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse } th, td { padding: .2em .9em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
pre { background: #f5f5f5; padding: 1em; overflow: auto }
.pair { position: relative; max-width: 100% }
.pair img { display: block; width: 100%; height: auto }
.pair .left { position: absolute; inset: 0; height: 100% !important; clip-path: inset(0 calc(100% - var(--cut)) 0 0) }
.pair .line { position: absolute; top: 0; bottom: 0; left: var(--cut); pointer-events: none }
.pair .line { border-left: 2px solid #fff }
.pair input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize }
.pair input:focus-visible ~ .line { border-color: #fc0 }
"""

SCRIPT = """
for (const view of document.querySelectorAll(".view")) {
  const pair = view.querySelector(".pair"), images = JSON.parse(view.querySelector("script").textContent);
  const cut = pair.querySelector("input");
  cut.addEventListener("input", () => pair.style.setProperty("--cut", cut.value + "%"));
  for (const side of ["left", "right"]) {
    const choice = view.querySelector("select." + side), image = pair.querySelector("img." + side);
    choice.addEventListener("change", () => { image.src = images[choice.value]; image.alt = choice.value; });
  }
}
"""

# The page loads nothing: all content is in the file.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def html_report(title: str, record: Record, curves: Curves, about: dict, *, samples: int = 4) -> str:
    """Return the page: the latest table of a run, sliders of the first `samples` samples, curves.

    `about` is printed as JSON (options, versions). Pictures are JPEG of quality 92.
    """
    views = [slider(sample, record.outputs(sample)) for sample in record.samples()[:samples]]
    body = f"""<h1>{escape(title)}</h1>
<h2>Results, {escape(record.folder.name)}</h2>
{_table(record.rows)}
<h2>Before and after</h2>
<p>Drag the slider or use the arrow keys; the menus select the two pictures.</p>
{"".join(views)}
<h2>Curves</h2>
<p>Over optimiser steps; losses on a logarithmic scale.</p>
{"".join(draw_curves(curves)) or "<p>This run has no curves.</p>"}
<h2>Options and versions</h2>
<pre>{escape(json.dumps(about, indent=1, ensure_ascii=False))}</pre>
"""
    return page(title, body)


def page(title: str, body: str) -> str:
    """Return a page whose sliders work, around the HTML of its body."""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
{body}<script>{SCRIPT}</script></body></html>
"""


def _table(rows: dict[str, dict[str, float]]) -> str:
    metrics = list(dict.fromkeys(metric for line in rows.values() for metric in line))
    head = "".join(f"<th>{escape(name)}</th>" for name in ("output", *metrics))
    body = ""
    for row, line in rows.items():
        cells = (f"<td>{line[metric]:.3f}</td>" if metric in line else "<td>-</td>" for metric in metrics)
        body += f"<tr><td>{escape(row)}</td>{''.join(cells)}</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"


def slider(sample: str, outputs: dict[str, np.ndarray]) -> str:
    """Return one slider: the first output on the left, the last one that is not the truth on the right."""
    names = list(outputs)
    left, right = names[0], [name for name in names if name != "truth"][-1]
    images = {name: inline(image) for name, image in outputs.items()}
    height, width = max(image.shape[:2] for image in outputs.values())
    choices = {
        side: f'<select class="{side}" aria-label="{side}">'
        + "".join(f"<option{' selected' * (name == chosen)}>{escape(name)}</option>" for name in names)
        + "</select>"
        for side, chosen in (("left", left), ("right", right))
    }
    # "<" could end the script element; JSON allows the escape.
    data = json.dumps(images).replace("<", "\\u003c")
    return f"""<section class="view"><h3>{escape(sample)}</h3>
<p>{choices["left"]} over {choices["right"]}</p>
<div class="pair" style="--cut: 50%; width: {max(width, 512)}px">
<img class="right" src="{images[right]}" alt="{escape(right)}" width="{width}" height="{height}">
<img class="left" src="{images[left]}" alt="{escape(left)}">
<input type="range" min="0" max="100" step="0.5" value="50" aria-label="{escape(left)} over {escape(right)}">
<div class="line"></div></div>
<script type="application/json">{data}</script></section>
"""


def inline(image: np.ndarray) -> str:
    """Return an image [H,W] or [H,W,3] uint8 as the address of one that is in the page."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
