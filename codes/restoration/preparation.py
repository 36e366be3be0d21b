"""A recording that is ready to be restored: its pair read and checked, its target times chosen."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from codes.data.images import read_image
from codes.data.orientation import upright
from codes.data.response import Response
from codes.data.sensor import Defects, find_defects, repair
from codes.data.spikes import Exposure
from codes.errors import InputError
from codes.physics.intensity import isi_intensity
from codes.registration.geometry import in_view_of_spikes
from codes.registration.response import estimate_response
from codes.registration.rig_file import CalibratedRig
from codes.registration.synchronisation import find_exposure
from codes.restoration.alignment import align, is_aligned, is_flat
from codes.restoration.placement import (
    MODELS,
    Placement,
    check_picture_size,
    defects_of_rig,
    describe_exposure,
    describe_placement,
    find_in_stream,
    homography_of,
    place,
    placed_by_rig,
    reading_of_rig,
)
from codes.restoration.recording import find_reading, fit
from codes.restoration.spike_file import Reading, read

AUTO = ("auto",)  # --exposure that is found in the stream
ALIGNED = 0.8  # least correlation of a pair whose values are compared
DIFFERENT = 1.25  # factor between exponents of a response, given and estimated, that is reported
DARKEST = 32  # of 255: below it a picture is nearly black
SATURATED = 0.01  # share of white pixels that is reported
OTHER = 0.3  # correlation between long TFP and picture below which they show different scenes


@dataclass(frozen=True)
class Recording:
    """A pair that fits, and the target times of its frames."""

    picture: np.ndarray  # [H,W,3] uint8 BGR
    spikes: np.ndarray  # [T,h,w] uint8, the part of the stream that is needed
    reading: Reading
    start: int  # spike frame of the file at which `spikes` start
    exposure: Exposure  # relative to `start`
    times: list[int]  # spike frames of the file
    is_cut: bool  # no window fits around the ends of the exposure
    is_shortened: bool  # so that the target times do not reach them
    aligned: tuple[float, tuple[float, float]]  # correlation, (x, y) of the spikes in picture pixels, if not registered
    placement: Placement  # of the picture in the spikes
    response: Response  # of the picture, undone for the restoration
    estimated_response: Response
    defects: Defects  # of the spikes as they are stored
    is_repaired: bool


def prepare(
    picture_path: Path,
    spike_path: Path,
    *,
    exposure: tuple[str, ...],
    frames: int,
    times: tuple[int, ...],
    window: int,
    reach: int,
    geometry: tuple[int, ...],
    rows: str,
    bits: str,
    align_by: str,
    orientation: str,
    must_be_consistent: bool,
    is_repaired: bool,
    gamma: float,
    rig: CalibratedRig | None = None,
    number: int | None = None,
) -> Recording:
    """Read a pair and check it. Arguments are those of scripts/deblur.py.

    window: spike frames that the method needs around a target time; reach: beyond the exposure that it uses.
    must_be_consistent: whether windows have to fit around both ends of the exposure, as data consistency needs.
    is_repaired: whether defects of the spike sensor are repaired. gamma: of the picture; 0: estimated.
    rig: states geometry, defects and response, and the exposure of picture `number` of a recording.
    Raises: InputError naming what does not fit.
    """
    if len(geometry) not in (0, 2) or min(geometry, default=1) < 1:
        raise InputError(f"--geometry {' '.join(map(str, geometry))}: height and width are accepted")
    picture = read_image(picture_path)
    if rig:
        check_picture_size(rig, picture_path, picture)
        reading, orientation = reading_of_rig(spike_path, rig), rig.orientation
        exposure = exposure or _exposure_of_rig(rig, number)
    else:
        reading = find_reading(
            spike_path,
            picture,
            geometry=geometry or None,
            rows=rows,
            bits=bits,
            align=align_by,
            orientation=orientation,
        )
    model = align_by if align_by in MODELS else ""
    read_upright = partial(_upright, spike_path, reading, orientation)
    if exposure == AUTO:
        first, length = _found_exposure(picture, spike_path, read_upright, reading.frames, align_by=align_by)
    else:
        first, length = _exposure(spike_path, exposure, reading.frames)
    chosen, is_cut = _target_times(
        first, length, reading.frames, frames=frames, times=times, window=window, must_be_consistent=must_be_consistent
    )
    last = first + length - 1
    start, stop = max(0, min(first, *chosen) - reach), max(last, *chosen) + reach + 1
    spikes = read(spike_path, reading, first=start, stop=stop)
    defects = defects_of_rig(rig, spikes) if rig else find_defects(spikes)
    spikes = np.ascontiguousarray(upright(repair(spikes, defects) if is_repaired else spikes, orientation))
    if not model and not rig:
        picture, spikes = fit(picture, spikes, align=align_by)
    # The margin after the exposure is not used.
    relative = Exposure(length=length, margin=first - start)
    long = _long_tfp(spike_path, reading, spikes, relative)
    aligned = align(long, picture)
    placement = placed_by_rig(rig, picture) if rig else place(picture, long, model=model)
    if aligned[0] < OTHER and not geometry and not placement.is_registered:
        raise InputError(
            f"{spike_path}: as {reading} it does not show what {picture_path} shows (correlation {aligned[0]:.2f}): "
            "it is of another picture, or --exposure names other frames; to continue, give --geometry HEIGHT WIDTH"
        )
    if rig:
        estimated = rig.response
    elif aligned[0] > ALIGNED or placement.is_registered:
        estimated = _response(picture, spikes, relative, homography_of(placement))
    else:
        estimated = Response()
    is_shortened = is_cut and not times and frames > 1
    return Recording(
        picture=picture,
        spikes=spikes,
        reading=reading,
        start=start,
        exposure=relative,
        times=chosen,
        is_cut=is_cut,
        is_shortened=is_shortened,
        aligned=aligned,
        placement=placement,
        response=Response(1 / gamma) if gamma else estimated,
        estimated_response=estimated,
        defects=defects,
        is_repaired=is_repaired,
    )


def _target_times(
    first: int,
    length: int,
    total: int,
    *,
    frames: int,
    times: tuple[int, ...],
    window: int,
    must_be_consistent: bool,
) -> tuple[list[int], bool]:
    """Return the target times in a stream of `total` frames, and whether no window fits around an exposure's ends."""
    last = first + length - 1
    begin, end = max(first, window // 2), min(last, total - window + window // 2)
    if not times and frames > (possible := max(end - begin + 1, 0)):
        raise InputError(
            f"--frames {frames}: the exposure has {possible} target times with {window} spike frames around them"
        )
    is_cut = (begin, end) != (first, last)
    if must_be_consistent and is_cut:
        raise InputError(
            f"--consistency picture: the stream of {total} frames ends too close to the exposure; windows of {window} "
            "spike frames have to fit around its first and last frame"
        )
    even = np.linspace(begin, end, frames) if frames > 1 else [min(max(first + length // 2, begin), end)]
    chosen = list(dict.fromkeys(times or np.rint(even).astype(int).tolist()))
    check_times(chosen, window=window, total=total)
    return chosen, is_cut


def _long_tfp(path: Path, reading: Reading, spikes: np.ndarray, exposure: Exposure) -> np.ndarray:
    """Average spikes [T,h,w] over the exposure.

    Raises: InputError if all pixels fire alike.
    """
    long = spikes[exposure.frames].mean(0)
    if is_flat(long):
        raise InputError(
            f"{path}: as {reading} it shows nothing, all pixels fire alike ({np.median(long):.3f} times a spike "
            "frame): the lens was covered, the light too strong, or this is no spike file"
        )
    return long


def _exposure_of_rig(rig: CalibratedRig, number: int | None) -> tuple[str, ...]:
    """Return the exposure of a picture of a recording by the clock of a rig.

    Raises: InputError if it is not known which picture of the recording it is.
    """
    if number is None and rig.clock and rig.clock["period"]:
        raise InputError(
            "--rig: its clock numbers the pictures of a folder: name the folder, or --exposure START LENGTH"
        )
    start, length = rig.exposure(number or 0)
    return str(start), str(length)


def _upright(path: Path, reading: Reading, orientation: str, first: int, stop: int) -> np.ndarray:
    return upright(read(path, reading, first=first, stop=stop), orientation)


def _response(picture: np.ndarray, spikes: np.ndarray, exposure: Exposure, homography: np.ndarray) -> Response:
    """Estimate the response of a picture [H,W,3] uint8 that spikes [T,h,w] show where a homography says."""
    shape, exposed = spikes.shape[1:], slice(exposure.margin, exposure.margin + exposure.length)
    intensity = isi_intensity(torch.from_numpy(np.ascontiguousarray(spikes))[None])[0, exposed].mean(0)
    seen, mask = in_view_of_spikes(picture / np.float32(255), homography, shape)
    return estimate_response(seen, intensity.numpy(), mask)


def _found_exposure(
    picture: np.ndarray, path: Path, read_upright: Callable[[int, int], np.ndarray], total: int, *, align_by: str
) -> tuple[int, int]:
    """Return first spike frame and length of the exposure that is found in the stream.

    Raises: InputError if it is not sure, with the reason.
    """
    if align_by not in ("", *MODELS):
        raise InputError(f"--exposure auto: not beside --align {align_by}; {', '.join(MODELS)} are accepted")
    found, placement = find_in_stream(read_upright, total, picture, model=align_by)
    if reason := found.reason or placement.registration.reason:  # either may be mistaken for the other
        raise InputError(
            f"--exposure auto: {reason} in {path}; say it by --exposure START LENGTH (the best guess is "
            f"{found.start} {found.length})"
        )
    return found.start, found.length


def _exposure(path: Path, given: tuple[str, ...], total: int) -> tuple[int, int]:
    """Return first spike frame and length of the exposure, that of a sample if none is given."""
    try:
        exposure = [int(value) for value in given]
    except ValueError:
        exposure = [0]  # neither one nor two numbers
    if len(exposure) not in (0, 2) or any(value < least for value, least in zip(exposure, (0, 1), strict=False)):
        accepted = "first spike frame and length are accepted, or auto"
        raise InputError(f"--exposure {' '.join(map(str, given))}: {accepted}")
    if not exposure and total != Exposure().total:
        raise InputError(
            f"{path}: has {total} frames, not the {Exposure().total} of a sample; "
            "say by --exposure START LENGTH which of them the picture was exposed over, or --exposure auto"
        )
    first, length = exposure or (Exposure().margin, Exposure().length)
    if first + length > total:
        raise InputError(
            f"--exposure {first} {length}: frames {first}..{first + length - 1}, {path} has 0..{total - 1}"
        )
    return first, length


def check_times(times: Iterable[int], *, window: int, total: int) -> None:
    """Raise InputError for a target time around which a stream of `total` frames has no window of spike frames."""
    first, last = window // 2, total - window + window // 2
    for time in times:
        if not first <= time <= last:
            raise InputError(
                f"--times {time}: {window} spike frames around it are needed, and the stream has 0..{total - 1}; "
                f"{first}..{last} are accepted"
            )


def describe(recording: Recording, picture: Path, spikes: Path, *, has_consistency: bool, has_colour: bool) -> None:
    """Print how a pair was read, whether picture and spikes show the same scene, and what degrades the result.

    has_consistency: whether the method adds the data-consistency residual where the stream allows it; has_colour:
    whether it corrects colours along motion there.
    """
    correlation, (x, y) = recording.aligned
    print(f"{picture}: {recording.picture.shape[0]}x{recording.picture.shape[1]}")
    print(f"{spikes}: {recording.reading}")
    placement = recording.placement
    if placement.view is None:
        verdict = "aligned" if is_aligned(correlation, (x, y)) else "NOT ALIGNED, see inspect_spikes.py"
        x, y = round(x, 1) + 0.0, round(y, 1) + 0.0  # -0.0 becomes 0.0
        print(f"  {verdict}: correlation {correlation:.3f}, the spikes lie {x:+.1f} {y:+.1f} pixels (right, down)")
    describe_placement(placement)
    describe_exposure(
        find_exposure(
            lambda first, stop: recording.spikes[first:stop],
            len(recording.spikes),
            recording.picture,
            placement.registration.homography,
        ),
        offset=recording.start,
        first=recording.start + recording.exposure.margin,
        length=recording.exposure.length,
    )
    describe_response(recording)
    describe_defects(recording)
    if (brightest := recording.picture.max()) < DARKEST:
        print(f"  the picture is nearly black: {brightest} of 255 at most")
    if (full := (recording.picture == 255).all(2).mean()) > SATURATED:
        print(f"  {full:.0%} of the picture is saturated: its moving edges get rims")
    if recording.is_shortened:
        print(f"  from {recording.times[0]} to {recording.times[-1]}: no window fits nearer to the ends of the stream")
    if recording.is_cut and (has_consistency or has_colour):
        print("  no window fits around the first and the last frame of the exposure; record a longer stream")
    if recording.is_cut and has_consistency:
        print("  WITHOUT DATA CONSISTENCY, which the weights were trained for")
    if recording.is_cut and has_colour:
        print("  WITHOUT COLOUR CORRECTION along motion: colours are those of the blurry picture")


def describe_response(recording: Recording) -> None:
    """Print a response that is undone, and an estimate that contradicts the given one."""
    used, estimated = recording.response, recording.estimated_response
    told = f"the picture is intensity to the power of {estimated.exponent:.2f}, black is {255 * estimated.black:.0f}"
    if used == estimated and not used.is_linear:
        print(f"  {told}: undone for the restoration; --gamma 1 if it is linear")
    elif not 1 / DIFFERENT < used.exponent / estimated.exponent < DIFFERENT:
        print(f"  {told}: --gamma {1 / estimated.exponent:.1f}, or without --gamma it is undone")


def describe_defects(recording: Recording) -> None:
    """Print what is defective in the spikes, and what was done about it."""
    hot, dead, lost = recording.defects
    if count := int((hot | dead).sum()):
        done = "replaced by their neighbours" if recording.is_repaired else "left as they are"
        print(f"  {count} defective pixels ({hot.sum()} hot, {dead.sum()} dead): {done}")
    if len(lost):
        done = "bridged" if recording.is_repaired else "left: frames near them are too dark"
        print(f"  NO SPIKE in {len(lost)} frames, first in {recording.start + lost[0]}, lost on the way: {done}")
