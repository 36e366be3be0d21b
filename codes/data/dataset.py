"""Samples and batches: a spike stream and, where a stage asks for them, its blurry picture and the sharp truth."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from codes.archives import read_arrays
from codes.data.fingerprint import combined, fingerprint
from codes.data.images import check_image, image_size, read_image
from codes.data.listing import PICTURES, STREAMS, files_in
from codes.data.spikes import SEQUENCE_STEP, UPSCALE, Exposure, frames_in, read_packed
from codes.errors import InputError

SPIKE_SIZES = {"GOPRO": (180, 320), "real": (250, 400)}  # where no picture tells
SMALL, EVERY_TENTH = slice(20), slice(None, None, 10)  # the samples of --use_small, here and in the reference
RECORDED = Exposure()  # what a file holds
Field = np.ndarray | Tensor


class SpikeDataset(Dataset):
    """One split of a data set in the published layout: SPLIT/{spike_data,blur_data,sharp_data}/SEQUENCE/NAME.*

    `fields` are read and checked ("spikes" always, "blur", "sharp", "ratios", and "sequence", the seven pictures
    sharp_sequence/SEQUENCE/NAME/{020,036,...,116}.png, of the samples that have it), nothing else is opened. `crop` is
    (height, width) in picture pixels; its place, and with `augment` which of the 8 turns and mirrorings it is seen in,
    depend on (seed, epoch, index) alone. Of the spikes the frames of `exposure` with its margins are read. Sizes are
    those of the pictures, unless `size` (height, width in picture pixels) says otherwise; without pictures those of
    `data_type`. Crops begin at multiples of 8 spike columns, where bits are cut in whole bytes, or at `any_column`. Of
    the samples in order of their names those of `keep_samples` are used. Not `checked`, nothing can be read before
    `faults` has looked at all.
    Raises: InputError naming the file for a missing partner, a truncated picture, a stream of another length or size.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        *,
        fields: tuple[str, ...] = ("spikes", "blur", "sharp"),
        data_type: str = "GOPRO",
        crop: tuple[int, int] | None = None,
        size: tuple[int, int] | None = None,
        spike_full: bool = False,
        keep_samples: slice = slice(None),
        any_column: bool = False,
        seed: int = 0,
        augment: bool = False,
        ratio_folder: str | Path | None = None,
        exposure: Exposure = Exposure(),  # noqa: B008
        checked: bool = True,
    ):
        root = Path(folder)
        self.root = root / split if (root / split).is_dir() or data_type == "GOPRO" else root
        self.fields, self.crop, self.seed, self.augment, self.exposure = fields, crop, seed, augment, exposure
        self.any_column = any_column
        self.scale = 1 if spike_full else UPSCALE
        self.ratio_folder = Path(ratio_folder) / split if ratio_folder else None
        self.spike_folder = self.root / ("spike_full" if spike_full else "spike_data")
        self.streams = files_in(self.spike_folder, STREAMS, depth=2)
        self.pictures = {field: files_in(self.root / f"{field}_data", PICTURES, depth=2) for field in ("blur", "sharp")}
        self.names = list(self.streams)[keep_samples]
        if not self.names and root.name in ("train", "test") and (root / self.spike_folder.name).is_dir():
            raise InputError(f"{root}: is a split of a data set; give the folder above it: --base_folder {root.parent}")
        if not self.names:
            refuse_real(root, data_type)
            raise InputError(
                f"{self.spike_folder}: no spike files; expected SEQUENCE/NAME.dat in it "
                "(scripts/make_demo.py and scripts/make_gopro.py make such a folder)"
            )
        self.data_type, self.size = data_type, size
        self.sizes = [self._check(name) for name in self.names] if checked else [(0, 0)] * len(self.names)
        self.cached: list[dict[str, Field]] = []  # all samples, whole, after `cache`
        self.ratios: dict[str, np.ndarray] = {}  # by name, where they are kept in memory and not in a folder

    def __len__(self) -> int:
        return len(self.names)

    def files(self) -> dict[str, Path]:
        """Return all files that are read, without the teacher's labels, by their names below the root."""
        return {path.relative_to(self.root).as_posix(): path for name in self.names for path in self._files(name)}

    def describe(self) -> str:
        """Name the split, the number of samples, and hashes: of the names and sizes of all files, and of their content.

        Records of older runs end after the first hash.
        """
        files = self.files()
        listed = "".join(f"{name} {path.stat().st_size}\n" for name, path in files.items())
        listed = hashlib.sha256(listed.encode()).hexdigest()[:16]
        content = combined(fingerprint(files))
        return f"{self.root.name}, {len(self)} samples, file list sha256 {listed}, content sha256 {content}"

    def _files(self, name: str) -> list[Path]:
        """List the files of a sample that are read, without the teacher's labels."""
        pictures = [self._picture(field, name) for field in ("blur", "sharp") if field in self.fields]
        return [self._spikes(name), *pictures, *(self._sequence(name) if "sequence" in self.fields else [])]

    def shape(self, index: int) -> tuple[int, int]:
        """Return (height, width) of what is read of a sample, in picture pixels: of its crop, or of all of it."""
        _, _, height, width = self._place(0, index)
        return height * self.scale, width * self.scale

    def _size(self, name: str) -> tuple[int, int]:
        """Return the picture size of a sample, from the header of its blurry picture where there is one."""
        if self.size:
            return self.size
        # Where there are pictures at all each sample has one: the usual size would be a wrong guess.
        must_exist = "blur" in self.fields or (self.root / "blur_data").is_dir()
        picture = self._picture("blur", name, must_exist=must_exist)
        if picture:
            return image_size(picture)
        height, width = SPIKE_SIZES[self.data_type]
        return height * UPSCALE, width * UPSCALE

    def _picture(self, field: str, name: str, must_exist: bool = True) -> Path | None:
        if must_exist and name not in self.pictures[field]:
            missing, accepted = self.root / f"{field}_data" / name, ", ".join(PICTURES)
            raise InputError(f"{missing}.png: missing; {self._spikes(name)} needs it ({accepted})")
        return self.pictures[field].get(name)

    def _sequence(self, name: str) -> list[Path]:
        """List the seven pictures of a sample, none if it has no sequence."""
        folder = self.root / "sharp_sequence" / name
        return [folder / f"{t:03d}.png" for t in RECORDED.centers(SEQUENCE_STEP)] if folder.is_dir() else []

    def spike_path(self, index: int) -> Path:
        """Return the spike file of a sample."""
        return self._spikes(self.names[index])

    def _spikes(self, name: str) -> Path:
        return self.streams[name]

    def _spike_size(self, index: int) -> tuple[int, int]:
        height, width = self.sizes[index]
        return height // self.scale, width // self.scale

    def unpaired(self) -> Iterator[str]:
        """Name the pictures that are of no sample, for want of spikes."""
        for field in ("blur", "sharp"):
            for name, picture in self.pictures[field].items():
                if name not in self.streams:
                    missing = self.spike_folder / f"{name}.dat"
                    yield f"{picture}: left out for want of {missing}; copy that too, or remove the picture"

    def faults(self) -> Iterator[str]:
        """Read every file once, whole, and yield what is wrong: at most one fault a sample, and what is of none."""
        for index, name in enumerate(tqdm(self.names, f"check {self.root.name}", leave=False)):
            try:
                self.sizes[index] = self._check(name)
                light = np.unpackbits(self._whole(index)["spikes"]).mean()
            except InputError as error:
                yield str(error)
                continue
            if light in (0, 1):
                told = "not one spike" if light == 0 else "a spike of every pixel"
                yield f"{self._spikes(name)}: {told} in any frame: no recording of light, make or copy it again"
        yield from self.unpaired()

    def _check(self, name: str) -> tuple[int, int]:
        """Return the picture size of a sample whose files are there and fit together."""
        path, (height, width) = self._spikes(name), self._size(name)
        if height % self.scale or width % self.scale:
            raise InputError(
                f"{path}: its picture is {height}x{width}, both must be multiples of {self.scale}: "
                "crop the picture, and the spikes to a quarter of it"
            )
        frames = frames_in(path, height // self.scale, width // self.scale)
        if frames != RECORDED.total:
            raise InputError(
                f"{path}: holds {frames} frames of {height // self.scale}x{width // self.scale} (1/{self.scale} of the "
                f"picture), expected {RECORDED.total}: cut short, or of another picture; copy it "
                "again, or where there are no pictures tell their size by --height and --width"
            )
        for picture in self._files(name)[1:]:
            found = check_image(picture)
            if found != (height, width):
                raise InputError(f"{picture}: is {found[0]}x{found[1]}, expected {height}x{width} as its spikes")
        return height, width

    def cache(self, device: torch.device | None = None) -> None:
        """Read all samples whole, once, into memory or onto a device; from now on crops are cut there.

        Raises: InputError saying what is needed and what there is, if they do not fit.
        """
        place = device if device and device.type == "cuda" else None
        refuse_what_does_not_fit(self.cached_bytes(), f"--cache {'device' if place else 'ram'}", place)
        for index in range(len(self)):
            whole = {field: np.array(array, order="C") for field, array in self._whole(index).items()}
            if place:
                whole = {field: torch.from_numpy(array).to(place) for field, array in whole.items()}
            self.cached.append(whole)

    def cached_bytes(self) -> int:
        """Return what `cache` takes."""
        total = 0
        for index, (height, width) in enumerate(self.sizes):
            h, w = self._spike_size(index)
            total += self.exposure.total * h * -(-w // 8)
            total += 3 * height * width * len({"blur", "sharp"} & set(self.fields))
            if "sequence" in self.fields:
                total += 3 * height * width * len(self._sequence(self.names[index]))
            if "ratios" in self.fields:
                total += self._ratios(self.names[index]).nbytes
        return total

    def __getitem__(self, key: int | tuple[int, ...]) -> dict:
        """Read a sample; the key is its index, or (epoch, index) to place the crop, with the number of its batch."""
        epoch, index, *batch = key if isinstance(key, tuple) else (0, key)
        top, left, height, width = self._place(epoch, index)
        scale = self.scale
        pixels = (..., slice(top * scale, (top + height) * scale), slice(left * scale, (left + width) * scale))
        whole = self.cached[index] if self.cached else self._whole(index)
        fields = {
            field: array[pixels if field == "ratios" else (*pixels, slice(None))]
            for field, array in whole.items()
            if field != "spikes"
        }
        fields["spikes"] = cut_columns(whole["spikes"][..., top : top + height, :], left, width)
        fields = {field: x if isinstance(x, Tensor) else np.require(x, None, "CW") for field, x in fields.items()}
        turn = int(np.random.default_rng((self.seed, epoch, index, 8)).integers(8)) if self.augment else 0
        return {"name": self.names[index], "width": width, "turn": turn, "batch": batch[0] if batch else 0, **fields}

    def _whole(self, index: int) -> dict[str, np.ndarray]:
        """Return all fields of a sample; spikes and ratios are views of their files."""
        name, first = self.names[index], RECORDED.margin - self.exposure.margin
        fields = {
            "spikes": read_packed(self._spikes(name), *self._spike_size(index), first=first, frames=self.exposure.total)
        }
        for field in ("blur", "sharp"):
            if field in self.fields:
                fields[field] = self._read(self._picture(field, name), index)
        if "sequence" in self.fields and (pictures := self._sequence(name)):
            fields["sequence"] = np.stack([self._read(path, index) for path in pictures])
        if "ratios" in self.fields:
            fields["ratios"] = self._ratios(name)
        return fields

    def _read(self, path: Path, index: int) -> np.ndarray:
        image = read_image(path)
        if image.shape[:2] != self.sizes[index]:
            raise InputError(f"{path}: its size changed since the start")
        return image

    def _ratios(self, name: str) -> np.ndarray:
        if name in self.ratios:
            return self.ratios[name]
        path = self.ratio_folder / f"{name}.npy"
        if not path.is_file():
            raise InputError(f"{path}: the teacher's label of this sample is missing; start again to make it")
        return read_arrays(path)[0]

    def _place(self, epoch: int, index: int) -> tuple[int, int, int, int]:
        """Choose the crop of a sample: (top, left, height, width) in spike pixels."""
        h, w = self._spike_size(index)
        if self.crop is None:
            return 0, 0, h, w
        height, width = min(h, self.crop[0] // self.scale), min(w, self.crop[1] // self.scale)
        rng, step = np.random.default_rng((self.seed, epoch, index)), 1 if self.any_column else 8
        return int(rng.integers(h - height + 1)), step * int(rng.integers((w - width) // step + 1)), height, width


def refuse_real(folder: str | Path, data_type: str) -> None:
    """Raise InputError if a data set lies in `folder` itself, as real data do, and is called GOPRO."""
    root = Path(folder)
    has_splits = root.name in ("train", "test") or any((root / split).is_dir() for split in ("train", "test"))
    if data_type == "GOPRO" and not has_splits and (root / "spike_data").is_dir():
        raise InputError(f"{root}: holds samples itself, not in train and test: give --data_type real")


def cut_columns(packed: np.ndarray | Tensor, left: int, width: int) -> np.ndarray | Tensor:
    """Cut `width` columns from column `left` on out of packed spikes [...,ceil(w/8)], a view at a multiple of 8."""
    first, shift = divmod(left, 8)
    count = -(-width // 8)
    cut = packed[..., first : first + count]
    if not shift:
        return cut
    cut, following = cut >> shift, packed[..., first + 1 : first + count + 1]
    cut[..., : following.shape[-1]] |= following << (8 - shift)
    return cut


def refuse_what_does_not_fit(size: int, flag: str, device: torch.device | None = None) -> None:
    """Raise InputError if `size` bytes would fill the memory of this machine, or of a GPU.

    Every process of the run keeps its own. A tenth is left to what the run itself needs.
    """
    free = _free_bytes(device)
    if size > 0.9 * free:
        raise InputError(
            f"{flag}: {size / 1e9:.2f} GB are needed a process, {free / 1e9:.2f} GB are free for each on "
            f"{device or 'this machine'}; leave it out"
        )


def _free_bytes(device: torch.device | None) -> int:
    """Return the free memory of a GPU or of this machine, divided by the processes of this run that share it."""
    if device:
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return free // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
