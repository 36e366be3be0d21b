"""Networks on pictures too large for memory, tile by tile, with the result of the undivided picture.

A tile is read with a border as wide as the receptive field of its network, so that nothing changes at its edges.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codes.data.spikes import UPSCALE
from codes.networks import LDN
from codes.networks.bsn import into_square

# Radius of the receptive field of each network in spike pixels, rounded up to a multiple of BSN's pooling (4).
LDN_REACH, EDSR_REACH, BSN_REACH = 12, 40, 80


class Span(NamedTuple):
    """One tile along one side of the picture: the pixels that are read and the pixels that are written."""

    read: slice
    written: slice


def spans(size: int, tile: int, reach: int) -> Iterator[Span]:
    """Divide `size` pixels into tiles that are all read at one length: `tile`, `reach` to either side, and size % 4.

    So every tile lies as the picture does on a grid of 4 pixels, counted from either end.
    """
    length = tile + 2 * reach + size % UPSCALE
    if not tile or length >= size:
        yield Span(slice(0, size), slice(0, size))
        return
    for first in range(0, size, tile):
        start = min(max(first - reach, 0), size - length)
        yield Span(slice(start, start + length), slice(first, min(first + tile, size)))


def tiled(function: Callable[..., Tensor], *inputs: Tensor, tile: int, reach: int) -> Tensor:
    """Apply a function of pictures [B,C,s*h,s*w], each with an integer s of its own, tile by tile.

    tile: side in pixels where s is 1, a multiple of 4; 0: all at once. reach: radius of the receptive field, likewise.
    """
    height, width = (min(x.shape[side] for x in inputs) for side in (-2, -1))
    output = None
    for rows in spans(height, tile, reach):
        for columns in spans(width, tile, reach):
            part = function(*(_cut(x, rows.read, columns.read, x.shape[-1] // width) for x in inputs))
            scale = part.shape[-1] // (columns.read.stop - columns.read.start)
            if output is None:
                output = part.new_empty(*part.shape[:2], height * scale, width * scale)
            inner = _cut(part, _within(rows), _within(columns), scale)
            _cut(output, rows.written, columns.written, scale).copy_(inner)
    return output


def tiled_ldn(net: LDN, blur: Tensor, *, tile: int) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Return (spikes, start) -> `net(blur, spikes, start)`; its channel attention pools over the features of all tiles.

    The picture is encoded now, once for all target times.
    """
    spike_sized = blur[..., ::UPSCALE, ::UPSCALE]
    blur_features = tiled(lambda blur, _: net.encode_blur(blur), blur, spike_sized, tile=tile, reach=LDN_REACH)

    def restore(spikes: Tensor, start: Tensor | None = None) -> Tensor:
        features = tiled(net.encode, blur_features, spikes, tile=tile, reach=LDN_REACH)
        return tiled(
            net.decode, blur if start is None else start, features * net.ca(features), tile=tile, reach=LDN_REACH
        )

    return restore


def compiled(net: LDN) -> LDN:
    """Compile the three parts of a network that `ldn` calls, once for each size of tiles; return the network.

    On a GPU they become CUDA graphs, whose outputs last until the next call: `tiled` copies them.
    """
    mode = "reduce-overhead" if net.pred.weight.is_cuda else "default"
    for part in ("encode_blur", "encode", "decode"):
        setattr(net, part, torch.compile(getattr(net, part), mode=mode, dynamic=False))
    return net


class TiledEDSR(nn.Module):
    """EDSR tile by tile."""

    def __init__(self, net: nn.Module, *, tile: int):
        super().__init__()
        self.net, self.tile = net, tile

    def forward(self, intensity: Tensor) -> Tensor:
        return tiled(self.net, intensity, tile=self.tile, reach=EDSR_REACH)


class TiledBSN(nn.Module):
    """BSN in square tiles of the square that it works on."""

    def __init__(self, net: nn.Module, *, tile: int):
        super().__init__()
        self.net, self.tile = net, tile

    def forward(self, intensity: Tensor) -> Tensor:
        height, width = intensity.shape[-2:]
        square, top, left = into_square(intensity)
        square = tiled(self.net, square, tile=self.tile, reach=BSN_REACH)
        return square[..., top : top + height, left : left + width]


def _within(span: Span) -> slice:
    return slice(span.written.start - span.read.start, span.written.stop - span.read.start)


def _cut(x: Tensor, rows: slice, columns: slice, scale: int) -> Tensor:
    return x[..., rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale]
