"""Spike files of unknown geometry: the size of frames and the order of rows and bits are found, and frames read so.

Data sets have files of known geometry: `codes.data.spikes`. Intensity changes slowly from pixel to pixel: read rightly,
the average of many frames (TFP) is smooth and shows nothing twice; read wrongly, it is torn, washed out or repeated.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from codes.archives import read_named_arrays
from codes.data.listing import ARRAYS, has_suffix
from codes.data.spikes import Exposure, file_size, map_bytes
from codes.errors import InputError
from codes.restoration.alignment import align, correlation

KNOWN = ((250, 400), (180, 320), (720, 1280), (1000, 1600), (240, 320), (480, 640), (135, 240), (270, 480))
SQUARES = tuple((side, side) for side in range(16, 1025, 4))
FRAMES = 200  # looked at, from the middle of a file
UNSMOOTH = 0.3  # difference of smoothness that tells the axis of time
SHORTEST = 5  # frames, rows and columns of a stream: pictures have 3 or 4 channels
CUSTOM = 2.2  # log-odds (9 to 1) that rows and bits lie as the format has them


@dataclass(frozen=True)
class SpikeFormat:
    """How a file holds spikes, and the chance that it does so."""

    frames: int
    height: int
    width: int
    flip: bool  # rows from the bottom up, as the format of .dat files has it
    low_bit_first: bool  # the lowest bit of a byte is its leftmost pixel, as the format has it
    confidence: float
    time_last: bool = False  # an array [h,w,T]

    def __str__(self) -> str:
        rows, bit = "bottom" if self.flip else "top", "lowest" if self.low_bit_first else "highest"
        order = ", array [h,w,T]" if self.time_last else ""
        return f"{self.frames} frames of {self.height}x{self.width}, rows from the {rows}, {bit} bit first{order}"


def guess(
    path: str | Path, *, picture: np.ndarray | None = None, geometry: tuple[int, int] | None = None
) -> list[SpikeFormat]:
    """Find how a spike file is to be read: the likeliest first, confidences adding up to 1.

    path: .dat, or .npz and .npy with an array [T,h,w]. picture: [H,W,3] uint8 BGR of the same scene; it tells which way
    is up, where a file alone gives only the custom of the format and light that falls from above. geometry: (height,
    width) of the spikes in a .dat file, if it is known.
    Raises: InputError if no geometry fits the size, or there is no array of spikes.
    """
    path = Path(path)
    found, is_array = [], _is_array(path)
    formats = _array_formats(path, picture) if is_array else _file_formats(path, picture, geometry)
    for spike_format, average in formats:
        torn = 3 * np.log(max(1 - _smoothness(average), 1e-6))
        if not is_array:
            torn += 8 * np.log(_seam(average))
        for flip in (False, True):
            custom = CUSTOM * (spike_format.low_bit_first + (flip != is_array))
            odds = np.exp(custom + _uprightness(average[::-1] if flip else average, picture) - torn)
            found.append(replace(spike_format, flip=flip, confidence=float(odds)))
    total = sum(spike_format.confidence for spike_format in found)
    found = [replace(spike_format, confidence=spike_format.confidence / total) for spike_format in found]
    return sorted(found, key=lambda spike_format: -spike_format.confidence)


def read(path: str | Path, spike_format: SpikeFormat, *, first: int = 0, stop: int | None = None) -> np.ndarray:
    """Read frames first..stop-1 of a spike file so: [T,h,w] uint8 of 0 and 1, rows from the top.

    Of a .dat and .npy no other frame is touched, however long the recording; an .npz is read as a whole.
    """
    path, frames = Path(path), slice(first, stop)
    if _is_array(path):
        array = _array(path)
        spikes = _binary(path, (array.transpose(2, 0, 1) if spike_format.time_last else array)[frames])
    else:
        order = "little" if spike_format.low_bit_first else "big"
        packed = map_bytes(path).reshape(spike_format.frames, -1)[frames]
        spikes = np.unpackbits(packed, axis=1, bitorder=order).reshape(-1, spike_format.height, spike_format.width)
    return spikes[:, ::-1] if spike_format.flip else spikes


def middle(path: str | Path, spike_format: SpikeFormat) -> np.ndarray:
    """Return the TFP [h,w] of the frames in the middle of a file."""
    frames = _middle(spike_format.frames)
    return read(path, spike_format, first=frames.start, stop=frames.stop).mean(0)


def _file_formats(
    path: Path, picture: np.ndarray | None, geometry: tuple[int, int] | None
) -> Iterator[tuple[SpikeFormat, np.ndarray]]:
    size = file_size(path)
    fit = [
        (height, width)
        for height, width in dict.fromkeys([geometry] if geometry else _shapes(size, picture))
        if height * width % 8 == 0 and 8 * size >= 16 * height * width and 8 * size % (height * width) == 0
    ]
    if not fit:
        expected = "x".join(map(str, geometry)) if geometry else "a known geometry; name --geometry HEIGHT WIDTH"
        raise InputError(f"{path}: {size} bytes are not 16 or more whole frames of {expected}")
    data, totals = map_bytes(path), {}
    for height, width in fit:
        frames = 8 * size // (height * width)
        packed = data.reshape(frames, -1)[_middle(frames)]
        if frames not in totals:
            totals[frames] = np.zeros(height * width, np.uint32)
            for frame in packed:
                totals[frames] += np.unpackbits(frame, bitorder="little")
        for low_bit_first in (True, False):
            total = totals[frames] if low_bit_first else totals[frames].reshape(-1, 8)[:, ::-1]
            spike_format = SpikeFormat(frames, height, width, flip=False, low_bit_first=low_bit_first, confidence=0)
            yield spike_format, total.reshape(height, width) / len(packed)


def _shapes(size: int, picture: np.ndarray | None) -> list[tuple[int, int]]:
    """List the shapes that may be: known ones, those of the picture, any that makes the 137 frames of a sample."""
    shapes = [*KNOWN, *SQUARES]
    if picture is not None:
        shapes += [(picture.shape[0] // 4, picture.shape[1] // 4), picture.shape[:2]]
    pixels, rest = divmod(8 * size, Exposure().total)
    if rest == 0:
        widths = (width for width in range(16, 2049, 4) if pixels % width == 0)
        shapes += [(pixels // width, width) for width in widths if 0.4 < pixels / width**2 < 2.5]
    return shapes


def _array_formats(path: Path, picture: np.ndarray | None) -> Iterator[tuple[SpikeFormat, np.ndarray]]:
    array = _array(path)
    time_last = _is_time_last(path, array, picture)
    spikes = array.transpose(2, 0, 1) if time_last else array
    average = _binary(path, spikes[_middle(len(spikes))]).mean(0)
    yield SpikeFormat(*spikes.shape, flip=False, low_bit_first=True, confidence=0, time_last=time_last), average


def _is_time_last(path: Path, array: np.ndarray, picture: np.ndarray | None) -> bool:
    """Tell whether an array is [h,w,T] instead of [T,h,w], by the size of its picture or the length of a sample.

    Raises: InputError if time is between height and width, or if only as [h,w,T] it shows a smooth picture.
    """
    first, last, others = array.shape[1:], array.shape[:2], array.shape[::2]
    between = f"{path}: its array {list(array.shape)} has time as its second axis; [T,h,w] is accepted: transpose it"
    if picture is not None:
        sizes = {(round_(picture.shape[0] / 4), round_(picture.shape[1] / 4)) for round_ in (math.floor, math.ceil)}
        fits_first, fits_last, fits_others = (size in sizes or size[::-1] in sizes for size in (first, last, others))
        if fits_others and not fits_first and not fits_last:
            raise InputError(between)
        if fits_first != fits_last:
            return fits_last
    total = Exposure().total
    if array.shape[1] == total and total not in others:
        raise InputError(between)
    if (array.shape[0] == total) != (array.shape[2] == total):
        return array.shape[2] == total
    as_first = _smoothness(_binary(path, array[_middle(len(array))]).mean(0))
    as_last = _smoothness(_binary(path, array[..., _middle(array.shape[2])]).mean(2))
    if as_last > as_first + UNSMOOTH:
        raise InputError(f"{path}: its array {list(array.shape)} looks like [h,w,T]; [T,h,w] is accepted: transpose it")
    return False


def _is_array(path: Path) -> bool:
    return has_suffix(path, ARRAYS)


def _array(path: Path) -> np.ndarray:
    """Return the only array of a file that can be a stream of spikes.

    Raises: InputError listing the arrays if there is none or several.
    """
    file_size(path)
    arrays = read_named_arrays(path)
    found = {name: array for name, array in arrays.items() if _may_be_spikes(array)}
    if len(found) == 1:
        return next(iter(found.values()))
    held = ", ".join(f"{name} {list(array.shape)} {array.dtype}" for name, array in arrays.items()) or "nothing"
    wanted = "an array [T,h,w] of 0 and 1, uint8 or bool"
    if not found:
        raise InputError(f"{path}: holds no array of spikes, {wanted}; it holds {held}")
    raise InputError(f"{path}: several arrays may be the spikes: {held}; save one file with {wanted} alone")


def _may_be_spikes(array: np.ndarray) -> bool:
    """Tell whether an array has the type and shape of spikes, and not those of a picture or a stack of pictures."""
    return array.ndim == 3 and array.dtype in (np.uint8, bool) and min(array.shape) >= SHORTEST


def _binary(path: Path, spikes: np.ndarray) -> np.ndarray:
    if spikes.max(initial=0) > 1:
        raise InputError(f"{path}: its array [T,h,w] holds {spikes.max()}; spikes are 0 and 1")
    return spikes.astype(np.uint8)


def _middle(frames: int) -> slice:
    return slice(max(0, (frames - FRAMES) // 2), (frames + FRAMES) // 2)


def _smoothness(average: np.ndarray) -> float:
    """Return how alike neighbours are, at most 1; what is seen twice, side by side or above itself, counts off."""
    across, down = correlation(average[:, 1:], average[:, :-1]), correlation(average[1:], average[:-1])
    height, width = average.shape
    twice = max(
        correlation(average[: height // 2], average[height - height // 2 :]),
        correlation(average[:, : width // 2], average[:, width - width // 2 :]),
    )
    return min(across, down) - max(0, twice - 0.5)


def _seam(average: np.ndarray) -> float:
    """Return how much more neighbours differ from byte to byte than within one, at least 1: in reversed bytes much."""
    step = np.diff(average, axis=1) ** 2
    edge = (np.arange(average.size).reshape(average.shape) % 8 == 7)[:, :-1]
    return max(1.0, float(step[edge].mean() / max(step[~edge].mean(), 1e-12)))


def _uprightness(average: np.ndarray, picture: np.ndarray | None) -> float:
    """Return log-odds that this way is up: likeness to the picture, else whether it is brighter above."""
    if picture is not None:
        return 20 * align(average, picture)[0]
    height = np.linspace(1, -1, average.shape[0])[:, None]
    return correlation(average, np.broadcast_to(height, average.shape))
