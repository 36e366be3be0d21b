"""Which sequences of raw footage are still to be converted, and the record of each that is finished."""

import glob
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from codes.data import manifest
from codes.data.fingerprint import changes, fingerprint
from codes.errors import InputError
from codes.simulation.camera import Window
from codes.simulation.film import Film, bytes_of_film, folder_of, plan, record
from codes.simulation.footage import Footage
from codes.simulation.frames import Interpolation, cropped
from codes.simulation.gopro import bytes_needed, convert, files, samples

Work = list[Window] | list[Film]  # of one sequence: its samples, or its film


@dataclass(frozen=True)
class FilmTiming:
    """The exposures of a film; times are in spike frames."""

    duty: int  # per cent of the time that is exposed
    exposure: int
    truth_step: int  # from one true picture to the next
    spike_rate: float  # spike frames a second


@dataclass(frozen=True)
class Conversion:
    """How a data set is made of raw footage: of samples, or with `film` of one recording of each sequence."""

    output: Path
    thresholds: tuple[float, ...]
    interpolation: Interpolation
    noise: tuple[float, float] | None  # mean and standard deviation of the gaps between noise spikes
    seed: int
    spike_full: bool
    sequence: bool
    film: FilmTiming | None

    def folders(self) -> dict[float, Path]:
        """Return the folder of the set of each threshold."""
        if len(self.thresholds) == 1:
            return {self.thresholds[0]: self.output}
        return {threshold: self.output / f"threshold_{threshold:g}" for threshold in self.thresholds}

    def missing(self, footage: Footage) -> Work:
        """List the samples of which a file is missing, but those that a scene cut leaves out; or the film.

        Raises: InputError if the footage has changed since samples were made from it, or cannot be read.
        """
        before = manifest.read(self._record_path(footage))
        left_out, content = before.get("left_out", {}), fingerprint(footage.files())
        if changed := changes(before.get("content", content), content):
            raise InputError(
                f"{footage.path}: changed since samples of {self.output} were made from it ({changed}); choose another "
                "--output, or remove these samples and their record in manifest/"
            )
        if self.film:
            film = self._plan(footage, self.film)
            places = [folder_of(folder, footage) for folder in self.folders().values()]
            return [] if all((place / name).exists() for place in places for name in film.files()) else [film]
        return [
            window
            for window in self.windows(footage)
            if f"{window.name:06d}" not in left_out
            and not all(
                (folder / path).exists()
                for folder in self.folders().values()
                for path in files(window, footage, spike_full=self.spike_full, sequence=self.sequence)
            )
        ]

    def windows(self, footage: Footage) -> list[Window]:
        """List all samples of a sequence."""
        interpolation = self.interpolation
        return samples(footage.count(), factor=interpolation.factor, interpolated=interpolation.method == "none")

    def _plan(self, footage: Footage, timing: FilmTiming) -> Film:
        return plan(
            footage.count(),
            factor=self.interpolation.factor,
            interpolated=self.interpolation.method == "none",
            duty=timing.duty,
            exposure=timing.exposure,
            step=timing.truth_step,
        )

    def bytes_of(self, part: Window | Film, footage: Footage) -> int:
        """Estimate the bytes of one sample or film."""
        count = len(self.thresholds)
        if self.film:
            return bytes_of_film(part, footage, thresholds=count)
        return bytes_needed(part, footage, thresholds=count, spike_full=self.spike_full, sequence=self.sequence)

    def make(self, footage: Footage, work: Work, advance: Callable[[int], None]) -> dict[int, str]:
        """Write what is missing of the samples or the film, as `convert` and `record` do; return what is left out."""
        if self.film:
            write = partial(record, spike_rate=self.film.spike_rate)
        else:
            write = partial(convert, spike_full=self.spike_full, sequence=self.sequence)
        return write(
            footage,
            work,
            advance,
            folders=self.folders(),
            interpolation=self.interpolation,
            noise=self.noise,
            seed=self.seed,
        )

    def finish(self, footage: Footage, left_out: dict[int, str]) -> None:
        """Write the record of a finished sequence, and remove what a killed process may have left half written."""
        below = glob.escape(footage.name)
        for folder in self.folders().values():
            for partial_file in folder.glob(f"{footage.split}/{below if self.film else f'*/{below}'}/**/.*.partial"):
                partial_file.unlink()
        path = self._record_path(footage)
        height, width = footage.size()
        made = {
            "source": str(footage.path.resolve()),
            "content": fingerprint(footage.files()),
            "raw_frames": footage.count(),
            "raw_size": [height, width],
            "size": cropped(height, width),
        }
        if not self.film:
            left = manifest.read(path).get("left_out", {}) | {f"{name:06d}": why for name, why in left_out.items()}
            kept = {f"{window.name:06d}": asdict(window) for window in self.windows(footage)}
            made["samples"] = {name: window for name, window in kept.items() if name not in left}
            made["left_out"] = dict(sorted(left.items()))
        manifest.write(path, made)

    def _record_path(self, footage: Footage) -> Path:
        return self.output / "manifest" / footage.split / f"{footage.name}.json"
