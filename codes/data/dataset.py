"""Samples of a data set: a spike stream and, where a stage asks for them, its blurry picture and the sharp truth."""

from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from codes.archives import read_arrays
from codes.data.images import read_image
from codes.data.layout import RECORDED, Split
from codes.data.spikes import Exposure, read_packed
from codes.errors import InputError

SMALL, EVERY_TENTH = slice(20), slice(None, None, 10)  # the samples of --use_small, here and in the reference
Field = np.ndarray | Tensor


class SpikeDataset(Dataset):
    """The samples of one split of a data set, see `codes.data.layout`.

    `fields` are read and checked ("spikes" always, "blur", "sharp", "ratios", the teacher's labels, and "sequence" of
    the samples that have it), nothing else is opened. `crop` is (height, width) in picture pixels; its place, and with
    `augment` which of the 8 turns and mirrorings it is seen in, depend on (seed, epoch, index) alone. Of the spikes the
    frames of `exposure` with its margins are read. Crops begin at multiples of 8 spike columns, where bits are cut in
    whole bytes, or at `any_column`. For `data_type`, `size`, `spike_full` and `keep_samples` see `Split`. Not
    `checked`, nothing can be read before `codes.data.checks.faults` has looked at all.
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
        self.split = Split(
            folder,
            split,
            fields=fields,
            data_type=data_type,
            size=size,
            spike_full=spike_full,
            keep_samples=keep_samples,
        )
        self.names = self.split.names
        self.crop, self.any_column, self.seed, self.augment, self.exposure = crop, any_column, seed, augment, exposure
        self.ratio_folder = Path(ratio_folder) / split if ratio_folder else None
        self.sizes = [self.split.check(name) for name in self.names] if checked else [(0, 0)] * len(self.names)
        self.cached: list[dict[str, Field]] = []  # all samples, whole, after `codes.data.cache.read_into_memory`
        self.ratios: dict[str, np.ndarray] = {}  # by name, where they are kept in memory and not in a folder

    def __len__(self) -> int:
        return len(self.names)

    def shape(self, index: int) -> tuple[int, int]:
        """Return (height, width) of what is read of a sample, in picture pixels: of its crop, or of all of it."""
        _, _, height, width = self._place(0, index)
        return height * self.split.scale, width * self.split.scale

    def spike_size(self, index: int) -> tuple[int, int]:
        """Return (height, width) of the spikes of a sample."""
        height, width = self.sizes[index]
        return height // self.split.scale, width // self.split.scale

    def __getitem__(self, key: int | tuple[int, ...]) -> dict:
        """Read a sample; the key is its index, or (epoch, index) to place the crop, with the number of its batch."""
        epoch, index, *batch = key if isinstance(key, tuple) else (0, key)
        top, left, height, width = self._place(epoch, index)
        scale = self.split.scale
        pixels = (..., slice(top * scale, (top + height) * scale), slice(left * scale, (left + width) * scale))
        whole = self.cached[index] if self.cached else self.whole(index)
        fields = {
            field: array[pixels if field == "ratios" else (*pixels, slice(None))]
            for field, array in whole.items()
            if field != "spikes"
        }
        fields["spikes"] = cut_columns(whole["spikes"][..., top : top + height, :], left, width)
        fields = {field: x if isinstance(x, Tensor) else np.require(x, None, "CW") for field, x in fields.items()}
        turn = int(np.random.default_rng((self.seed, epoch, index, 8)).integers(8)) if self.augment else 0
        return {"name": self.names[index], "width": width, "turn": turn, "batch": batch[0] if batch else 0, **fields}

    def whole(self, index: int) -> dict[str, np.ndarray]:
        """Return all fields of a sample; spikes and ratios are views of their files."""
        name, split, first = self.names[index], self.split, RECORDED.margin - self.exposure.margin
        fields = {
            "spikes": read_packed(split.spikes(name), *self.spike_size(index), first=first, frames=self.exposure.total)
        }
        for field in ("blur", "sharp"):
            if field in split.fields:
                fields[field] = self._read(split.picture(field, name), index)
        if "sequence" in split.fields and (pictures := split.sequence(name)):
            fields["sequence"] = np.stack([self._read(path, index) for path in pictures])
        if "ratios" in split.fields:
            fields["ratios"] = self.label(name)
        return fields

    def label(self, name: str) -> np.ndarray:
        """Return the teacher's intensity ratios of a sample, [N,H,W] or [N+1,H,W]."""
        if name in self.ratios:
            return self.ratios[name]
        path = self.ratio_folder / f"{name}.npy"
        if not path.is_file():
            raise InputError(f"{path}: the teacher's label of this sample is missing; start again to make it")
        return read_arrays(path)[0]

    def _read(self, path: Path, index: int) -> np.ndarray:
        image = read_image(path)
        if image.shape[:2] != self.sizes[index]:
            raise InputError(f"{path}: its size changed since the start")
        return image

    def _place(self, epoch: int, index: int) -> tuple[int, int, int, int]:
        """Choose the crop of a sample: (top, left, height, width) in spike pixels."""
        h, w = self.spike_size(index)
        if self.crop is None:
            return 0, 0, h, w
        height, width = min(h, self.crop[0] // self.split.scale), min(w, self.crop[1] // self.split.scale)
        rng, step = np.random.default_rng((self.seed, epoch, index)), 1 if self.any_column else 8
        return int(rng.integers(h - height + 1)), step * int(rng.integers((w - width) // step + 1)), height, width


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
