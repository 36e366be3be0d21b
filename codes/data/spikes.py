"""Spike streams on disk, and where the exposure lies in them.

A `.dat` file holds the frames one after the other, 8 pixels a byte, lowest bit first, rows from the bottom up.
In memory a packed stream is `[T, h, ceil(w / 8)]` uint8 with rows from the top; `codes.data.batches.unpack`
turns it into 0/1.
Source: the SpikeCV format of the spike camera, as S-SDM (arXiv 2403.09486) uses it.
"""

import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codes.errors import InputError
from codes.files import replacing

UPSCALE = 4  # picture pixels a spike pixel, along each side
GRAY_WEIGHTS = (0.11, 0.59, 0.30)  # of blue, green and red in what the spike camera sees
SEQUENCE_STEP = 16  # spike frames between the seven target times of the sequence protocol


@dataclass(frozen=True)
class Exposure:
    """Spike frames of one exposure, and those kept before and after it."""

    length: int = 97
    margin: int = 20

    @property
    def total(self) -> int:
        return self.length + 2 * self.margin

    @property
    def center(self) -> int:
        return self.margin + self.length // 2

    @property
    def frames(self) -> slice:
        """Spike frames of the exposure, as an index into the stream."""
        return slice(self.margin, self.margin + self.length)

    def centers(self, step: int) -> list[int]:
        """Return the target times of the exposure, `step` spike frames apart, from its first frame on."""
        return list(range(self.margin, self.margin + self.length, step))

    def evenly(self, step: int) -> list[int]:
        """Return times from the first frame to the last, about `step` spike frames apart, at least three."""
        parts = max((self.length - 1) // step, 2)
        return [self.margin + round(part * (self.length - 1) / parts) for part in range(parts + 1)]


def file_size(path: str | Path) -> int:
    """Return the bytes of a spike file.

    Raises: InputError if there is no such file, or something else is there.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such spike file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: spike file cannot be read ({error})") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: is {'a folder' if stat.S_ISDIR(status.st_mode) else 'no file'}, not a spike file")
    return status.st_size


def map_bytes(path: str | Path) -> np.ndarray:
    """Map a spike file that is not empty into memory, as uint8.

    Raises: InputError if it may not be read.
    """
    try:
        with open(path, "rb") as file:  # as np.memmap does, a fifth of the time of a crop faster
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: spike file cannot be read ({getattr(error, 'strerror', '') or error})") from None


def frames_in(path: str | Path, height: int, width: int) -> int:
    """Return how many frames of height x width the file holds, without reading it.

    Raises: InputError naming file, size and geometry if it is not a whole number of frames.
    """
    if height < 1 or width < 1 or height * width % 8:
        raise InputError(f"{path}: a spike frame of {height}x{width} is not a whole number of bytes (8 pixels each)")
    size, frame = file_size(path), height * width // 8
    if size == 0 or size % frame:
        raise InputError(
            f"{path}: {size} bytes are not whole frames of {height}x{width} ({frame} bytes each, "
            f"{size / frame:.2f} of them): the file is cut short or its geometry is another one; copy it again, or see "
            "scripts/inspect_spikes.py"
        )
    return size // frame


def read_packed(path: str | Path, height: int, width: int, *, first: int = 0, frames: int | None = None) -> np.ndarray:
    """Map a spike file into memory without unpacking it.

    Returns [T,h,ceil(w/8)] uint8, rows from the top, lowest bit leftmost, T = `frames` from `first` on (default: all).
    For widths that are a multiple of 8 this is a view of the mapped file: only what is touched is read.
    Raises: InputError if the file holds no whole frames or not as many as asked for.
    """
    held = frames_in(path, height, width)
    frames = held - first if frames is None else frames
    if first < 0 or frames < 1 or first + frames > held:
        raise InputError(
            f"{path}: frames {first}..{first + frames - 1} were asked for, the file holds {held} of {height}x{width}"
        )
    data = map_bytes(path).reshape(held, -1)[first : first + frames]
    if width % 8 == 0:
        return data.reshape(frames, height, width // 8)[:, ::-1]
    bits = np.unpackbits(data, axis=1, bitorder="little").reshape(frames, height, width)
    return np.packbits(bits[:, ::-1], axis=2, bitorder="little")


def read_spikes(path: str | Path, height: int, width: int) -> np.ndarray:
    """Read a whole spike file as 0/1.

    Returns [T,h,w] uint8, rows from the top.
    Raises: InputError (a ValueError) naming file, size and geometry if the file holds no whole frames.
    """
    packed = read_packed(path, height, width)
    return np.unpackbits(packed, axis=2, count=width, bitorder="little")


def pack(spikes: np.ndarray) -> np.ndarray:
    """Pack spikes [...,h,w] of 0 and 1 as a file holds them: [...,h*w/8] uint8."""
    return np.packbits(spikes[..., ::-1, :].reshape(*spikes.shape[:-2], -1), axis=-1, bitorder="little")


def write_spikes(path: str | Path, spikes: np.ndarray) -> None:
    """Write spikes [T,h,w] of 0 and 1 as a `.dat` file, whole or not at all.

    Raises: InputError if the array is not three-dimensional or a frame is not a whole number of bytes.
    """
    spikes = np.asarray(spikes)
    if spikes.ndim != 3 or spikes.shape[1] * spikes.shape[2] % 8:
        raise InputError(f"{path}: spikes must be [T,h,w] with h*w a multiple of 8, found {list(spikes.shape)}")
    with replacing(path) as file:
        file.write(pack(spikes).tobytes())
