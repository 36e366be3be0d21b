"""A film and the spike stream that was recorded with it: its exposures are read and restored one after the other."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codes.data.images import image_size, read_image, write_image
from codes.data.listing import PICTURES
from codes.data.spikes import Exposure
from codes.errors import InputError
from codes.restoration.film import REACH, schedule
from codes.restoration.film_measurements import Measured, facts_of, measure
from codes.restoration.format_detection import tensors
from codes.restoration.methods import Restore
from codes.restoration.preparation import Recording
from codes.restoration.view import covered
from codes.simulation.footage import Footage

# (picture, exposure, times, reach, is_first) -> the pair, read and checked
Prepare = Callable[[Path, tuple[int, int], list[int], int, bool], Recording]


class FilmRecording:
    """The exposures of a film. The functions `restore` and `read` are those that `film.film` needs."""

    def __init__(
        self,
        pictures: "Pictures",
        *,
        prepare: Prepare,
        restore: Restore,
        clock: tuple[float, float, float],
        total: int,
        step: float,
        window: int,
        reach: int,
        device: torch.device,
    ):
        """Lay the film over a stream of `total` spike frames, see `film.schedule`.

        window: spike frames that the method needs around a target time; reach: beyond the exposure that it uses.
        """
        self.pictures, self._prepare, self._restore, self.device = pictures, prepare, restore, device
        self.clock, self.total, self.reach = clock, total, reach
        self.plan, self.first = schedule(
            clock, pictures=pictures.footage.count(), total=total, step=step, margin=window // 2 + 1
        )
        self.gap = round(clock[1]) - self.plan.length
        # Of the first picture, for all of them: an estimate of each would make the film flicker.
        first = self.prepared(0, [self.plan.starts[0]], is_first=True)
        self.response, self.view = first.response, first.placement.view
        # First spike frame, and spikes, of the exposure before the one that is restored, and of this one.
        self.before = self.now = (0, np.empty((0, 0, 0), np.uint8))
        self.measured: dict[int, Measured] = {}  # by exposure, of those that were restored

    def picture(self, number: int) -> Path:
        """Return the file of the blurry picture of an exposure."""
        return self.pictures[self.first + number]

    def prepared(self, number: int, times: list[int], *, is_first: bool = False) -> Recording:
        """Read an exposure, and the spikes until the next one."""
        exposure = (self.plan.starts[number], self.plan.length)
        return self._prepare(self.picture(number), exposure, times, max(self.reach, self.gap + 2 * REACH), is_first)

    def restore(self, number: int, times: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Restore the frames [H,W,3] float32 of an exposure, intensity in [0,1], each when it is asked for."""
        recording = self.prepared(number, times)
        arrays = recording.load()
        self.before, self.now = self.now, (recording.start, arrays.spikes)
        self.measured[number] = measure(recording, arrays)
        margin = recording.exposure.margin
        first, stop = max(margin - self.reach, 0), margin + self.plan.length + self.reach
        blur, spikes = tensors(arrays.picture, arrays.spikes[first:stop], self.device, is_same_view=self.view is None)
        blur = self.response.undo(blur)
        restored = self._restore(
            blur,
            spikes,
            [time - recording.start - first for time in times],
            exposure=Exposure(length=self.plan.length, margin=margin - first),
            view=self.view,
        )
        height, width = arrays.picture.shape[:2]
        frames = (covered(self.view, frame.float(), blur)[0, :, :height, :width].clamp(0, 1) for frame in restored)
        return ((time, frame.permute(1, 2, 0).cpu().numpy()) for time, frame in zip(times, frames, strict=True))

    def read(self, first: int, stop: int) -> Tensor:
        """Return the spikes [T,h,w] of a gap, which were read with the exposure before it."""
        start, spikes = self.before
        return torch.from_numpy(np.ascontiguousarray(spikes[max(first - start, 0) : stop - start])).to(self.device)

    def as_picture(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame [H,W,3] of intensity as a picture uint8, by the response of the film's camera."""
        return self.response.apply(torch.from_numpy(frame)).mul(255).round().byte().numpy()

    def facts(self) -> dict[str, str]:
        """Return in words how the film lies in the stream, and what was measured of it."""
        return {
            "pictures": f"{len(self.plan.starts)} of {self.pictures.footage.count()} lie in the stream",
            "exposure": f"{self.plan.length} spike frames of every {self.plan.length + self.gap}",
        } | facts_of(self.measured.values(), total=self.total)


class Pictures:
    """The files of the pictures of a film by their number; a frame of a video is written when it is asked for."""

    def __init__(self, footage: Footage, folder: Path):
        """folder: where frames of a video are put, one at a time.

        Raises: InputError if there are no pictures, or one has another size than the first.
        """
        self.footage, self.folder = footage, folder
        self.paths = list(footage.files().values()) if footage.path.is_dir() else None
        if self.paths is not None:
            _check_sizes(footage.path, self.paths)
        self.following, self.number = iter(()), 0  # frames of the video, and how many of them were read

    def __getitem__(self, number: int) -> Path:
        if self.paths is not None:
            return self.paths[number]
        path = self.folder / f"{self.footage.path.name}, frame {number}.png"
        if path.exists():
            return path
        for old in self.folder.iterdir():
            old.unlink()
        if number < self.number or self.number == 0:  # a video is read forwards only
            self.following, self.number = self.footage.read(0, self.footage.count() - 1), 0
        for frame in self.following:
            self.number += 1
            if self.number == number + 1:
                write_image(path, frame)
                break
        return path

    def read(self, number: int) -> np.ndarray:
        """Return a picture [H,W,3] uint8."""
        return read_image(self[number])


def _check_sizes(folder: Path, paths: list[Path]) -> None:
    if not paths:
        raise InputError(f"{folder}: no pictures in it ({', '.join(PICTURES)})")
    height, width = image_size(paths[0])
    for path in paths:
        if (found := image_size(path)) != (height, width):
            raise InputError(f"{path}: a picture of {found[0]}x{found[1]} in a film of {height}x{width}")
