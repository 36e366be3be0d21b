"""A simulated recording of a whole sequence: a film of blurry pictures, one continuous spike stream, and the truth.

A picture of the film is the mean of the 8-bit frames of its exposure. The charge of the spike camera is carried through
the whole recording, gaps between exposures included.
"""

import json
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codes.data.spikes import UPSCALE
from codes.errors import InputError
from codes.files import replacing
from codes.simulation.camera import sense
from codes.simulation.footage import Footage
from codes.simulation.frames import Interpolation, cropped
from codes.simulation.gopro import EXPOSURE, PNG_BYTES_A_PIXEL, write_or_link
from codes.simulation.stream import Stream

STREAM, FACTS = "spikes.dat", "film.json"
DUTIES = (20, 100)  # per cent of the time that is exposed
LONGEST = 4096  # spike frames of an exposure


@dataclass(frozen=True)
class Film:
    """The spike frames of a recording, those of each exposure, and those at which the true picture is kept."""

    frames: int
    exposure: int
    period: int  # from the first spike frame of an exposure to that of the next
    step: int  # from one true picture to the next

    @property
    def begin(self) -> int:
        """The first frame that is needed."""
        return 0

    @property
    def end(self) -> int:
        """The last frame that is needed."""
        return self.frames - 1

    def starts(self) -> list[int]:
        """List the first spike frame of each exposure; none lies within the margins of the recording."""
        return list(range(EXPOSURE.margin, self.frames - EXPOSURE.margin - self.exposure + 1, self.period))

    def times(self) -> list[int]:
        """List the spike frames of the true pictures."""
        return list(range(0, self.frames, self.step))

    def blurry(self) -> dict[str, int]:
        """List the pictures of the film: path below its folder -> last spike frame of the exposure."""
        return {f"blur_data/{number:06d}.png": start + self.exposure - 1 for number, start in enumerate(self.starts())}

    def sharp(self) -> dict[str, int]:
        """List the true pictures, which are named by their time: path below the folder of the film -> spike frame."""
        return {f"sharp_data/{time:06d}.png": time for time in self.times()}

    def files(self) -> list[str]:
        """List all files of a film, as paths below its folder."""
        return [*self.blurry(), *self.sharp(), STREAM, FACTS]


def plan(raw_frames: int, *, factor: int, interpolated: bool, duty: int, exposure: int, step: int) -> Film:
    """Lay the film over a sequence of `raw_frames` frames; `interpolated` if the frames between are among them.

    duty: per cent of the time that is exposed.
    Raises: InputError if the sequence is too short for one exposure.
    """
    total = raw_frames if interpolated else (raw_frames - 1) * factor + 1
    if total < exposure + 2 * EXPOSURE.margin:
        raise InputError(
            f"{raw_frames} frames make {max(total, 0)} spike frames; an exposure of {exposure} needs "
            f"{exposure + 2 * EXPOSURE.margin}"
        )
    return Film(total, exposure, round(100 * exposure / duty), step)


def folder_of(root: Path, footage: Footage) -> Path:
    """Return the folder of the film of a sequence."""
    return root / footage.split / footage.name


def bytes_of_film(film: Film, footage: Footage, *, thresholds: int) -> int:
    """Estimate the bytes of a film; pictures are stored once for all thresholds."""
    height, width = cropped(*footage.size())
    pictures = len(film.blurry()) + len(film.sharp())
    spikes = thresholds * film.frames * height * width // UPSCALE**2 // 8
    return round(pictures * height * width * PNG_BYTES_A_PIXEL + spikes)


def record(
    footage: Footage,
    films: list[Film],
    advance: Callable[[int], None],
    *,
    folders: dict[float, Path],
    interpolation: Interpolation,
    noise: tuple[float, float] | None = (140.0, 50.0),
    seed: int = 0,
    spike_rate: float = 20_000,
) -> dict[int, str]:
    """Write what is missing of the film of one sequence, `film.json` last, by the arguments of `gopro.convert`.

    films: the one film of the sequence. Memory does not depend on its length: frames are read one at a time, and spikes
    are written as they fire. Returns what is left out, which is nothing.
    Raises: InputError naming a damaged frame or a scene cut.
    """
    (film,) = films
    places = {threshold: folder_of(folder, footage) for threshold, folder in folders.items()}
    missing = {name for name in film.files() for place in places.values() if not (place / name).exists()}
    blurry = {last: name for name, last in film.blurry().items() if name in missing}
    sharp = {time: name for name, time in film.sharp().items() if name in missing}
    height, width = cropped(*footage.size())
    total = np.zeros((height, width, 3), np.uint32)
    with ExitStack() as stack:
        streams = [
            (
                stack.enter_context(replacing(place / STREAM)),
                _stream(footage, height, width, threshold=threshold, noise=noise, seed=seed),
            )
            for threshold, place in places.items()
            if not (place / STREAM).exists()
        ]
        passing = interpolation.frames(footage, film.begin, film.end)
        for index, frame, cut in passing if missing - {FACTS} else ():
            if cut:
                number = index // interpolation.step
                raise InputError(f"{footage.path}: a scene cut before raw frame {number}; make a sequence of each part")
            into_exposure = (index - EXPOSURE.margin) % film.period
            if into_exposure == 0:
                total[:] = 0
            if into_exposure < film.exposure:
                np.add(total, frame, out=total)
            if index in blurry:
                mean = np.rint(total / film.exposure).astype(np.uint8)
                write_or_link([place / blurry[index] for place in places.values()], mean)
            if index in sharp:
                write_or_link([place / sharp[index] for place in places.values()], frame)
            intensity = sense(frame) if streams else None
            for file, stream in streams:
                file.write(stream.step(intensity))
            advance(1)
    for threshold, place in places.items():
        facts = _facts(film, footage, threshold, factor=interpolation.step, rate=spike_rate)
        with replacing(place / FACTS) as file:
            file.write(facts.encode())
    return {}


def _stream(
    footage: Footage, height: int, width: int, *, threshold: float, noise: tuple[float, float] | None, seed: int
) -> Stream:
    """Begin the stream of a recording; phases and noise are the same for each threshold."""
    rng = np.random.default_rng((seed, zlib.crc32(footage.name.encode())))
    return Stream(
        (EXPOSURE.total, height // UPSCALE, width // UPSCALE), full=False, threshold=threshold, noise=noise, rng=rng
    )


def _facts(film: Film, footage: Footage, threshold: float, *, factor: int, rate: float) -> str:
    """Describe a film for its reader: JSON, one line for each fact. Times are in spike frames from the first one on."""
    height, width = cropped(*footage.size())
    facts = {
        "sequence": footage.name,
        "size": [height, width],
        "spike_size": [height // UPSCALE, width // UPSCALE],
        "threshold": threshold,
        "spike_frames": film.frames,
        "spike_frames_a_second": rate,
        "exposure": film.exposure,
        "period": film.period,
        "exposure_starts": film.starts(),
        "truth_times": film.times(),
        "recorded_every": factor,  # the true frames at multiples of it were recorded, the others are interpolated
    }
    lines = [f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in facts.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"
