"""Report of a calibration as one HTML page: overlays with a slider, residual maps, a table of the pictures."""

from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from codes.data.orientation import upright
from codes.data.spikes import GRAY_WEIGHTS
from codes.registration.calibration import Calibrated, Located
from codes.registration.evidence import Shot
from codes.registration.geometry import in_view_of_spikes
from codes.registration.rig_file import CalibratedRig
from codes.reporting.html import inline, page, slider

SHOWN = 3  # pictures with an overlay
GAIN_LIMIT, GAIN_SCALE = 3.0, 2  # standard deviations from black to gray; pixels a spike pixel along each side
HEADINGS = (
    "picture",
    "sure",
    "correlation",
    "confidence",
    "corner error",
    "start",
    "length",
    "off the clock",
    "reason",
)


def calibration_report(title: str, rig: CalibratedRig, shots: Sequence[Shot], result: Calibrated) -> str:
    """Return the page. Overlays are of pictures that are placed, spread over the recording."""
    sure = [number for number, one in enumerate(result.located) if one.is_placed]
    shown = [sure[index] for index in sorted(set(np.linspace(0, len(sure) - 1, SHOWN).astype(int).tolist()))]
    views = [slider(shots[number].name, overlay(rig, shots[number], result.located[number])) for number in shown]
    facts = {
        "orientation of the stream": rig.orientation,
        "picture pixels per spike pixel": f"{rig.ratio:.3f}",
        "clock, in spike frames": ", ".join(f"{name} {round(value, 2):g}" for name, value in (rig.clock or {}).items())
        or "not found",
        "response exponent of the picture": f"{rig.response.exponent:.3f}",
        "black level of the picture": f"{255 * rig.response.black:.1f} of 255",
        "defective pixels": f"{len(rig.hot)} hot, {len(rig.dead)} dead",
        "gain of the spike pixels": "not known" if rig.gain is None else f"standard deviation {rig.gain.std():.1%}",
        "pictures that are placed": f"{len(sure)} of {len(shots)}",
    }
    rows = [_row(shot, one, result) for shot, one in zip(shots, result.located, strict=True)]
    return page(
        title,
        f"<h1>Calibration of {escape(title)}</h1>"
        f"{_table([(name, value) for name, value in facts.items()])}"
        "<h2>Picture and spikes</h2><p>The spikes of the exposure in the view of the picture. The residual is gray "
        "where both agree. Edges that double show a wrong geometry, a residual along moving edges a wrong exposure.</p>"
        f"{''.join(views)}"
        "<h2>Pictures</h2><p>Corner error: of the picture's own registration against that of all, in picture pixels. "
        "Start and length: spike frames, of the picture alone, with the standard deviations of start and end.</p>"
        f"{_table(rows, headings=HEADINGS)}"
        f"{'' if rig.gain is None else gain_map(rig.gain)}",
    )


def gain_map(gain: np.ndarray) -> str:
    """Return a section that shows the gain [h,w] of the pixels of the stream as it is stored, enlarged."""
    limit = max(GAIN_LIMIT * float(gain.std()), 1e-3)
    shown = np.rint(255 * (0.5 + (gain - 1) / (2 * limit)).clip(0, 1)).astype(np.uint8)
    shown = np.kron(shown, np.ones((GAIN_SCALE, GAIN_SCALE), np.uint8))
    return (
        f"<h2>Gain of the spike pixels</h2><p>As the stream is stored; black {1 - limit:.2f}, white {1 + limit:.2f}. "
        "A scene or dust that can be seen in it does not belong to the pixels: record a uniform scene, out of focus."
        f'</p><img src="{inline(shown)}" alt="gain">'
    )


def overlay(rig: CalibratedRig, shot: Shot, located: Located) -> dict[str, np.ndarray]:
    """Return the picture, the spikes of its exposure in its view, and their residual: each [H,W,3] uint8."""
    height, width = shot.picture.shape[:2]
    start, length = located.start, located.length
    long = upright(shot.without_gain(shot.read(start, start + length).mean(0)), rig.orientation).astype(np.float32)
    seen, mask = in_view_of_spikes(rig.response.undo(shot.picture / np.float32(255)), rig.homography, long.shape)
    gray = seen @ np.array(GRAY_WEIGHTS, np.float32)
    scale = np.median(gray[mask] / np.maximum(long[mask], 1e-3)) if mask.any() else 1.0
    residual = np.where(mask, long * scale - gray, 0).astype(np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    spikes, residual = (
        cv2.warpPerspective(image, rig.homography, (width, height), flags=flags) for image in (long * scale, residual)
    )
    shown = {"spikes": rig.response.apply(spikes.clip(0, 1)), "residual": (0.5 + 2 * residual).clip(0, 1)}
    return {"picture": shot.picture} | {
        name: cv2.cvtColor(np.rint(255 * image).astype(np.uint8), cv2.COLOR_GRAY2BGR) for name, image in shown.items()
    }


def _row(shot: Shot, located: Located, result: Calibrated) -> tuple[str, ...]:
    registration, exposure = located.registration, located.alone
    off = exposure.start - result.clock.exposure(shot.number)[0] if result.clock else None
    return (
        shot.name,
        "yes" if located.is_sure else "placed" if located.is_placed else "no",
        f"{registration.correlation:.3f}",
        f"{registration.confidence:.3f}",
        f"{located.corner_error:.2f}",
        f"{exposure.start} ± {exposure.deviation[0]:.1f}",
        f"{exposure.length} ± {exposure.deviation[1]:.1f}",
        "" if off is None else f"{off:+d}",
        registration.reason or exposure.reason,
    )


def _table(rows: Sequence[Sequence[str]], *, headings: Sequence[str] = ()) -> str:
    head = f"<tr>{''.join(f'<th>{escape(one)}</th>' for one in headings)}</tr>" if headings else ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{head}{body}</table>"
