"""What is printed about a recording: how it was read, whether picture and spikes agree, what degrades the result."""

import numpy as np

from codes.data.sensor import Defects
from codes.registration.geometry import enlargement
from codes.registration.synchronisation import find_exposure
from codes.restoration.alignment import is_aligned
from codes.restoration.placement import DISPLACED, Placement
from codes.restoration.preparation import Arrays, Recording
from codes.restoration.timing import AUTO
from codes.restoration.view import View, gain_of

SHOWN = 0.8  # least correlation of the spikes of an exposure with its picture, which has no noise; a rig tells the view
APART = 3  # spike frames between a given exposure and the one that is found, which are reported
DIFFERENT = 1.25  # factor between exponents of a response, given and estimated, that is reported
DARKEST = 32  # of 255: below it a picture is nearly black
SATURATED = 0.01  # share of white pixels that is reported


def describe(
    recording: Recording,
    arrays: Arrays,
    *,
    has_consistency: bool,
    corrects_colour: bool,
    clock: tuple[float, float, float] | None = None,
) -> bool:
    """Print how a pair was read, whether picture and spikes show the same scene, and what degrades the result.

    arrays: of the recording. has_consistency: whether the method adds the data-consistency residual where the stream
    allows it; corrects_colour: whether it corrects colours along motion there. clock: first spike frame, period and
    length of the exposures of the film that the picture is one of.
    Returns: whether picture and spikes agree in view and time, as far as can be told.
    """
    agree = True
    print(f"{recording.pair.picture}: {arrays.picture.shape[0]}x{arrays.picture.shape[1]}")
    print(f"{recording.pair.spikes}: {recording.spike_format}")
    if recording.placement.view is None:
        correlation, (x, y) = recording.aligned
        agree = is_aligned(correlation, (x, y))
        verdict = "aligned" if agree else "NOT ALIGNED, see inspect_spikes.py"
        x, y = round(x, 1) + 0.0, round(y, 1) + 0.0  # -0.0 becomes 0.0
        print(f"  {verdict}: correlation {correlation:.3f}, the spikes lie {x:+.1f} {y:+.1f} pixels (right, down)")
    _describe_placement(recording.placement)
    if recording.acquisition.exposure != AUTO:
        agree &= _describe_exposure(recording, arrays, clock)
    _describe_response(recording)
    _describe_defects(recording, arrays.defects)
    if (brightest := arrays.picture.max()) < DARKEST:
        print(f"  the picture is nearly black: {brightest} of 255 at most")
    if (full := (arrays.picture == 255).all(2).mean()) > SATURATED:
        print(f"  {full:.0%} of the picture is saturated: its moving edges get rims")
    if recording.is_shortened:
        print(f"  from {recording.times[0]} to {recording.times[-1]}: no window fits nearer to the ends of the stream")
    if recording.is_cut and (has_consistency or corrects_colour):
        print("  no window fits around the first and the last frame of the exposure; record a longer stream")
    if recording.is_cut and has_consistency:
        print("  WITHOUT DATA CONSISTENCY, which the weights were trained for")
    if recording.is_cut and corrects_colour:
        print("  WITHOUT COLOUR CORRECTION along motion: colours are those of the blurry picture")
    return agree


def _describe_placement(placement: Placement) -> None:
    """Print how the picture lies in the spikes, and how sure that is."""
    view, found, displacement, _ = placement
    if not found.is_sure:
        print(f"  registration is not sure: {found.reason}; both are taken to show the same view")
    elif view is None and displacement > DISPLACED:
        print(f"  registered {displacement:.1f} pixels away at a corner: --align homography corrects it")
    elif view is not None:
        x, y, degrees, scale = _motion(view)
        print(
            f"  registered (confidence {found.confidence:.2f}): the spikes show the picture moved by {x:+.1f} {y:+.1f} "
            f"pixels (right, down), turned by {degrees:+.2f} degrees, enlarged by {scale:.3f}; "
            f"{displacement:.1f} pixels at a corner"
        )


def _describe_exposure(recording: Recording, arrays: Arrays, clock: tuple[float, float, float] | None) -> bool:
    """Look for the exposure in the spikes, and print one that fits clearly better than the given one: then False."""
    homography, spikes = recording.placement.registration.homography, arrays.spikes
    gain = gain_of(recording.placement.view)
    found = find_exposure(
        lambda first, stop: spikes[first:stop], len(spikes), arrays.picture, homography,
        gain=None if gain is None else gain.numpy(),
    )  # fmt: skip
    if recording.acquisition.rig and found.correlation < SHOWN:
        print(
            f"  NOT ALIGNED IN TIME: the spikes around the exposure do not show the picture (correlation "
            f"{found.correlation:.2f}): name the folder that was calibrated, or {'--clock' if clock else '--exposure'}"
        )
        return False
    start, given, length = found.start, recording.exposure.margin, recording.exposure.length
    apart = max(abs(start - given), abs(start + found.length - given - length))
    is_other = found.is_sure and apart > APART
    if is_other:
        start, given = recording.start + start, recording.start + given
        option = f"--clock {clock[0] + start - given:g} {clock[1]:g}" if clock else f"--exposure {start}"
        print(
            f"  NOT ALIGNED IN TIME: the picture was exposed over {found.length} frames from {start} on, not "
            f"{length} from {given} on (correlation {found.correlation:.3f}): {option} {found.length}"
        )
    return not is_other


def _describe_response(recording: Recording) -> None:
    """Print a response that is undone, and an estimate that contradicts the given one."""
    used, estimated = recording.response, recording.estimated_response
    told = f"the picture is intensity to the power of {estimated.exponent:.2f}, black is {255 * estimated.black:.0f}"
    if used == estimated and not used.is_linear:
        print(f"  {told}: undone for the restoration; --gamma 1 if it is linear")
    elif not 1 / DIFFERENT < used.exponent / estimated.exponent < DIFFERENT:
        print(f"  {told}: --gamma {1 / estimated.exponent:.1f}, or without --gamma it is undone")


def _describe_defects(recording: Recording, defects: Defects) -> None:
    """Print what is defective in the spikes, and what was done about it."""
    hot, dead, lost = defects
    if count := int((hot | dead).sum()):
        done = "replaced by their neighbours" if recording.acquisition.repair else "left as they are"
        print(f"  {count} defective pixels ({hot.sum()} hot, {dead.sum()} dead): {done}")
    if len(lost):
        done = "bridged" if recording.acquisition.repair else "left: frames near them are too dark"
        print(f"  NO SPIKE in {len(lost)} frames, first in {recording.start + lost[0]}, lost on the way: {done}")


def _motion(view: View) -> tuple[float, float, float, float]:
    """Return shift in picture pixels, rotation in degrees and enlargement at the middle of the picture."""
    motion = np.linalg.inv(enlargement(view.picture, view.spikes)) @ view.homography
    x, y = ((side - 1) / 2 for side in view.picture[::-1])
    u, v, w = motion @ (x, y, 1)
    # The derivative at the middle.
    derivative = (motion[:2, :2] - np.outer((u / w, v / w), motion[2, :2])) / w
    degrees = np.degrees(np.arctan2(derivative[1, 0] - derivative[0, 1], derivative[0, 0] + derivative[1, 1]))
    return u / w - x, v / w - y, float(degrees), float(np.sqrt(abs(np.linalg.det(derivative))))
