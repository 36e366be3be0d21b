"""Exposure and target times of a recording, in its spike frames: given, of a rig, or found in the stream."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from codes.data.spikes import Exposure
from codes.errors import InputError
from codes.registration.rig_file import CalibratedRig
from codes.restoration.placement import MODELS, find_in_stream

AUTO = ("auto",)  # --exposure that is found in the stream


def given_exposure(path: Path, given: tuple[str, ...], total: int) -> tuple[int, int]:
    """Return first spike frame and length of the exposure, that of a sample if none is given.

    path: of the spike file; total: its spike frames.
    Raises: InputError if it is no exposure, or lies outside.
    """
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


def exposure_by_rig(rig: CalibratedRig, number: int | None) -> tuple[str, ...]:
    """Return the exposure of a picture by the clock of a rig, as it is given on a command line.

    Raises: InputError if the clock numbers pictures, and the number of this one is not known.
    """
    if number is None and rig.clock and rig.clock["period"]:
        raise InputError(
            "--rig: its clock numbers the pictures of a folder: name the folder, or --exposure START LENGTH"
        )
    start, length = rig.exposure(number or 0)
    return str(start), str(length)


def found_exposure(
    path: Path, picture: np.ndarray, read: Callable[[int, int], np.ndarray], total: int, *, align: str
) -> tuple[int, int]:
    """Return first spike frame and length of the exposure that is found in a stream of `total` spike frames.

    read: (first, stop) -> upright spikes [n,h,w]; path: of their file.
    Raises: InputError if it is not sure, with the reason.
    """
    if align not in ("", *MODELS):
        raise InputError(f"--exposure auto: not beside --align {align}; {', '.join(MODELS)} are accepted")
    found, placement = find_in_stream(read, total, picture, model=align)
    if reason := found.reason or placement.registration.reason:  # either may be mistaken for the other
        raise InputError(
            f"--exposure auto: {reason} in {path}; pass --exposure START LENGTH (the best guess is "
            f"{found.start} {found.length})"
        )
    return found.start, found.length


def target_times(
    first: int,
    length: int,
    total: int,
    *,
    frames: int,
    times: tuple[int, ...],
    window: int,
    requires_data_consistency: bool,
) -> tuple[list[int], bool]:
    """Return the target times in a stream of `total` frames, and whether no window fits around an exposure's ends.

    They are `times`, or else `frames` evenly over the exposure, as far as `window` spike frames fit around them.
    Raises: InputError if they do not fit, or if data consistency is asked for and leaves no choice.
    """
    last = first + length - 1
    begin, end = max(first, window // 2), min(last, total - window + window // 2)
    if not times and frames > (possible := max(end - begin + 1, 0)):
        raise InputError(
            f"--frames {frames}: the exposure has {possible} target times with {window} spike frames around them"
        )
    is_cut = (begin, end) != (first, last)
    if requires_data_consistency and is_cut:
        raise InputError(
            f"--consistency picture: the stream of {total} frames ends too close to the exposure; windows of {window} "
            "spike frames have to fit around its first and last frame"
        )
    even = np.linspace(begin, end, frames) if frames > 1 else [min(max(first + length // 2, begin), end)]
    chosen = list(dict.fromkeys(times or np.rint(even).astype(int).tolist()))
    check_times(chosen, window=window, total=total)
    return chosen, is_cut


def check_times(times: Iterable[int], *, window: int, total: int) -> None:
    """Raise InputError for a target time around which a stream of `total` frames has no window of spike frames."""
    first, last = window // 2, total - window + window // 2
    for time in times:
        if not first <= time <= last:
            raise InputError(
                f"--times {time}: {window} spike frames around it are needed, and the stream has 0..{total - 1}; "
                f"{first}..{last} are accepted"
            )
