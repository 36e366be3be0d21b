"""Pictures of a film that show its continuity: a page to play it, and a strip with the slice of one row over time."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from codes.data.images import read_image
from codes.reporting.html import POLICY

MOST_FRAMES = 240  # of a page, evenly chosen: some 20 MB
WIDEST = 960  # pixels of the frames of a page
QUALITY = 88  # of their JPEG
LOWEST = 240  # pixels of the height of a slice
STRIP = 8  # frames of the strip above a slice

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 1.5em auto; padding: 0 1em }
table { border-collapse: collapse } td, th { padding: .15em .9em; text-align: left; border-bottom: 1px solid #ddd }
canvas { display: block; width: 100%; background: #111; cursor: crosshair }
#slice { margin-top: 4px; max-height: 420px }
.controls { display: grid; grid-template-columns: max-content 1fr max-content; gap: .3em 1em; margin: .6em 0 }
input[type=range] { width: 100% }
"""

SCRIPT = """
const film = JSON.parse(document.getElementById("film").textContent);
const get = id => document.getElementById(id), view = get("view"), slice = get("slice");
// Not image.decode(): a browser refuses many large ones at the same time.
const load = source => new Promise((done, failed) => {
  const image = new Image();
  image.addEventListener("load", () => done(image));
  image.addEventListener("error", () => failed(new Error("a frame of this page is damaged")));
  image.src = source;
});
const state = { index: 0, row: 0, cut: 0, zoom: 1, left: 0, top: 0, timer: 0 };

Promise.all([Promise.all(film.frames.map(load)), Promise.all(film.blurry.map(load))]).then(([frames, blurry]) => {
  const width = view.width = slice.width = frames[0].width, height = view.height = frames[0].height;
  const line = Math.max(1, Math.round(240 / frames.length));
  slice.height = line * frames.length;
  get("row").max = height - 1;

  function draw() {
    const context = view.getContext("2d"), span = { x: width / state.zoom, y: height / state.zoom };
    state.left = Math.min(Math.max(state.left, 0), width - span.x);
    state.top = Math.min(Math.max(state.top, 0), height - span.y);
    context.imageSmoothingEnabled = state.zoom < 3;
    const show = image => context.drawImage(image, state.left, state.top, span.x, span.y, 0, 0, width, height);
    show(frames[state.index]);
    context.save();
    context.beginPath();
    context.rect(0, 0, state.cut * width, height);
    context.clip();
    show(blurry[film.picture[state.index]]);
    context.restore();
    context.fillStyle = "#fc0";
    if (state.cut > 0) context.fillRect(state.cut * width - 1, 0, 2, height);
    context.fillRect(0, (state.row - state.top) * state.zoom, 12, 2);
    context.fillRect(width - 12, (state.row - state.top) * state.zoom, 12, 2);
    get("label").textContent = film.labels[state.index];
  }

  function drawSlice() {
    const context = slice.getContext("2d");
    frames.forEach((frame, at) => context.drawImage(frame, 0, state.row, width, 1, 0, at * line, width, line));
    context.fillStyle = "#fc0";
    context.fillRect(0, state.index * line, 12, line);
    context.fillRect(width - 12, state.index * line, 12, line);
  }

  function set(change) { Object.assign(state, change); draw(); drawSlice(); }

  get("time").max = frames.length - 1;
  get("time").addEventListener("input", event => set({ index: +event.target.value }));
  get("cut").addEventListener("input", event => set({ cut: event.target.value / 100 }));
  get("row").addEventListener("input", event => set({ row: +event.target.value }));
  get("play").addEventListener("click", () => {
    if (state.timer) { clearInterval(state.timer); state.timer = 0; get("play").textContent = "Play"; return; }
    get("play").textContent = "Stop";
    state.timer = setInterval(() => {
      get("time").value = (state.index + 1) % frames.length;
      set({ index: +get("time").value });
    }, 1000 / film.rate);
  });
  const place = event => {
    const box = view.getBoundingClientRect();
    return { x: (event.clientX - box.x) / box.width * width, y: (event.clientY - box.y) / box.height * height };
  };
  view.addEventListener("mousemove", event => {
    const { x, y } = place(event);
    if (event.buttons) {
      return set({ left: state.left - event.movementX / state.zoom, top: state.top - event.movementY / state.zoom });
    }
    const row = Math.min(Math.floor(state.top + y / state.zoom), height - 1);
    get("row").value = row;
    set({ row });
  });
  view.addEventListener("wheel", event => {
    event.preventDefault();
    const { x, y } = place(event), zoom = Math.min(Math.max(state.zoom * (event.deltaY < 0 ? 1.25 : 0.8), 1), 16);
    set({ zoom, left: state.left + x / state.zoom - x / zoom, top: state.top + y / state.zoom - y / zoom });
  }, { passive: false });
  slice.addEventListener("click", event => {
    const box = slice.getBoundingClientRect();
    get("time").value = Math.floor((event.clientY - box.y) / box.height * frames.length);
    set({ index: +get("time").value });
  });
  set({ row: Math.floor(height / 2) });
  get("row").value = state.row;
  document.body.dataset.ready = "yes";
});
"""


def html_film(
    title: str,
    frames: Sequence[tuple[str, Path]],
    blurry: Callable[[int], np.ndarray],
    picture: Sequence[int],
    facts: Mapping[str, str],
    *,
    rate: float,
) -> str:
    """Return a page that plays a film and shows the slice of a row over time; all content is in it.

    frames: label and file of each frame, in their order; MOST_FRAMES of them at most are shown. picture: for each frame
    the number of the picture that is shown beside it, ascending; blurry: from a number to the picture [H,W,3] uint8.
    facts: what was measured. rate: frames a second.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MOST_FRAMES)).round().astype(int)).tolist()
    beside = sorted({picture[index] for index in chosen})
    content = {
        "frames": [_inline(read_image(frames[index][1])) for index in chosen],
        "labels": [frames[index][0] for index in chosen],
        "blurry": [_inline(blurry(number)) for number in beside],
        "picture": [beside.index(picture[index]) for index in chosen],
        "rate": rate * len(chosen) / len(frames),
    }
    if len(chosen) < len(frames):
        facts = {"frames": f"{len(chosen)} of {len(frames)} are on this page"} | dict(facts)
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    # "<" could end the script element; JSON allows the escape.
    data = json.dumps(content).replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<canvas id="view" aria-label="frame"></canvas>
<div class="controls">
<button id="play">Play</button><input id="time" type="range" min="0" value="0" aria-label="time">
<span id="label"></span>
<label for="cut">Blurry picture</label><input id="cut" type="range" min="0" max="100" step="0.5" value="0"><span></span>
<label for="row">Row of the slice</label><input id="row" type="range" min="0" value="0"><span></span>
</div>
<p>Wheel: zoom. Drag: move. The row under the pointer is shown below over time, from top to bottom; click there
to go to a time.</p>
<canvas id="slice" aria-label="slice of one row over time"></canvas>
<h2>Measured</h2>
<table>{rows}</table>
<script type="application/json" id="film">{data}</script>
<script>{SCRIPT}</script></body></html>
"""


def strip_and_slice(frames: Sequence[Path], *, row: int | None = None) -> np.ndarray:
    """Draw a strip of frames above the slice of one row over time, one line for each frame: [h,w,3] uint8.

    row: of the frames; default: the middle one. Jumps between exposures show as breaks of its lines.
    """
    first = read_image(frames[0])
    height, width = first.shape[:2]
    row = height // 2 if row is None else row
    lines = np.repeat([read_image(path)[row].copy() for path in frames], -(-LOWEST // len(frames)), 0)
    chosen = [frames[round(at)] for at in np.linspace(0, len(frames) - 1, STRIP)]
    small = [
        cv2.resize(read_image(path), None, fx=2 / STRIP, fy=2 / STRIP, interpolation=cv2.INTER_AREA) for path in chosen
    ]
    strip = np.vstack([np.hstack(small[: STRIP // 2]), np.hstack(small[STRIP // 2 :])])
    strip = cv2.resize(strip, (width, strip.shape[0]), interpolation=cv2.INTER_AREA)
    return np.vstack([strip, np.full((4, width, 3), 255, np.uint8), lines])


def _inline(image: np.ndarray) -> str:
    if image.shape[1] > WIDEST:
        image = cv2.resize(
            image, (WIDEST, round(image.shape[0] * WIDEST / image.shape[1])), interpolation=cv2.INTER_AREA
        )
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
