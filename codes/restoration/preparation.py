"""Prepare a recording: reading of its spike file, registration, exposure, target times, and repaired arrays."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from codes.data.images import read_image
from codes.data.orientation import upright
from codes.data.response import Response
from codes.data.sensor import Defects, find_defects, repair
from codes.data.spikes import UPSCALE, Exposure
from codes.errors import InputError
from codes.physics.intensity import isi_intensity
from codes.registration.geometry import in_view_of_spikes
from codes.registration.intensity import exposure_intensity
from codes.registration.response_estimation import estimate_response
from codes.registration.rig_file import CalibratedRig
from codes.restoration.alignment import align, is_flat
from codes.restoration.pairs import Pair
from codes.restoration.placement import (
    MODELS,
    Placement,
    check_picture_size,
    defects_of_rig,
    homography_of,
    place,
    placed_by_rig,
    reading_of_rig,
    refuse_other_orientation,
)
from codes.restoration.reading import find_reading, fit
from codes.restoration.spike_file import SHORTEST, Reading, read
from codes.restoration.timing import AUTO, exposure_by_rig, found_exposure, given_exposure, target_times

SAME_SCENE = 0.3  # minimum correlation between long TFP and picture that show one scene
COMPARABLE = 0.8  # minimum correlation of a pair whose values are compared
MOST_LOST = 0.2  # share of the spike frames of an exposure that may be empty: bridged, more of them are no measurement


@dataclass(frozen=True)
class Acquisition:
    """What is known about how picture and spikes were recorded; empty fields are estimated.

    Fields are those of deblur.py.

    Raises: InputError for a geometry that is none.
    """

    exposure: tuple[str, ...] = ()  # first spike frame and length, or AUTO
    geometry: tuple[int, ...] = ()  # height and width of the spikes, as they are stored
    rows: str = ""
    bits: str = ""
    orientation: str = "upright"
    align: str = ""
    repair: bool = True  # of defects of the spike sensor
    gamma: float = 0.0  # of the picture
    rig: CalibratedRig | None = None  # states geometry, defects and response, and the exposure by the number of a pair

    def __post_init__(self) -> None:
        if len(self.geometry) not in (0, 2) or min(self.geometry, default=1) < 1:
            raise InputError(f"--geometry {' '.join(map(str, self.geometry))}: height and width are accepted")

    @property
    def model(self) -> str:
        """How the picture is registered to the spikes, one of MODELS; empty where that is not stated."""
        return self.align if self.align in MODELS else ""


class Arrays(NamedTuple):
    """What is restored."""

    picture: np.ndarray  # [H,W,3] uint8 BGR
    spikes: np.ndarray  # [T,h,w] uint8, upright, repaired if asked for; the part of the stream that is needed
    defects: Defects  # of the spikes as they are stored


@dataclass(frozen=True)
class Recording:
    """A pair that fits, and the target times of its frames. It holds no arrays: `load` reads them."""

    pair: Pair
    known: Acquisition
    reading: Reading
    start: int  # spike frames start..stop-1 of the file are needed
    stop: int
    exposure: Exposure  # relative to `start`
    times: list[int]  # spike frames of the file
    is_cut: bool  # no window fits around the ends of the exposure
    is_shortened: bool  # so that the target times do not reach them
    aligned: tuple[float, tuple[float, float]]  # correlation, (x, y) of the spikes in picture pixels, if not registered
    placement: Placement  # of the picture in the spikes
    response: Response  # of the picture, undone for the restoration
    estimated_response: Response

    def load(self) -> Arrays:
        """Read the picture, and the spikes that are needed."""
        picture = read_image(self.pair.picture)
        spikes, defects = _spikes(self.pair, self.known, self.reading, self.start, self.stop)
        return Arrays(*_fitted(picture, spikes, self.known), defects)


def check_picture(path: Path, picture: np.ndarray) -> None:
    """Raise InputError for a picture [H,W,3] that is too small for a stream, or shows nothing."""
    height, width, least = *picture.shape[:2], UPSCALE * SHORTEST
    if min(height, width) < least:
        raise InputError(f"{path}: a picture of {height}x{width}; {least}x{least} or more are accepted")
    if picture.min() == picture.max():
        raise InputError(f"{path}: shows nothing, all its values are {picture.max()}; give the picture of these spikes")


def prepare(
    pair: Pair,
    known: Acquisition,
    *,
    frames: int,
    times: tuple[int, ...],
    window: int,
    reach: int,
    must_be_consistent: bool = False,
    most_lost: float = MOST_LOST,
) -> Recording:
    """Find how a pair is read, and where and when its picture lies in the spikes, and check that both fit.

    frames: number of target times, evenly over the exposure; times: target times instead of them. window: spike frames
    that the method needs around a target time; reach: beyond the exposure that it uses. must_be_consistent: windows
    have to fit around both ends of the exposure. most_lost: share of its spike frames that may be empty.
    Raises: InputError naming what does not fit.
    """
    picture = read_image(pair.picture)
    check_picture(pair.picture, picture)
    reading = reading_of(pair, picture, known)
    first, length = _exposure(pair, picture, reading, known)
    chosen, is_cut = target_times(
        first, length, reading.frames, frames=frames, times=times, window=window, must_be_consistent=must_be_consistent
    )
    start, stop = max(0, min(first, *chosen) - reach), max(first + length - 1, *chosen) + reach + 1
    exposure = Exposure(length=length, margin=first - start)  # the margin after it is not used
    spikes, defects = _spikes(pair, known, reading, start, stop)
    _refuse_empty(pair.spikes, defects, first, length, start=start, most_lost=most_lost)
    picture, spikes = _fitted(picture, spikes, known)
    long = _long_tfp(pair.spikes, reading, spikes[exposure.frames])
    aligned = align(long, picture)
    placement = _placed(picture, spikes, exposure, known)
    is_comparable = aligned[0] > COMPARABLE or placement.is_registered
    is_other_scene = aligned[0] < SAME_SCENE and not placement.is_registered
    may_be_turned = known.orientation == "upright" and known.model != "none" and not is_comparable
    if may_be_turned and (is_other_scene or known.model):
        refuse_other_orientation(pair.spikes, long, picture)
    if is_other_scene and not known.geometry:
        raise InputError(
            f"{pair.spikes}: as {reading} it does not show what {pair.picture} shows (correlation {aligned[0]:.2f}): "
            "it is of another picture, or --exposure names other frames; to continue, give --geometry HEIGHT WIDTH"
        )
    estimated = _response(picture, spikes, exposure, placement, known.rig) if is_comparable else Response()
    return Recording(
        pair=pair,
        known=known,
        reading=reading,
        start=start,
        stop=stop,
        exposure=exposure,
        times=chosen,
        is_cut=is_cut,
        is_shortened=is_cut and not times and frames > 1,
        aligned=aligned,
        placement=placement,
        response=Response(1 / known.gamma) if known.gamma else estimated,
        estimated_response=estimated,
    )


def reading_of(pair: Pair, picture: np.ndarray, known: Acquisition) -> Reading:
    """Tell how the spikes of a picture [H,W,3] uint8 are read: as a rig says, as is stated, or as they fit the picture.

    Raises: InputError if it cannot be read so, or the picture does not have the size of the rig's.
    """
    if known.rig:
        check_picture_size(known.rig, pair.picture, picture)
        return reading_of_rig(pair.spikes, known.rig)
    return find_reading(
        pair.spikes,
        picture,
        geometry=known.geometry or None,
        rows=known.rows,
        bits=known.bits,
        align=known.align,
        orientation=known.orientation,
    )


def _exposure(pair: Pair, picture: np.ndarray, reading: Reading, known: Acquisition) -> tuple[int, int]:
    """Return first spike frame and length of the exposure: given, by the clock of a rig, or found in the stream."""
    if known.exposure == AUTO:
        read_upright = partial(_upright, pair.spikes, reading, known.orientation)
        return found_exposure(pair.spikes, picture, read_upright, reading.frames, align=known.align)
    given = known.exposure or (exposure_by_rig(known.rig, pair.number) if known.rig else ())
    return given_exposure(pair.spikes, given, reading.frames)


def _spikes(pair: Pair, known: Acquisition, reading: Reading, start: int, stop: int) -> tuple[np.ndarray, Defects]:
    """Read spike frames start..stop-1: upright [T,h,w], repaired if asked for, and their defects as they are stored."""
    stored = read(pair.spikes, reading, first=start, stop=stop)
    defects = defects_of_rig(known.rig, stored) if known.rig else find_defects(stored)
    repaired = repair(stored, defects) if known.repair else stored
    return np.ascontiguousarray(upright(repaired, known.orientation)), defects


def _upright(path: Path, reading: Reading, orientation: str, first: int, stop: int) -> np.ndarray:
    return upright(read(path, reading, first=first, stop=stop), orientation)


def _fitted(picture: np.ndarray, spikes: np.ndarray, known: Acquisition) -> tuple[np.ndarray, np.ndarray]:
    """Bring picture and spikes to sizes that belong together, unless the one is registered to the other."""
    return (picture, spikes) if known.model or known.rig else fit(picture, spikes, align=known.align)


def _refuse_empty(path: Path, defects: Defects, first: int, length: int, *, start: int, most_lost: float) -> None:
    """Raise InputError if too many spike frames of an exposure are empty. start: of the stream, where defects begin."""
    empty = start + defects.lost
    empty = empty[(first <= empty) & (empty < first + length)]
    if len(empty) > most_lost * length:
        raise InputError(
            f"{path}: {len(empty)} of the {length} spike frames of the exposure are empty, from {empty[0]} on: the "
            "file is padded or lost them; name the frames of the picture by --exposure START LENGTH, or copy it again"
        )


def _long_tfp(path: Path, reading: Reading, exposed: np.ndarray) -> np.ndarray:
    """Average the spikes [T,h,w] of an exposure.

    Raises: InputError if all pixels fire alike.
    """
    long = exposed.mean(0)
    if is_flat(long):
        raise InputError(
            f"{path}: as {reading} it shows nothing, all pixels fire alike ({np.median(long):.3f} times a spike "
            "frame): the lens was covered, the light too strong, or this is no spike file"
        )
    return long


def _placed(picture: np.ndarray, spikes: np.ndarray, exposure: Exposure, known: Acquisition) -> Placement:
    """Tell how a picture lies in upright spikes [T,h,w]: as a rig says, or as it is found."""
    if known.rig:
        return placed_by_rig(known.rig, picture)

    def read_part(first: int, stop: int) -> np.ndarray:
        return spikes[first:stop]

    intensity = exposure_intensity(read_part, len(spikes), exposure.margin, exposure.length)
    return place(picture, intensity, model=known.model)


def _response(
    picture: np.ndarray, spikes: np.ndarray, exposure: Exposure, placement: Placement, rig: CalibratedRig | None
) -> Response:
    """Return the response of a picture [H,W,3] uint8: that of a rig, or estimated from spikes [T,h,w] of its scene."""
    if rig:
        return rig.response
    intensity = isi_intensity(torch.from_numpy(np.ascontiguousarray(spikes))[None])[0, exposure.frames].mean(0)
    seen, mask = in_view_of_spikes(picture / np.float32(255), homography_of(placement), spikes.shape[1:])
    return estimate_response(seen, intensity.numpy(), mask)
