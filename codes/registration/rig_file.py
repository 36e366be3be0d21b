"""rig.json: what is known about the two cameras of a rig, for people to read and for programs to use."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codes.data.fingerprint import fingerprint
from codes.data.orientation import ORIENTATIONS
from codes.data.response import Response
from codes.errors import InputError
from codes.files import replacing


@dataclass(frozen=True)
class CalibratedRig:
    """How the pictures of a rig lie in its stream of spikes."""

    picture: tuple[int, int]  # (H, W)
    spikes: tuple[int, int]  # (h, w), as the stream is stored
    spike_format: str  # of the spike file, in words
    orientation: str  # of the stream, as in codes.data.orientation
    homography: np.ndarray  # [3,3], picture pixel (x, y) -> pixel of the upright spikes; centres of pixels are integers
    ratio: float  # picture pixels per spike pixel, along each side
    # first: spike frame at which the exposure of picture 0 starts; period: from one picture to the next, 0 where each
    # has a stream of its own; length: spike frames of an exposure
    clock: dict[str, float] | None
    response: Response  # of the picture
    hot: tuple[tuple[int, int], ...]  # (row, column) as the stream is stored
    dead: tuple[tuple[int, int], ...]
    gain: np.ndarray | None = None  # [h,w] float32, relative, of the spike pixels as the stream is stored

    def exposure(self, number: int) -> tuple[int, int]:
        """Return first spike frame and length of the exposure of picture 0, 1, ... of a recording.

        Raises: InputError if the rig has no clock.
        """
        if self.clock is None:
            raise InputError("the rig has no clock: too few exposures were found; give --exposure START LENGTH")
        return round(self.clock["first"] + number * self.clock["period"]), int(self.clock["length"])


def write_rig(path: str | Path, rig: CalibratedRig, *, found_by: dict[str, Any]) -> None:
    """Write a rig, whole or not at all, its gain into a file beside it.

    found_by: what it was calibrated from: pictures, stream, versions.
    """
    content = {
        "picture": list(rig.picture),
        "spikes": list(rig.spikes),
        "spike_format": rig.spike_format,
        "orientation": rig.orientation,
        "homography": rig.homography.tolist(),
        "ratio": rig.ratio,
        "clock": rig.clock,
        "response_exponent": rig.response.exponent,
        "black_level": rig.response.black,
        "hot": [list(place) for place in rig.hot],
        "dead": [list(place) for place in rig.dead],
        "gain": None if rig.gain is None else _write_gain(gain_file(path), rig.gain),
    }
    lines = [f" {json.dumps(name)}: {_value(value)}" for name, value in (content | found_by).items()]
    with replacing(path) as file:
        file.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_rig(path: str | Path) -> CalibratedRig:
    """Read a rig.

    Raises: InputError naming what is missing or wrong.
    """
    try:
        content = json.loads(Path(path).read_text("utf-8"))
        homography = np.array(content["homography"], np.float64)
        if (
            homography.shape != (3, 3)
            or not np.isfinite(homography).all()
            or content["orientation"] not in ORIENTATIONS
        ):
            raise ValueError("homography and orientation")
        clock = content["clock"] and {name: float(content["clock"][name]) for name in ("first", "period", "length")}
        return CalibratedRig(
            picture=_pair(content["picture"]),
            spikes=_pair(content["spikes"]),
            spike_format=str(content.get("spike_format") or content["reading"]),
            orientation=content["orientation"],
            homography=homography,
            ratio=float(content["ratio"]),
            clock=clock or None,
            response=Response(float(content["response_exponent"]), float(content["black_level"])),
            hot=tuple(map(_pair, content["hot"])),
            dead=tuple(map(_pair, content["dead"])),
            gain=_read_gain(Path(path), content),
        )
    except OSError as error:
        raise InputError(f"{path}: rig cannot be read ({error.strerror}); scripts/calibrate.py makes one") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: no rig of scripts/calibrate.py ({type(error).__name__}: {error})") from None


def gain_file(path: str | Path) -> Path:
    """Return the file of the gain beside a rig."""
    return Path(path).with_suffix(".gain.npy")


def _write_gain(path: Path, gain: np.ndarray) -> dict[str, str]:
    """Write a gain [h,w]; return its file and content, so that the rig tells one gain from another."""
    with replacing(path) as file:
        np.save(file, gain.astype(np.float32))
    return {"file": path.name, "content": fingerprint({"gain": path})["gain"]}


def _read_gain(path: Path, content: dict[str, Any]) -> np.ndarray | None:
    """Return the gain that the content of a rig names, beside its file; rigs without one are accepted."""
    if not (named := content.get("gain")):
        return None
    file = path.parent / named["file"]
    if fingerprint({"gain": file})["gain"] != named["content"]:
        raise ValueError(f"{file} is not the gain that was calibrated with it")
    gain = np.load(file)
    if gain.shape != _pair(content["spikes"]) or not (np.isfinite(gain).all() and gain.min() > 0):
        raise ValueError(f"{file} is no gain of its spikes")
    return gain


def _pair(values: Any) -> tuple[int, int]:
    first, second = map(int, values)
    return first, second


def _value(value: Any) -> str:
    """Return JSON with one row of a matrix a line."""
    if isinstance(value, list) and value and isinstance(value[0], list) and len(value) < 10:
        return "[\n  " + ",\n  ".join(json.dumps(row) for row in value) + "\n ]"
    return json.dumps(value, ensure_ascii=False)
