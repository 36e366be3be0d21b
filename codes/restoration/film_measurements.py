"""Alignment, saturation and lost spike frames of each exposure of a film, for its page and to continue it."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from codes.data import manifest
from codes.errors import InputError
from codes.registration.geometry import in_view_of_spikes
from codes.registration.homography import brightness
from codes.restoration.alignment import ALIKE, correlation
from codes.restoration.preparation import Arrays, Recording

FILE = "measured.json"


class Measured(NamedTuple):
    """What was measured of an exposure."""

    correlation: float  # of its picture with the mean of its spikes, where both show the scene
    saturated: float  # share of white pixels
    lost: list[int]  # spike frames of the stream around it that the camera did not hand over


def measure(recording: Recording, arrays: Arrays) -> Measured:
    """Measure an exposure. arrays: of the recording."""
    picture, view = arrays.picture, recording.placement.view
    correlated = recording.aligned[0]
    if view:
        long = arrays.spikes[recording.exposure.frames].mean(0, dtype=np.float32)
        seen, mask = in_view_of_spikes(brightness(picture), view.homography, long.shape)
        correlated = correlation(seen[mask], long[mask])
    lost = (recording.start + arrays.defects.lost).tolist()
    return Measured(correlated, float((picture == 255).all(2).mean()), lost)


def facts_of(measured: Collection[Measured], *, total: int) -> dict[str, str]:
    """Return in words what was measured of the exposures in a stream of `total` spike frames."""
    if not measured:
        return {}
    correlations = [one.correlation for one in measured]
    unlike = sum(one < ALIKE for one in correlations)
    lost = {frame for one in measured for frame in one.lost}
    return {
        "correlation of picture and spikes": (
            f"{min(correlations):.3f} to {max(correlations):.3f}, below {ALIKE} for {unlike} pictures"
        ),
        "saturated": f"{max(one.saturated for one in measured):.1%} of a picture at most",
        "lost spike frames": f"{len(lost)} of {total}" if lost else "none",
    }


def read_measured(folder: Path) -> dict[int, Measured]:
    """Read what was measured before a stop, by exposure.

    Raises: InputError if it is not what `write_measured` wrote.
    """
    again = "make the film again with --force"
    try:
        return {int(number): Measured(**one) for number, one in manifest.read(folder / FILE, otherwise=again).items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder / FILE}: not what was measured of a film ({error}); {again}") from None


def write_measured(folder: Path, measured: Mapping[int, Measured]) -> None:
    """Write what was measured, by exposure."""
    manifest.write(folder / FILE, {str(number): one._asdict() for number, one in measured.items()})
