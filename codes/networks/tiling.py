"""Networks over pictures too large for memory: tile by tile, with the result that the whole would give.

A tile is seen with as much around it as its network looks at, so that nothing changes at its edges.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codes.data.spikes import UPSCALE
from codes.networks import LDN
from codes.networks.bsn import into_square

# How far each network looks, rounded up to whole cells of BSN's pooling (4), in spike pixels.
LDN_REACH, EDSR_REACH, BSN_REACH = 12, 40, 80


class Span(NamedTuple):
    """Along one side: what a tile sees and what of it is kept."""

    seen: slice
    kept: slice


def spans(size: int, tile: int, reach: int) -> Iterator[Span]:
    """Divide `size` pixels into tiles, all seen at one length: `tile`, `reach` to either side, and size % 4.

    So every tile lies as the whole does on a grid of 4 pixels, counted from either end.
    """
    length = tile + 2 * reach + size % UPSCALE
    if not tile or length >= size:
        yield Span(slice(0, size), slice(0, size))
        return
    for first in range(0, size, tile):
        start = min(max(first - reach, 0), size - length)
        yield Span(slice(start, start + length), slice(first, min(first + tile, size)))


def tiled(function: Callable[..., Tensor], *inputs: Tensor, tile: int, reach: int) -> Tensor:
    """Apply a function of pictures [B,C,s*h,s*w], each with a whole s of its own, tile by tile.

    tile: side in pixels where s is 1, a multiple of 4; 0: all at once. reach: how far the function looks, likewise.
    """
    height, width = (min(x.shape[side] for x in inputs) for side in (-2, -1))
    whole = None
    for rows in spans(height, tile, reach):
        for columns in spans(width, tile, reach):
            part = function(*(_cut(x, rows.seen, columns.seen, x.shape[-1] // width) for x in inputs))
            scale = part.shape[-1] // (columns.seen.stop - columns.seen.start)
            if whole is None:
                whole = part.new_empty(*part.shape[:2], height * scale, width * scale)
            kept = _cut(part, _within(rows), _within(columns), scale)
            _cut(whole, rows.kept, columns.kept, scale).copy_(kept)
    return whole


def ldn(net: LDN, blur: Tensor, *, tile: int) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Return (spikes, start) -> `net(blur, spikes, start)`; its channel attention pools over the features of all tiles.

    The picture is looked at now, once for all instants.
    """
    spike_sized = blur[..., ::UPSCALE, ::UPSCALE]
    seen = tiled(lambda blur, _: net.look(blur), blur, spike_sized, tile=tile, reach=LDN_REACH)

    def restore(spikes: Tensor, start: Tensor | None = None) -> Tensor:
        features = tiled(net.encode, seen, spikes, tile=tile, reach=LDN_REACH)
        return tiled(
            net.decode, blur if start is None else start, features * net.ca(features), tile=tile, reach=LDN_REACH
        )

    return restore


def compiled(net: LDN) -> LDN:
    """Let torch.compile make what `ldn` calls of a network, for each size of tiles anew; return the network.

    On a GPU they become CUDA graphs, whose outputs last until the next call: `tiled` copies them.
    """
    mode = "reduce-overhead" if net.pred.weight.is_cuda else "default"
    for part in ("look", "encode", "decode"):
        setattr(net, part, torch.compile(getattr(net, part), mode=mode, dynamic=False))
    return net


class TiledEDSR(nn.Module):
    """EDSR tile by tile."""

    def __init__(self, net: nn.Module, *, tile: int):
        super().__init__()
        self.net, self.tile = net, tile

    def forward(self, light: Tensor) -> Tensor:
        return tiled(self.net, light, tile=self.tile, reach=EDSR_REACH)


class TiledBSN(nn.Module):
    """BSN in square tiles of the square that it works on."""

    def __init__(self, net: nn.Module, *, tile: int):
        super().__init__()
        self.net, self.tile = net, tile

    def forward(self, light: Tensor) -> Tensor:
        height, width = light.shape[-2:]
        square, top, left = into_square(light)
        square = tiled(self.net, square, tile=self.tile, reach=BSN_REACH)
        return square[..., top : top + height, left : left + width]


def _within(span: Span) -> slice:
    return slice(span.kept.start - span.seen.start, span.kept.stop - span.seen.start)


def _cut(x: Tensor, rows: slice, columns: slice, scale: int) -> Tensor:
    return x[..., rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale]
