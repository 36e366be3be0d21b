"""Samples and batches: a spike stream and, where a stage asks for them, its blurry picture and the sharp truth."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from codes.errors import InputError
from codes.images import check_image, image_size, read_image
from codes.sdm import unpack
from codes.spikes import SEQUENCE_STEP, UPSCALE, Exposure, frames_in, read_packed

SPIKE_SIZES = {"GOPRO": (180, 320), "real": (250, 400)}  # where no picture tells
PICTURE_SUFFIXES = {"GOPRO": (".png",), "real": (".jpg", ".png")}
SMALL = 20  # samples a split with `small`


@dataclass
class Batch:
    """B samples; pictures are BGR in [0,1], and None where the stage did not ask for them."""

    names: list[str]
    spikes: Tensor  # [B,T,h,w] 0/1
    blur: Tensor | None = None  # [B,3,H,W]
    sharp: Tensor | None = None  # [B,3,H,W], the middle of the exposure
    sequence: Tensor | None = None  # [B,7,3,H,W], evenly through the exposure; None too where the data have none
    ratios: Tensor | None = None  # [B,N,1,H,W], what the teacher said


@dataclass
class Packed:
    """A batch as it travels: bits packed, pictures uint8 [...,H,W,3]."""

    names: list[str]
    width: int  # of the spikes
    parts: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def collate(samples: list[dict]) -> "Packed":
        parts = set.intersection(*(set(sample) for sample in samples)) - {"name", "width"}
        stacked = {part: torch.from_numpy(np.stack([sample[part] for sample in samples])) for part in parts}
        return Packed([sample["name"] for sample in samples], samples[0]["width"], stacked)

    def pin_memory(self) -> "Packed":
        return Packed(self.names, self.width, {part: tensor.pin_memory() for part, tensor in self.parts.items()})

    def to(self, device: torch.device) -> Batch:
        """Move to the device and unpack there."""
        parts = {part: tensor.to(device, non_blocking=True) for part, tensor in self.parts.items()}
        pictures = {
            part: (parts[part].movedim(-1, -3).float() / 255).contiguous()
            for part in ("blur", "sharp", "sequence")
            if part in parts
        }
        if "ratios" in parts:
            pictures["ratios"] = parts["ratios"].float().unsqueeze(2)
        return Batch(self.names, unpack(parts["spikes"], self.width), **pictures)


class SpikeDataset(Dataset):
    """One split of a data set in the published layout: SPLIT/{spike_data,blur_data,sharp_data}/SEQUENCE/NAME.*

    `parts` are read and checked ("spikes" always, "blur", "sharp", "ratios", and "sequence", the seven pictures
    sharp_sequence/SEQUENCE/NAME/{020,036,...,116}.png, of the samples that have it), nothing else is opened. `crop` is
    (height, width) in picture pixels; its place depends on (seed, epoch, index) alone. Sizes are those of the pictures,
    unless `size` (height, width in picture pixels) says otherwise; without pictures those of `data_type`.
    Raises: InputError naming the file for a missing partner, a truncated picture, a stream of another length or size.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        *,
        parts: tuple[str, ...] = ("spikes", "blur", "sharp"),
        data_type: str = "GOPRO",
        crop: tuple[int, int] | None = None,
        size: tuple[int, int] | None = None,
        spike_full: bool = False,
        small: bool = False,
        seed: int = 0,
        ratio_folder: str | Path | None = None,
        exposure: Exposure = Exposure(),  # noqa: B008
    ):
        root = Path(folder)
        self.root = root / split if (root / split).is_dir() or data_type == "GOPRO" else root
        self.parts, self.crop, self.seed, self.exposure = parts, crop, seed, exposure
        self.scale = 1 if spike_full else UPSCALE
        self.suffixes = PICTURE_SUFFIXES[data_type]
        self.ratio_folder = Path(ratio_folder) / split if ratio_folder else None
        self.spike_folder = self.root / ("spike_full" if spike_full else "spike_data")
        self.names = sorted(
            path.relative_to(self.spike_folder).with_suffix("").as_posix() for path in self.spike_folder.glob("*/*.dat")
        )[: SMALL if small else None]
        if not self.names:
            raise InputError(
                f"{self.spike_folder}: no spike files; expected SEQUENCE/NAME.dat in it "
                "(scripts/make_demo.py and scripts/make_gopro.py make such a folder)"
            )
        self.sizes = [size or self._size(name, data_type) for name in self.names]
        for name, (height, width) in zip(self.names, self.sizes, strict=True):
            self._check(name, height, width)

    def __len__(self) -> int:
        return len(self.names)

    def shape(self, index: int) -> tuple[int, int]:
        """Return (height, width) of what is read of a sample, in picture pixels: of its crop, or of all of it."""
        _, _, height, width = self._place(0, index)
        return height * self.scale, width * self.scale

    def _size(self, name: str, data_type: str) -> tuple[int, int]:
        """Return the picture size of a sample, from the header of its blurry picture where there is one."""
        picture = self._picture("blur", name, must_exist=False)
        if picture:
            return image_size(picture)
        height, width = SPIKE_SIZES[data_type]
        return height * UPSCALE, width * UPSCALE

    def _picture(self, part: str, name: str, must_exist: bool = True) -> Path | None:
        folder = self.root / f"{part}_data"
        for suffix in self.suffixes:
            if (folder / (name + suffix)).is_file():
                return folder / (name + suffix)
        if must_exist:
            accepted = " or ".join(self.suffixes)
            raise InputError(f"{folder / name}{self.suffixes[0]}: missing; {self._spikes(name)} needs it ({accepted})")
        return None

    def _sequence(self, name: str) -> list[Path]:
        """List the seven pictures of a sample, none if it has no sequence."""
        folder = self.root / "sharp_sequence" / name
        return [folder / f"{t:03d}.png" for t in self.exposure.centers(SEQUENCE_STEP)] if folder.is_dir() else []

    def spike_path(self, index: int) -> Path:
        """Return the spike file of a sample."""
        return self._spikes(self.names[index])

    def _spikes(self, name: str) -> Path:
        return self.spike_folder / f"{name}.dat"

    def _spike_size(self, index: int) -> tuple[int, int]:
        height, width = self.sizes[index]
        return height // self.scale, width // self.scale

    def _check(self, name: str, height: int, width: int) -> None:
        path = self._spikes(name)
        if height % self.scale or width % self.scale:
            raise InputError(f"{path}: its picture is {height}x{width}, both must be multiples of {self.scale}")
        frames = frames_in(path, height // self.scale, width // self.scale)
        if frames != self.exposure.total:
            raise InputError(
                f"{path}: holds {frames} frames of {height // self.scale}x{width // self.scale} (1/{self.scale} of the "
                f"picture), expected {self.exposure.total}: cut short, or of another picture"
            )
        pictures = [self._picture(part, name) for part in {"blur", "sharp"} & set(self.parts)]
        for picture in pictures + (self._sequence(name) if "sequence" in self.parts else []):
            found = check_image(picture)
            if found != (height, width):
                raise InputError(f"{picture}: is {found[0]}x{found[1]}, expected {height}x{width} as its spikes")

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        """Read a sample; the key is its index, or (epoch, index) to place the crop."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        name = self.names[index]
        top, left, height, width = self._place(epoch, index)
        h, w = self._spike_size(index)
        # Bits are cut in whole bytes: `_place` puts crops on multiples of 8 columns.
        packed = read_packed(self._spikes(name), h, w)
        rows = slice(top, top + height)
        sample = {
            "name": name,
            "width": width,
            "spikes": np.ascontiguousarray(packed[:, rows, left // 8 : -(-(left + width) // 8)]),
        }
        scale = self.scale
        rows, columns = slice(top * scale, (top + height) * scale), slice(left * scale, (left + width) * scale)

        def cut(path: Path) -> np.ndarray:
            image = read_image(path)
            if image.shape[:2] != self.sizes[index]:
                raise InputError(f"{path}: its size changed since the start")
            return np.ascontiguousarray(image[rows, columns])

        for part in {"blur", "sharp"} & set(self.parts):
            sample[part] = cut(self._picture(part, name))
        if "sequence" in self.parts and (pictures := self._sequence(name)):
            sample["sequence"] = np.stack([cut(path) for path in pictures])
        if "ratios" in self.parts:
            path = self.ratio_folder / f"{name}.npy"
            if not path.is_file():
                raise InputError(f"{path}: the teacher's label of this sample is missing; start again to make it")
            ratios = np.load(path, mmap_mode="r")
            sample["ratios"] = np.ascontiguousarray(ratios[:, rows, columns])
        return sample

    def _place(self, epoch: int, index: int) -> tuple[int, int, int, int]:
        """Choose the crop of a sample: (top, left, height, width) in spike pixels."""
        h, w = self._spike_size(index)
        if self.crop is None:
            return 0, 0, h, w
        height, width = min(h, self.crop[0] // self.scale), min(w, self.crop[1] // self.scale)
        rng = np.random.default_rng((self.seed, epoch, index))
        return int(rng.integers(h - height + 1)), 8 * int(rng.integers((w - width) // 8 + 1)), height, width


class Batches(Sampler[list[tuple[int, int]]]):
    """The order of training: for every batch of the whole run the (epoch, index) of its samples.

    A pure function of (seed, epoch), so that a run can go on anywhere: the first `start` batches are left out. A batch
    is shared by `world` processes. The last batch of an epoch is filled from its beginning.
    """

    def __init__(self, samples: int, size: int, *, epochs: int, seed: int, rank: int = 0, world: int = 1):
        if size < 1 or size % world:
            raise InputError(f"--bs {size}: a positive multiple of the {world} processes that share it is needed")
        self.samples, self.size, self.epochs, self.seed = samples, size, epochs, seed
        self.rank, self.world, self.start = rank, world, 0
        self.per_epoch = -(-samples // size)
        self.total = epochs * self.per_epoch

    def __len__(self) -> int:
        return max(self.total - self.start, 0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in range(self.start // self.per_epoch, self.epochs):
            order = np.random.default_rng((self.seed, epoch)).permutation(self.samples)
            order = np.resize(order, self.per_epoch * self.size).reshape(self.per_epoch, self.size)
            skipped = max(self.start - epoch * self.per_epoch, 0)
            for batch in order[skipped:]:
                yield [(epoch, int(index)) for index in batch[self.rank :: self.world]]
