"""Batches: their fields, spikes packed 8 to a byte on the way to the device, and the order of the samples of a run."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler, get_worker_info

from codes.errors import InputError


def unpack(packed: Tensor, width: int) -> Tensor:
    """Turn packed spikes [...,ceil(w/8)] uint8 into [...,w] uint8 of 0 and 1, on the device where they are."""
    bits = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return (packed.unsqueeze(-1) >> bits & 1).flatten(-2)[..., :width]


@dataclass
class Batch:
    """B samples; pictures are BGR in [0,1], and None where the stage does not use them."""

    names: list[str]
    spikes: Tensor  # [B,T,h,w] 0/1
    blur: Tensor | None = None  # [B,3,H,W]
    sharp: Tensor | None = None  # [B,3,H,W], the middle of the exposure
    sequence: Tensor | None = None  # [B,7,3,H,W], evenly through the exposure; None too where the data have none
    ratios: Tensor | None = None  # [B,N,1,H,W], or N+1: intensity ratios of the teacher
    number: int = 0  # of the batch in the whole run, the same in all processes


@dataclass
class Packed:
    """A batch before it is on the device: bits packed, pictures uint8 [...,H,W,3], not yet rotated."""

    names: list[str]
    width: int  # of the spikes
    turns: list[int]  # of each sample, see `turned`
    fields: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    number: int = 0  # of the batch in the whole run

    @staticmethod
    def collate(samples: list[dict]) -> "Packed":
        names, turns = ([sample[what] for sample in samples] for what in ("name", "turn"))
        fields = set.intersection(*(set(sample) for sample in samples)) - {"name", "turn", "width", "batch"}
        stacked = {name: torch.stack([torch.as_tensor(sample[name]) for sample in samples]) for name in fields}
        if get_worker_info():  # here a lack of shared memory is raised; on its way to the other process it is not
            stacked = {name: tensor.share_memory_() for name, tensor in stacked.items()}
        return Packed(names, samples[0]["width"], turns, stacked, samples[0]["batch"])

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.fields.values())

    def pin_memory(self) -> "Packed":
        return replace(self, fields={name: tensor.pin_memory() for name, tensor in self.fields.items()})

    def to(self, device: torch.device) -> Batch:
        """Move to the device; unpack and turn there."""
        fields = {name: tensor.to(device, non_blocking=True) for name, tensor in self.fields.items()}
        pictures = {
            name: (fields[name].movedim(-1, -3).to(torch.get_default_dtype()) / 255).contiguous()
            for name in ("blur", "sharp", "sequence")
            if name in fields
        }
        if "ratios" in fields:
            pictures["ratios"] = fields["ratios"].float().unsqueeze(2)
        fields = {"spikes": unpack(fields["spikes"], self.width), **pictures}
        if any(self.turns):
            fields = {name: torch.stack(list(map(turned, x, self.turns))) for name, x in fields.items()}
        return Batch(self.names, **fields, number=self.number)


def turned(x: Tensor, turn: int) -> Tensor:
    """Turn a square [...,H,W] by `turn` % 4 quarters, then mirror its columns if `turn` is 4 to 7."""
    x = torch.rot90(x, turn % 4, (-2, -1))
    return x.flip(-1) if turn >= 4 else x


class Batches(Sampler[list[tuple[int, int, int]]]):
    """The order of training: for every batch of the whole run the (epoch, index, batch) of its samples.

    A function of (seed, epoch) alone, so that a run resumes at any batch: the first `start` batches are skipped. A
    batch is divided among `world` processes. The last batch of an epoch is filled from the beginning of the epoch,
    or else smaller than `size`.
    """

    def __init__(
        self,
        samples: int,
        size: int,
        *,
        epochs: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        filled: bool = True,
    ):
        if size < 1 or size % world:
            raise InputError(f"--bs {size}: a positive multiple of the {world} processes that share it is needed")
        self.samples, self.size, self.epochs, self.seed = samples, size, epochs, seed
        self.rank, self.world, self.start, self.filled = rank, world, 0, filled
        self.per_epoch = -(-samples // size)
        self.total = epochs * self.per_epoch

    def __len__(self) -> int:
        return max(self.total - self.start, 0)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        for epoch in range(self.start // self.per_epoch, self.epochs):
            order = np.random.default_rng((self.seed, epoch)).permutation(self.samples)
            order = np.resize(order, self.per_epoch * self.size) if self.filled else order
            for batch in range(max(self.start - epoch * self.per_epoch, 0), self.per_epoch):
                number, indices = epoch * self.per_epoch + batch, order[batch * self.size : (batch + 1) * self.size]
                yield [(epoch, int(index), number) for index in indices[self.rank :: self.world]]
