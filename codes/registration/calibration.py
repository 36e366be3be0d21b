"""Calibration of a rig: its two cameras, estimated from all pictures of a recording."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from codes.data.orientation import upright
from codes.data.response import Response
from codes.registration.clock import Clock, fit_clock
from codes.registration.geometry import corner_error, corners, in_view_of_spikes, transform
from codes.registration.homography import Registration, register
from codes.registration.intensity import Read, exposure_intensity
from codes.registration.response_estimation import estimate_response
from codes.registration.synchronisation import LEAST_CORRELATION, FoundExposure, find_exposure

WINDOW, STEP = 97, 48  # spike frames of the windows that a picture is first registered to, and from one to the next
AROUND = 300  # spike frames on either side of an expected exposure that are searched
SEEDS = 3  # pictures that are certain before the others are searched with their estimate
ROUNDS = 2  # registration and synchronisation of a seed improve each other


class Shot(NamedTuple):
    """A picture and the stream that its exposure lies in."""

    name: str
    picture: np.ndarray  # [H,W,3] uint8
    read: Read  # spike frames as they are stored
    total: int
    expected: float  # spike frame about which the exposure starts, if pictures fill the stream evenly
    spread: float  # spike frames by which it may be off
    gain: np.ndarray | None = None  # [h,w], relative, of the pixels of the stream as it is stored; None: not known

    def without_gain(self, mean: np.ndarray) -> np.ndarray:
        """Undo the gain in a mean of spikes [h,w]."""
        return mean if self.gain is None else mean / self.gain


@dataclass(frozen=True)
class Located:
    """Where and when a picture was found in its stream."""

    registration: Registration
    exposure: FoundExposure
    corner_error: float = np.nan  # of its registration against that of all pictures, in picture pixels

    @property
    def is_placed(self) -> bool:
        """Whether the registration is sure; in a scene that hardly moves the exposure need not be."""
        return self.registration.is_sure and self.exposure.correlation >= LEAST_CORRELATION

    @property
    def is_sure(self) -> bool:
        return self.is_placed and self.exposure.is_sure


class Calibrated(NamedTuple):
    """Estimate from all pictures of a recording; None where too few of them are certain."""

    registration: Registration | None
    clock: Clock | None
    response: Response
    located: list[Located | None]  # of each picture


def calibrate(shots: Sequence[Shot], *, ratio: float = 0.0) -> Iterator[int | Calibrated]:
    """Calibrate a rig from its pictures, in the order in which they were exposed; yield progress, then the result.

    ratio: picture pixels per spike pixel, within a quarter; 0: as if both cameras show the same view.
    """
    located: list[Located | None] = [None] * len(shots)
    for number in _spread_out(len(shots)):
        known = [one for one in located if one is not None]
        orientation = next((one.registration.orientation for one in known if one.is_placed), "")
        located[number] = locate(shots[number], ratio=ratio, orientation=orientation)
        yield number
        known.append(located[number])
        if sum(one.is_sure for one in known) >= SEEDS or sum(one.is_placed for one in known) >= 3 * SEEDS:
            break
    registration = _joint(shots, located)
    if registration is None:
        yield Calibrated(None, None, Response(), located)
        return
    is_one_stream = len(shots) > 1 and len({shot.expected for shot in shots}) > 1
    clock = fit_clock([_exposure(one) for one in located]) if is_one_stream else None
    for number, shot in enumerate(shots):
        if clock:
            shot = shot._replace(expected=clock.first + number * clock.period, spread=0.0)
        located[number] = _relocate(shot, registration, ratio)
        yield number
    registration = _joint(shots, located) or registration
    located = [
        replace(
            one, corner_error=corner_error(one.registration.homography, registration.homography, shot.picture.shape)
        )
        for one, shot in zip(located, shots, strict=True)
    ]
    exposures = [one.exposure for one in located]
    clock = fit_clock(exposures) if is_one_stream else _common_clock(exposures)
    yield Calibrated(registration, clock, _response(shots, located, registration), located)


def locate(shot: Shot, *, ratio: float, orientation: str = "") -> Located:
    """Find where and when a picture lies in its stream, of which nothing is known.

    orientation: the only one that is tried; "": all eight.
    It is registered to windows of the stream, then synchronised to the one that fits best, then registered again.
    """
    first = max(0, int(shot.expected - shot.spread - WINDOW))
    last = min(shot.total - WINDOW, int(shot.expected + shot.spread + WINDOW))
    starts = range(first, max(last, first) + 1, STEP)
    found = []
    for start in starts:
        long = shot.without_gain(shot.read(start, start + WINDOW).mean(0))
        found.append((register(long, shot.picture, orientation=orientation, ratio=ratio), start))
    registration, start = max(found, key=lambda one: one[0].correlation)
    for _ in range(ROUNDS):
        around = shot._replace(expected=start, spread=0.0)
        located = _relocate(around, registration, ratio)
        registration, start = located.registration, located.exposure.start
    return located


def _relocate(shot: Shot, registration: Registration, ratio: float) -> Located:
    """Find the exposure of a picture by a registration, around where it is expected, then register it anew."""
    first = max(0, round(shot.expected - shot.spread - AROUND))
    stop = min(shot.total, round(shot.expected + shot.spread + WINDOW + AROUND))
    orientation = registration.orientation

    def read(begin: int, end: int) -> np.ndarray:
        return upright(shot.read(first + begin, first + end), orientation)

    gain = None if shot.gain is None else upright(shot.gain, orientation)
    exposure = find_exposure(read, stop - first, shot.picture, registration.homography, gain=gain)
    exposure = replace(exposure, start=first + exposure.start)
    intensity = exposure_intensity(shot.read, shot.total, exposure.start, exposure.length, gain=shot.gain)
    return Located(register(intensity, shot.picture, orientation=orientation, ratio=ratio), exposure)


def _joint(shots: Sequence[Shot], located: Sequence[Located | None]) -> Registration | None:
    """Return the registration of all pictures that are placed: the median of where the corners of the picture lie."""
    sure = [one.registration for one in located if one is not None and one.is_placed]
    if not sure:
        return None
    names = [one.orientation for one in sure]
    common = [one for one in sure if one.orientation == max(names, key=names.count)]
    places = corners(shots[0].picture.shape).astype(np.float32)
    median = np.median([transform(one.homography, places) for one in common], axis=0).astype(np.float32)
    homography = cv2.getPerspectiveTransform(places, median)
    correlation, confidence = (
        float(np.median([getattr(one, name) for one in common])) for name in ("correlation", "confidence")
    )
    return Registration(common[0].orientation, homography, correlation, confidence)


def _common_clock(exposures: Sequence[FoundExposure]) -> Clock | None:
    """Return the exposure that pictures with a stream each have in common: the medians of those that are sure."""
    sure = [(one.start, one.length) for one in exposures if one.is_sure]
    if not sure:
        return None
    first, length = np.median(sure, axis=0)
    agreeing = sum(abs(start - first) <= 3 for start, _ in sure)
    return Clock(float(first), 0.0, round(float(length)), agreeing) if 2 * agreeing > len(sure) else None


def _response(shots: Sequence[Shot], located: Sequence[Located], registration: Registration) -> Response:
    """Estimate the response from the pictures that are placed, at most SEEDS squared of them."""
    sure = [number for number, one in enumerate(located) if one.is_placed]
    views = []
    for number in sure[:: -(-len(sure) // SEEDS**2)]:
        shot, exposure = shots[number], located[number].exposure
        intensity = exposure_intensity(shot.read, shot.total, exposure.start, exposure.length, gain=shot.gain)
        intensity = np.ascontiguousarray(upright(intensity, registration.orientation))
        seen, mask = in_view_of_spikes(shot.picture / np.float32(255), registration.homography, intensity.shape)
        views.append((seen, intensity, mask))
    return estimate_response(*map(np.concatenate, zip(*views, strict=True))) if views else Response()


def _exposure(located: Located | None) -> FoundExposure:
    return located.exposure if located and located.is_sure else FoundExposure(0, 1, 0.0, (0.0, 0.0), "not found")


def _spread_out(count: int) -> list[int]:
    """Return 0..count-1 in an order whose beginnings are spread over all: the middle, then the middles of the rest."""
    golden = (np.arange(1, count + 1) * 0.618034) % 1
    return np.argsort(np.argsort(golden)).tolist()
