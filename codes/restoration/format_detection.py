"""The format of the spike file beside a picture: detected by what it shows; and how both get sizes that fit."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from codes.data.listing import ARRAYS, has_suffix
from codes.data.orientation import DESCRIBED, oriented
from codes.data.spikes import UPSCALE, Exposure, frames_in
from codes.errors import InputError
from codes.restoration.alignment import better_orientation
from codes.restoration.spike_file import KNOWN, SpikeFormat, guess, middle

SURE = 0.9  # a format this likely is believed against the custom of the format


def detect_format(
    path: str | Path,
    picture: np.ndarray,
    *,
    geometry: tuple[int, int] | None = None,
    rows: str = "",
    bits: str = "",
    align: str = "",
    orientation: str = "upright",
) -> SpikeFormat:
    """Tell how a spike file that belongs to a picture [H,W,3] is to be read.

    orientation: how the spikes show the picture, as in `codes.data.orientation`; the format is that of the file.
    What is given is trusted: geometry (height, width), rows "bottom" or "top" first, bits "lowest" or "highest" first.
    The rest is as the format says, and the size a quarter of the picture's; it may be another if `align` is given.
    Raises: InputError if the file holds no whole frames of that size, or its content shows another format or
    orientation.
    """
    path, is_array = Path(path), has_suffix(path, ARRAYS)
    picture = oriented(picture, orientation)
    size = _size(path, picture, geometry, must_be_quarter=not align)
    stated: dict[str, int | bool] = dict(zip(("height", "width"), geometry or (), strict=False))
    if rows:
        stated["flip"] = rows == "bottom"
    if bits:
        stated["low_bit_first"] = bits == "lowest"
    order = {"flip": not is_array, "low_bit_first": True} | stated
    expected = dict(zip(("height", "width"), size or (), strict=False)) | order

    found = guess(path, picture=_resized(picture, *size) if size else picture)
    possible = [spike_format for spike_format in found if _agrees(spike_format, stated)]
    chosen = next((spike_format for spike_format in possible if _agrees(spike_format, expected)), None)
    if chosen is None:
        raise InputError(f"{path}: cannot be read as --geometry, --rows and --bits say; it may be {found[0]}")
    if orientation == "upright":
        _refuse_other_orientation(path, picture, chosen, found)
    likeliest = possible[0]
    if likeliest.confidence > SURE * sum(spike_format.confidence for spike_format in possible):
        if align and _agrees(likeliest, order):
            return likeliest
        if likeliest is not chosen:
            height, width = picture.shape[:2]
            raise InputError(
                f"{path}: was to be {chosen}, but it looks like {likeliest}, beside a picture of {height}x{width}: "
                "scripts/inspect_spikes.py shows it, --geometry, --rows and --bits say how to read it"
            )
    return chosen


def _size(
    path: Path, picture: np.ndarray, geometry: tuple[int, int] | None, *, must_be_quarter: bool
) -> tuple[int, int] | None:
    """Return height and width of the spikes: stated, or else a quarter of the picture; None if neither fits the file.

    Raises: InputError if the file holds no whole frames of them, or they have to be a quarter and are not.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such spike file")
    is_array = has_suffix(path, ARRAYS)
    if geometry and not is_array:
        frames_in(path, *geometry)
    if geometry and must_be_quarter and geometry not in _quarters(picture):
        raise InputError(_mismatch(picture, geometry))
    size = geometry or (None if is_array else _whole(path, picture))
    if size is None and not is_array and must_be_quarter:
        raise InputError(_not_whole(path, picture))
    return size


def _refuse_other_orientation(path: Path, picture: np.ndarray, chosen: SpikeFormat, found: list[SpikeFormat]) -> None:
    """Refuse spikes that show the picture turned or mirrored; rows in the other order are those of a format."""
    swapped = [
        spike_format
        for spike_format in found
        if (spike_format.height, spike_format.width) == (chosen.width, chosen.height)
        and (spike_format.flip, spike_format.low_bit_first) == (chosen.flip, chosen.low_bit_first)
    ]
    averages = [middle(path, spike_format) for spike_format in (chosen, *swapped)]
    better = better_orientation(averages, picture)
    if better and better[0] != "flipped":
        name, correlation = better
        raise InputError(
            f"{path}: the spikes show the picture {DESCRIBED[name]} (correlation {correlation:.3f}); "
            f"--orientation {name} corrects it"
        )


def fit(picture: np.ndarray, spikes: np.ndarray, *, align: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Bring a picture [H,W,3] to the size of spikes [T,h,w], H and W 4 times h and w up to a remainder of 3 pixels.

    align: "resize" scales the picture, both show the same view; "crop" keeps the middle that both have, a spike pixel
    being as large as 4x4 of the picture.
    Raises: InputError with both sizes if they do not fit and `align` is not given.
    """
    height, width = spikes.shape[1:]
    if (height, width) in _quarters(picture):
        return picture, spikes
    if align == "resize":
        return _resized(picture, height, width), spikes
    if align == "crop":
        height, width = min(height, picture.shape[0] // UPSCALE), min(width, picture.shape[1] // UPSCALE)
        return _middle(picture, height * UPSCALE, width * UPSCALE, 0), _middle(spikes, height, width, 1)
    raise InputError(_mismatch(picture, (height, width)))


def tensors(
    picture: np.ndarray, spikes: np.ndarray, device: torch.device, *, is_same_view: bool = True
) -> tuple[Tensor, Tensor]:
    """Return [1,3,H,W] in [0,1] and [1,T,h,w]; up to 3 missing rows and columns repeat the last.

    is_same_view: H and W are brought to 4h and 4w.
    """
    height, width = (-(-side // UPSCALE) for side in picture.shape[:2])
    down, right = height * UPSCALE - picture.shape[0], width * UPSCALE - picture.shape[1]
    picture = np.pad(picture, ((0, down), (0, right), (0, 0)), mode="edge")
    if is_same_view:
        spikes = np.pad(spikes, ((0, 0), (0, height - spikes.shape[1]), (0, width - spikes.shape[2])), mode="edge")
    blur = torch.from_numpy(picture).to(device).permute(2, 0, 1)[None].float() / 255
    return blur.contiguous(), torch.from_numpy(np.ascontiguousarray(spikes)).to(device)[None]


def _quarters(picture: np.ndarray) -> list[tuple[int, int]]:
    """List the spike sizes that belong to a picture: a quarter, where there is a rest rounded down or up."""
    height, width = picture.shape[:2]
    return [(height // UPSCALE, width // UPSCALE), (-(-height // UPSCALE), -(-width // UPSCALE))]


def _whole(path: Path, picture: np.ndarray) -> tuple[int, int] | None:
    """Return the first quarter of the picture of which the file holds whole frames."""
    for size in _quarters(picture):
        try:
            frames_in(path, *size)
            return size
        except InputError:
            pass
    return None


def _not_whole(path: Path, picture: np.ndarray) -> str:
    try:
        frames_in(path, *_quarters(picture)[0])
    except InputError as error:
        message = f"{error}; the picture is {picture.shape[0]}x{picture.shape[1]}"
    try:
        found = guess(path, picture=picture)[0]
    except InputError:
        return message
    if found.frames != Exposure().total and (found.height, found.width) not in KNOWN:
        return message
    return f"{message}; the spikes may be {found} (go on with --align resize or --align crop)"


def _mismatch(picture: np.ndarray, size: tuple[int, int]) -> str:
    height, width = picture.shape[:2]
    return (
        f"the picture is {height}x{width}, the spikes are {size[0]}x{size[1]}: {_quarters(picture)[0][0]}x"
        f"{_quarters(picture)[0][1]} are expected; go on with --align resize (same view) or --align crop (same scale)"
    )


def _agrees(spike_format: SpikeFormat, facts: dict[str, int | bool]) -> bool:
    return all(getattr(spike_format, name) == value for name, value in facts.items())


def _resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale a picture to 4 times a spike size."""
    smaller = height * UPSCALE < picture.shape[0]
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(picture, (width * UPSCALE, height * UPSCALE), interpolation=interpolation)


def _middle(array: np.ndarray, height: int, width: int, axis: int) -> np.ndarray:
    """Keep the middle of the two sides that begin at `axis`."""
    top, left = (array.shape[axis] - height) // 2, (array.shape[axis + 1] - width) // 2
    return array[(slice(None),) * axis + (slice(top, top + height), slice(left, left + width))]
