"""Registration and synchronisation of a recording: found by `codes.registration`, or as a calibrated rig says."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from codes.data.orientation import DESCRIBED, upright
from codes.data.sensor import Defects, lost_frames
from codes.data.spikes import UPSCALE, Exposure
from codes.errors import InputError
from codes.registration.geometry import corner_error, enlargement
from codes.registration.homography import DARK, Registration, brightness, register
from codes.registration.intensity import Read, exposure_intensity
from codes.registration.rig_file import CalibratedRig
from codes.registration.search import candidates
from codes.registration.synchronisation import FoundExposure, find_exposure
from codes.restoration.spike_file import SpikeFormat, guess
from codes.restoration.view import View

MODELS = ("none", "shift", "affine", "homography")
DISPLACED = 1.0  # picture pixels at a corner: less is no reason to leave the view that is expected
ROUNDS, TRIED = 4, 2  # of registration and synchronisation, from as many windows


class Placement(NamedTuple):
    """How a picture was registered to spikes."""

    view: View | None  # None: both show the same, the picture with 4 times as many pixels along each side
    registration: Registration
    displacement: float  # at the worst corner from the expected view, in picture pixels
    is_registered: bool  # without doubt


def place(picture: np.ndarray, intensity: np.ndarray, *, model: str) -> Placement:
    """Register a picture [H,W,3] uint8 to the mean intensity of upright spikes over its exposure [h,w].

    model: one of MODELS, or "": by a homography, which is used where it is sure and differs from the expected view.
    A registration that is not sure is not used: both are taken to show the same view.
    """
    shape = picture.shape[:2]
    sizes = tuple(-(-side // UPSCALE) * UPSCALE for side in shape), intensity.shape
    expected = enlargement(shape, intensity.shape)
    is_quarter = all(
        side in (full // UPSCALE, -(-full // UPSCALE)) for side, full in zip(intensity.shape, shape, strict=True)
    )
    if is_quarter:
        expected = enlargement((UPSCALE, UPSCALE), (1, 1))  # a remainder of up to 3 pixels is no other scale
    found = register(intensity, picture, model=model or "homography", orientation="upright")
    if model == "none":
        return Placement(None if is_quarter else View(expected, *sizes), found, 0.0, False)
    displacement = corner_error(found.homography, expected, shape)
    is_used = found.is_sure and (model or displacement > DISPLACED)
    if is_used or not is_quarter:
        return Placement(View(found.homography if is_used else expected, *sizes), found, displacement, found.is_sure)
    return Placement(None, found, displacement, found.is_sure)


def refuse_other_orientation(path: Path, long: np.ndarray, picture: np.ndarray) -> None:
    """Raise InputError if spikes surely show a picture [H,W,3] uint8 turned or mirrored, naming the orientation.

    long: mean of the spikes over the exposure [h,w]; path: of their file.
    """
    if brightness(picture).max() < DARK:  # no orientation is sure
        return
    found = register(long, picture)
    if found.is_sure and found.orientation != "upright":
        raise InputError(
            f"{path}: the spikes show the picture {DESCRIBED[found.orientation]} (registered with confidence "
            f"{found.confidence:.2f}); --orientation {found.orientation} corrects it"
        )


def placed_by_rig(rig: CalibratedRig, picture: np.ndarray) -> Placement:
    """Place a picture [H,W,3] as a calibrated rig says."""
    shape, spikes = picture.shape[:2], upright(np.empty(rig.spikes), rig.orientation).shape
    sizes = tuple(-(-side // UPSCALE) * UPSCALE for side in shape), spikes
    displacement = corner_error(rig.homography, enlargement(shape, spikes), shape)
    registration = Registration("upright", rig.homography, correlation=1.0, confidence=1.0)
    gain = None if rig.gain is None else torch.from_numpy(np.ascontiguousarray(upright(rig.gain, rig.orientation)))
    return Placement(View(rig.homography, *sizes, gain), registration, displacement, True)


def format_of_rig(path: Path, rig: CalibratedRig) -> SpikeFormat:
    """Tell how a spike file is read: as the recording that a rig was calibrated with.

    Raises: InputError if it cannot be read so.
    """
    found = guess(path, geometry=rig.spikes)
    for spike_format in found:
        if str(spike_format).partition(" frames of ")[2] == rig.spike_format.partition(" frames of ")[2]:
            return spike_format
    raise InputError(f"{path}: cannot be read as {rig.spike_format}, as the rig was calibrated; it may be {found[0]}")


def check_picture_size(rig: CalibratedRig, path: Path, picture: np.ndarray) -> None:
    """Raise InputError if a picture does not have the size of those that a rig was calibrated with."""
    if picture.shape[:2] != rig.picture:
        found, wanted = ("x".join(map(str, size)) for size in (picture.shape[:2], rig.picture))
        raise InputError(f"{path}: is {found}, the rig was calibrated with pictures of {wanted}")


def defects_of_rig(rig: CalibratedRig, spikes: np.ndarray) -> Defects:
    """Return the defective pixels of a rig and the lost frames of spikes [T,h,w]."""
    hot, dead = np.zeros((2, *rig.spikes), bool)
    for mask, places in ((hot, rig.hot), (dead, rig.dead)):
        mask[tuple(np.array(places, int).reshape(-1, 2).T)] = True
    return Defects(hot, dead, lost_frames(spikes.sum((1, 2), dtype=np.int64)))


def find_in_stream(read: Read, total: int, picture: np.ndarray, *, model: str) -> tuple[FoundExposure, Placement]:
    """Find the exposure of a picture in a stream of `total` upright spike frames, and register it.

    Both depend on each other, as the scene moves: they alternate until the exposure stays, from each of the windows
    that resemble the picture most.
    """
    tried = []
    for first, length in _likely_windows(read, total, picture):
        for _ in range(ROUNDS):
            placement = place(picture, exposure_intensity(read, total, first, length), model=model)
            found = find_exposure(read, total, picture, placement.registration.homography)
            if (found.start, found.length) == (first, length):
                break
            first, length = found.start, found.length
        tried.append((found.is_sure and placement.registration.is_sure, found.correlation, found, placement))
        if tried[-1][0]:
            break
    *_, found, placement = max(tried, key=lambda one: one[:2])
    return found, placement


def _likely_windows(read: Read, total: int, picture: np.ndarray) -> list[tuple[int, int]]:
    """Return start and length of the TRIED windows, half a length apart, that resemble a picture most, best first."""
    length = min(Exposure().length, total)
    gray, scored = brightness(picture), []
    for first in range(0, total - length + 1, max(length // 2, 1)):
        mean = read(first, first + length).mean(0, dtype=np.float32)
        ratio = np.sqrt(gray.size / mean.size)
        scored.append((max(score for score, _ in candidates(gray, mean, ratio)), first))
    return [(first, length) for _, first in sorted(scored, reverse=True)[:TRIED]]


def homography_of(placement: Placement) -> np.ndarray:
    """Return the [3,3] from picture to spikes that is used."""
    return placement.view.homography if placement.view else enlargement((UPSCALE, UPSCALE), (1, 1))
