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
from codes.restoration.format_detection import detect_format, fit
from codes.restoration.pairs import Pair
from codes.restoration.placement import (
    MODELS,
    Placement,
    check_picture_size,
    defects_of_rig,
    format_of_rig,
    homography_of,
    place,
    placed_by_rig,
    refuse_other_orientation,
)
from codes.restoration.spike_file import SHORTEST, SpikeFormat, read
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
    acquisition: Acquisition
    spike_format: SpikeFormat
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
        spikes, defects = _spikes(self.pair, self.acquisition, self.spike_format, self.start, self.stop)
        return Arrays(*_fitted(picture, spikes, self.acquisition), defects)


def check_picture(path: Path, picture: np.ndarray) -> None:
    """Raise InputError for a picture [H,W,3] that is too small for a stream, or shows nothing."""
    height, width, least = *picture.shape[:2], UPSCALE * SHORTEST
    if min(height, width) < least:
        raise InputError(f"{path}: a picture of {height}x{width}; {least}x{least} or more are accepted")
    if picture.min() == picture.max():
        raise InputError(f"{path}: shows nothing, all its values are {picture.max()}; give the picture of these spikes")


def prepare(
    pair: Pair,
    acquisition: Acquisition,
    *,
    frames: int,
    times: tuple[int, ...],
    window: int,
    reach: int,
    requires_data_consistency: bool = False,
    most_lost: float = MOST_LOST,
) -> Recording:
    """Find how a pair is read, and where and when its picture lies in the spikes, and check that both fit.

    frames: number of target times, evenly over the exposure; times: target times instead of them. window: spike frames
    that the method needs around a target time; reach: beyond the exposure that it uses. requires_data_consistency:
    windows have to fit around both ends of the exposure. most_lost: share of its spike frames that may be empty.
    Raises: InputError naming what does not fit.
    """
    picture = read_image(pair.picture)
    check_picture(pair.picture, picture)
    spike_format = format_of(pair, picture, acquisition)
    first, length = _exposure(pair, picture, spike_format, acquisition)
    chosen, is_cut = target_times(
        first,
        length,
        spike_format.frames,
        frames=frames,
        times=times,
        window=window,
        requires_data_consistency=requires_data_consistency,
    )
    start, stop = max(0, min(first, *chosen) - reach), max(first + length - 1, *chosen) + reach + 1
    exposure = Exposure(length=length, margin=first - start)  # the margin after it is not used
    spikes, defects = _spikes(pair, acquisition, spike_format, start, stop)
    _refuse_empty(pair.spikes, defects, first, length, start=start, most_lost=most_lost)
    picture, spikes = _fitted(picture, spikes, acquisition)
    long = _long_tfp(pair.spikes, spike_format, spikes[exposure.frames])
    aligned = align(long, picture)
    placement = _placed(picture, spikes, exposure, acquisition)
    is_comparable = aligned[0] > COMPARABLE or placement.is_registered
    is_other_scene = aligned[0] < SAME_SCENE and not placement.is_registered
    may_be_turned = acquisition.orientation == "upright" and acquisition.model != "none" and not is_comparable
    if may_be_turned and (is_other_scene or acquisition.model):
        refuse_other_orientation(pair.spikes, long, picture)
    if is_other_scene and not acquisition.geometry:
        raise InputError(
            f"{pair.spikes}: as {spike_format} it does not show what {pair.picture} shows "
            f"(correlation {aligned[0]:.2f}): it is of another picture, or --exposure names other frames; to continue, "
            "give --geometry HEIGHT WIDTH"
        )
    estimated = _response(picture, spikes, exposure, placement, acquisition.rig) if is_comparable else Response()
    return Recording(
        pair=pair,
        acquisition=acquisition,
        spike_format=spike_format,
        start=start,
        stop=stop,
        exposure=exposure,
        times=chosen,
        is_cut=is_cut,
        is_shortened=is_cut and not times and frames > 1,
        aligned=aligned,
        placement=placement,
        response=Response(1 / acquisition.gamma) if acquisition.gamma else estimated,
        estimated_response=estimated,
    )


def format_of(pair: Pair, picture: np.ndarray, acquisition: Acquisition) -> SpikeFormat:
    """Tell how the spikes of a picture [H,W,3] uint8 are read: as a rig says, as is stated, or as they fit the picture.

    Raises: InputError if it cannot be read so, or the picture does not have the size of the rig's.
    """
    if acquisition.rig:
        check_picture_size(acquisition.rig, pair.picture, picture)
        return format_of_rig(pair.spikes, acquisition.rig)
    return detect_format(
        pair.spikes,
        picture,
        geometry=acquisition.geometry or None,
        rows=acquisition.rows,
        bits=acquisition.bits,
        align=acquisition.align,
        orientation=acquisition.orientation,
    )


def _exposure(pair: Pair, picture: np.ndarray, spike_format: SpikeFormat, acquisition: Acquisition) -> tuple[int, int]:
    """Return first spike frame and length of the exposure: given, by the clock of a rig, or found in the stream."""
    if acquisition.exposure == AUTO:
        read_upright = partial(_upright, pair.spikes, spike_format, acquisition.orientation)
        return found_exposure(pair.spikes, picture, read_upright, spike_format.frames, align=acquisition.align)
    given = acquisition.exposure or (exposure_by_rig(acquisition.rig, pair.number) if acquisition.rig else ())
    return given_exposure(pair.spikes, given, spike_format.frames)


def _spikes(
    pair: Pair, acquisition: Acquisition, spike_format: SpikeFormat, start: int, stop: int
) -> tuple[np.ndarray, Defects]:
    """Read spike frames start..stop-1: upright [T,h,w], repaired if asked for, and their defects as they are stored."""
    stored = read(pair.spikes, spike_format, first=start, stop=stop)
    defects = defects_of_rig(acquisition.rig, stored) if acquisition.rig else find_defects(stored)
    repaired = repair(stored, defects) if acquisition.repair else stored
    return np.ascontiguousarray(upright(repaired, acquisition.orientation)), defects


def _upright(path: Path, spike_format: SpikeFormat, orientation: str, first: int, stop: int) -> np.ndarray:
    return upright(read(path, spike_format, first=first, stop=stop), orientation)


def _fitted(picture: np.ndarray, spikes: np.ndarray, acquisition: Acquisition) -> tuple[np.ndarray, np.ndarray]:
    """Bring picture and spikes to sizes that belong together, unless the one is registered to the other."""
    return (picture, spikes) if acquisition.model or acquisition.rig else fit(picture, spikes, align=acquisition.align)


def _refuse_empty(path: Path, defects: Defects, first: int, length: int, *, start: int, most_lost: float) -> None:
    """Raise InputError if too many spike frames of an exposure are empty. start: of the stream, where defects begin."""
    empty = start + defects.lost
    empty = empty[(first <= empty) & (empty < first + length)]
    if len(empty) > most_lost * length:
        raise InputError(
            f"{path}: {len(empty)} of the {length} spike frames of the exposure are empty, from {empty[0]} on: the "
            "file is padded or lost them; name the frames of the picture by --exposure START LENGTH, or copy it again"
        )


def _long_tfp(path: Path, spike_format: SpikeFormat, exposed: np.ndarray) -> np.ndarray:
    """Average the spikes [T,h,w] of an exposure.

    Raises: InputError if all pixels fire alike.
    """
    long = exposed.mean(0)
    if is_flat(long):
        raise InputError(
            f"{path}: as {spike_format} it shows nothing, all pixels fire alike ({np.median(long):.3f} times a spike "
            "frame): the lens was covered, the light too strong, or this is no spike file"
        )
    return long


def _placed(picture: np.ndarray, spikes: np.ndarray, exposure: Exposure, acquisition: Acquisition) -> Placement:
    """Tell how a picture lies in upright spikes [T,h,w]: as a rig says, or as it is found."""
    if acquisition.rig:
        return placed_by_rig(acquisition.rig, picture)

    def read_part(first: int, stop: int) -> np.ndarray:
        return spikes[first:stop]

    intensity = exposure_intensity(read_part, len(spikes), exposure.margin, exposure.length)
    return place(picture, intensity, model=acquisition.model)


def _response(
    picture: np.ndarray, spikes: np.ndarray, exposure: Exposure, placement: Placement, rig: CalibratedRig | None
) -> Response:
    """Return the response of a picture [H,W,3] uint8: that of a rig, or estimated from spikes [T,h,w] of its scene."""
    if rig:
        return rig.response
    intensity = isi_intensity(torch.from_numpy(np.ascontiguousarray(spikes))[None])[0, exposure.frames].mean(0)
    seen, mask = in_view_of_spikes(picture / np.float32(255), homography_of(placement), spikes.shape[1:])
    return estimate_response(seen, intensity.numpy(), mask)
