"""Calibration of a rig: its two cameras, estimated from all pictures of a recording."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from codes.data.orientation import ORIENTATIONS, upright
from codes.data.response import Response
from codes.registration.clock import Clock
from codes.registration.evidence import Shot
from codes.registration.geometry import corner_error, corners, in_view_of_spikes, size_ratio, transform
from codes.registration.homography import TOLERANCE, Registration, brightness, register
from codes.registration.intensity import exposure_intensity
from codes.registration.recording import LEAST_CORRELATION, WINDOW, find_clock
from codes.registration.response_estimation import estimate_response
from codes.registration.search import candidates
from codes.registration.synchronisation import FoundExposure, find_exposure

STEP = 48  # spike frames from one window that a picture is first registered to, to the next
TRIED = 2  # of these windows are registered, those that resemble the picture most
SEEDS = 5  # pictures whose registration is sure before the clock is known; at most twice as many are tried
AROUND = 300  # spike frames on either side of an exposure in which that of the picture alone is searched
OFF = 3  # spike frames that the exposure of a picture alone may differ from the clock
DOUBTFUL = 2.0  # spike frames of deviation of exposures that are not sure, but about right
MOST = 9  # pictures that the response is estimated from


@dataclass(frozen=True)
class Located:
    """Where and when a picture was found in its stream."""

    registration: Registration  # to its exposure by the clock, or by itself where there is none
    start: int  # of that exposure
    length: int
    alone: FoundExposure  # of this picture, by the geometry of the rig
    corner_error: float = np.nan  # of its registration against that of all pictures, in picture pixels

    @property
    def is_placed(self) -> bool:
        """Whether the registration is sure; in a scene that hardly moves the exposure need not be."""
        return self.registration.is_sure and self.alone.correlation >= LEAST_CORRELATION

    @property
    def is_sure(self) -> bool:
        return self.is_placed and self.alone.is_sure

    def contradicts(self, start: int, length: int) -> bool:
        """Whether the picture was surely not exposed over some spike frames."""
        apart = self.alone.start - start, self.alone.start + self.alone.length - start - length
        return self.is_sure and max(map(abs, apart)) > OFF


class Calibrated(NamedTuple):
    """Estimate from all pictures of a recording; None where it is not certain."""

    registration: Registration | None
    clock: Clock | None
    response: Response
    located: list[Located]  # of each picture
    reason: str = ""  # why something is not certain


def calibrate(shots: Sequence[Shot], *, ratio: float = 0.0) -> Iterator[int | Calibrated]:
    """Calibrate a rig from its pictures, in the order of their numbers; yield progress, then the result.

    ratio: picture pixels per spike pixel, within a quarter; 0: as if both cameras show the same view.
    """
    seeds: list[Registration] = []
    for number in _spread_out(len(shots)):
        orientation = next((one.orientation for one in seeds if one.is_sure), "")
        seeds.append(register_alone(shots[number], ratio=ratio, orientation=orientation))
        yield len(seeds) - 1
        if sum(one.is_sure for one in seeds) == SEEDS or len(seeds) == 2 * SEEDS:
            break
    # Windows that are not the exposure leave doubts, which the exposures may resolve.
    registration = _joint(shots, _sure(seeds) or [one for one in seeds if one.correlation >= LEAST_CORRELATION])
    if registration is None:
        yield Calibrated(None, None, Response(), [], "; ".join(sorted({one.reason for one in seeds})))
        return
    found = find_clock(shots, registration.orientation, registration.homography)
    registrations = []
    for shot in shots:
        start, length = found.clock.exposure(shot.number)
        registrations.append(_register_at(shot, start, length, registration.orientation, ratio))
        yield len(registrations) - 1
    registration = _joint(shots, _sure(registrations)) or registration
    found = find_clock(shots, registration.orientation, registration.homography, near=found.clock)
    exposures, reason = [found.clock.exposure(shot.number) for shot in shots], found.reason
    located = _located(shots, exposures, registrations, registration)
    if not reason and _is_contradicted(located):
        reason = "the pictures that are sure of their exposures contradict each other"
        exposures = [(one.alone.start, one.alone.length) for one in located]
        orientation = registration.orientation
        registrations = [
            _register_at(shot, *exposure, orientation, ratio) for shot, exposure in zip(shots, exposures, strict=True)
        ]
        registration = _joint(shots, _sure(registrations)) or registration
        located = _located(shots, exposures, registrations, registration)
    registration = _joint(shots, [one.registration for one in located if one.is_placed])
    if registration and found.reason and _depends_on_time(shots, located, registration, ratio, max(found.deviation)):
        registration = None
    if registration is None:
        reasons = {found.reason} | {one.registration.reason for one in located}
        yield Calibrated(None, None, Response(), located, "; ".join(sorted(reasons - {""})))
        return
    located = [replace(one, corner_error=_corner_error(one.registration, registration, shots)) for one in located]
    response = _response(shots, located, registration)
    yield Calibrated(registration, None if reason else found.clock, response, located, reason)


def register_alone(shot: Shot, *, ratio: float, orientation: str = "") -> Registration:
    """Register a picture to the windows of its stream that resemble it most, of which nothing is known.

    orientation: the only one that is tried; "": all eight. It is off by the motion of the scene from such a window to
    the exposure.
    """
    first = max(0, int(shot.expected - shot.spread - WINDOW))
    last = max(min(shot.total - WINDOW, int(shot.expected + shot.spread + WINDOW)), first)
    gray, scored = brightness(shot.picture), []
    for start in range(first, last + 1, STEP):
        long = shot.without_gain(shot.read(start, start + WINDOW).mean(0, dtype=np.float32))
        for name in [orientation] if orientation else ORIENTATIONS:
            turned = np.ascontiguousarray(upright(long, name))
            found = candidates(gray, turned, ratio or size_ratio(gray.shape, turned.shape))
            scored.append((max(score for score, _ in found), start))
    tried = []
    for start in list(dict.fromkeys(start for _, start in sorted(scored, reverse=True)))[:TRIED]:
        long = shot.without_gain(shot.read(start, start + WINDOW).mean(0))
        tried.append(register(long, shot.picture, orientation=orientation, ratio=ratio))
    return max(tried, key=lambda one: (one.is_sure, one.correlation))


def _located(
    shots: Sequence[Shot],
    exposures: Sequence[tuple[int, int]],
    registrations: Sequence[Registration],
    registration: Registration,
) -> list[Located]:
    """Find the exposure of each picture alone by the geometry of all."""
    return [
        Located(one, *exposure, _exposure_alone(shot, *exposure, registration))
        for shot, exposure, one in zip(shots, exposures, registrations, strict=True)
    ]


def _register_at(shot: Shot, start: int, length: int, orientation: str, ratio: float) -> Registration:
    first, stop = (min(max(end, 0), shot.total) for end in (start, start + length))
    first = min(first, shot.total - 1)
    intensity = exposure_intensity(shot.read, shot.total, first, max(stop - first, 1), gain=shot.gain)
    return register(intensity, shot.picture, orientation=orientation, ratio=ratio)


def _exposure_alone(shot: Shot, start: int, length: int, registration: Registration) -> FoundExposure:
    """Find the exposure of a picture around where it is expected."""
    first = min(max(0, start - AROUND), max(shot.total - length, 0))
    stop = max(min(shot.total, start + length + AROUND), min(first + length, shot.total))

    def read(begin: int, end: int) -> np.ndarray:
        return upright(shot.read(first + begin, first + end), registration.orientation)

    gain = None if shot.gain is None else upright(shot.gain, registration.orientation)
    exposure = find_exposure(read, stop - first, shot.picture, registration.homography, is_exact=True, gain=gain)
    return replace(exposure, start=first + exposure.start)


def _is_contradicted(located: Sequence[Located]) -> bool:
    """Whether at least half of the pictures that are sure of their exposures are sure of others."""
    against = sum(one.contradicts(one.start, one.length) for one in located)
    return 2 * against >= max(sum(one.is_sure for one in located), 1)


def _depends_on_time(
    shots: Sequence[Shot], located: Sequence[Located], registration: Registration, ratio: float, deviation: float
) -> bool:
    """Whether exposures that may fit as well, some spike frames later, give a geometry that is clearly another."""
    others = []
    for shot, one in list(zip(shots, located, strict=True))[:: -(-len(shots) // SEEDS)]:
        # A deviation that is large may be any: that of a steady motion has no bounds.
        start = one.start + round(2 * deviation if deviation < DOUBTFUL else one.length / 2)
        start -= one.length * (start + one.length > shot.total)
        others.append(_register_at(shot, start, one.length, registration.orientation, ratio))
    other = _joint(shots, _sure(others))
    return other is None or corner_error(other.homography, registration.homography, shots[0].picture.shape) > TOLERANCE


def _corner_error(one: Registration, joint: Registration, shots: Sequence[Shot]) -> float:
    return corner_error(one.homography, joint.homography, shots[0].picture.shape)


def _sure(registrations: Sequence[Registration]) -> list[Registration]:
    return [one for one in registrations if one.is_sure]


def _joint(shots: Sequence[Shot], registrations: Sequence[Registration]) -> Registration | None:
    """Return the median of where the corners of the picture lie, in the orientation of most; None if there are none."""
    if not registrations:
        return None
    names = [one.orientation for one in registrations]
    common = [one for one in registrations if one.orientation == max(names, key=names.count)]
    places = corners(shots[0].picture.shape).astype(np.float32)
    median = np.median([transform(one.homography, places) for one in common], axis=0).astype(np.float32)
    homography = cv2.getPerspectiveTransform(places, median)
    correlation, confidence = (
        float(np.median([getattr(one, name) for one in common])) for name in ("correlation", "confidence")
    )
    return Registration(common[0].orientation, homography, correlation, confidence)


def _response(shots: Sequence[Shot], located: Sequence[Located], registration: Registration) -> Response:
    """Estimate the response from the pictures that are placed, at most MOST of them."""
    placed = [number for number, one in enumerate(located) if one.is_placed]
    views = []
    for number in placed[:: -(-len(placed) // MOST)]:
        shot, one = shots[number], located[number]
        intensity = exposure_intensity(shot.read, shot.total, one.start, one.length, gain=shot.gain)
        intensity = np.ascontiguousarray(upright(intensity, registration.orientation))
        seen, mask = in_view_of_spikes(shot.picture / np.float32(255), registration.homography, intensity.shape)
        views.append((seen, intensity, mask))
    return estimate_response(*map(np.concatenate, zip(*views, strict=True))) if views else Response()


def _spread_out(count: int) -> list[int]:
    """Return 0..count-1 in an order whose beginnings are spread over all: the middle, then the middles of the rest."""
    golden = (np.arange(1, count + 1) * 0.618034) % 1
    return np.argsort(np.argsort(golden)).tolist()
