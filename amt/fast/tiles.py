"""All-pairs lookups without the correlation volume (docs/network.md, section 3): memory and time grow with the area."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from ..network.correlation import LEVELS, RADIUS, WINDOW, bilateral_centres

BOXES = {8: (10, 12, 14, 16), 4: (12, 16, 20), 1: (WINDOW + 1,)}
"""Side of a tile of pixels that are looked up together -> sides of the boxes of target pixels that it may be correlated
with. Larger boxes waste products, smaller tiles memory traffic."""
TILE = max(BOXES)
LARGEST_BOX = max(max(boxes) for boxes in BOXES.values())
MARGIN = WINDOW
"""Zeros around the target grids. Windows that lie outside are moved to where they are just outside."""


class TiledCorrelation:
    """Exact lookups, tile by tile.

    Pooling is linear, so level k of the volume is the correlation with the k times pooled target. Neighbours mostly
    point to neighbours: a tile of 8 x 8 pixels needs little more of the target than a box of 16 x 16 pixels, and tile
    times box is a matrix product. Where motion is too uneven for that, tiles are split, down to single pixels.
    The 49 samples of a window share one fractional position, so the products at its 8 x 8 whole positions give them.
    """

    def __init__(self, fmap0: Tensor, fmap1: Tensor, *, chunk_bytes: int) -> None:
        """fmap0, fmap1: feature maps of the two frames, [b, c, h, w].

        chunk_bytes: of target pixels gathered at once. On a CPU, what its caches hold and allocators reuse; on a GPU,
        enough to keep it busy.
        """
        self._chunk_bytes = chunk_bytes
        self._source = _to_tiles(torch.cat((fmap0, fmap1)).float()).div_(math.sqrt(fmap0.shape[1]))
        target = torch.cat((fmap1, fmap0)).float()
        self._targets = [_Target(target)]
        for _ in range(1, LEVELS):
            target = functional.avg_pool2d(target, 2)
            self._targets.append(_Target(target))

    def lookup(self, flow0: Tensor, flow1: Tensor, timestep: Tensor) -> Tensor:
        centres = torch.cat(bilateral_centres(flow0, flow1, timestep))
        height, width = centres.shape[-2:]
        centres = _to_tiles(centres)
        axes = _tile_axes(height, width)
        rows, columns = axes["ty"] * TILE, axes["tx"] * TILE
        # Channels last in memory: the order that the 1x1 convolution of an update block reads fastest.
        found = centres.new_empty(len(flow0), rows, columns, 2, LEVELS, WINDOW * WINDOW)
        entries = centres.new_empty(len(centres), WINDOW * WINDOW)
        for level, target in enumerate(self._targets):
            target.look_up(self._source, centres / 2**level, entries, self._chunk_bytes)
            found[:, :, :, :, level] = rearrange(
                entries, "(side b ty tx qy qx y x) entry -> b (ty qy y) (tx qx x) side entry", side=2, **axes
            )
        return found.flatten(3)[:, :height, :width].permute(0, 3, 1, 2)


def _to_tiles(x: Tensor) -> Tensor:
    """[n, c, h, w] -> [pixels, c], in such an order that every tile and every quarter of a tile is a run of pixels."""
    height, width = x.shape[-2:]
    if width % TILE or height % TILE:
        x = functional.pad(x, (0, -width % TILE, 0, -height % TILE), mode="replicate")
    return rearrange(x, "n c (ty qy y) (tx qx x) -> (n ty tx qy qx y x) c", **_tile_axes(height, width)).contiguous()


def _tile_axes(height: int, width: int) -> dict[str, int]:
    return {"ty": -(-height // TILE), "tx": -(-width // TILE), "qy": 2, "qx": 2, "y": TILE // 2, "x": TILE // 2}


class _Target:
    """One level of the maps that windows are looked up in."""

    def __init__(self, maps: Tensor) -> None:
        """maps [n, c, h, w]"""
        self._count, self._channels, height, width = maps.shape
        self._end = torch.tensor((width, height), device=maps.device)
        right = max(MARGIN + 1, LARGEST_BOX - MARGIN - width)
        bottom = max(MARGIN + 1, LARGEST_BOX - MARGIN - height)
        padded = functional.pad(maps, (MARGIN, right, MARGIN, bottom))
        self._height, self._width = padded.shape[-2:]
        # Column after column: the first window index steps x.
        self._pixels = rearrange(padded, "n c y x -> (n x y) c").contiguous()

    def look_up(self, source: Tensor, centres: Tensor, out: Tensor, chunk_bytes: int) -> None:
        """Correlates source [pixels, c] with the windows around centres [pixels, 2] of this level: out [pixels, 49].

        The order of the pixels is that of `_to_tiles`.
        """
        # At these limits and beyond them every sample lies outside the grid.
        centres = torch.minimum(centres.clamp(min=-RADIUS - 1), self._end + RADIUS)
        first = centres.nan_to_num().floor()
        fraction = centres - first
        first = first.long() - RADIUS + MARGIN

        previous, tiles = TILE, torch.arange(len(source) // TILE**2, device=source.device)
        for size, boxes in BOXES.items():
            # The tiles that no box of the previous size was large enough for, split.
            parts = (previous // size) ** 2
            tiles = (tiles[:, None] * parts + torch.arange(parts, device=tiles.device)).flatten()
            sources, firsts, fractions, outs = (
                x.unflatten(0, (-1, size * size)) for x in (source, first, fraction, out)
            )
            corners = firsts.index_select(0, tiles)
            origin = corners.amin(1)
            extent = (corners.amax(1) - origin).amax(1) + WINDOW + 1
            fitted = 0
            for box in boxes:
                fits = ((extent > fitted) & (extent <= box)).nonzero()[:, 0]
                step = max(1, chunk_bytes // (4 * box * box * self._channels))
                for i in range(0, len(fits), step):
                    some = fits[i : i + step]
                    index = tiles[some]
                    maps = index // (len(sources) // self._count)
                    products = self._products(
                        sources.index_select(0, index), firsts.index_select(0, index), maps, origin[some], box
                    )
                    outs.index_copy_(0, index, _interpolate(products, fractions.index_select(0, index)))
                fitted = box
            tiles = tiles[extent > fitted]
            previous = size

    def _products(self, source: Tensor, first: Tensor, maps: Tensor, origin: Tensor, box: int) -> Tensor:
        """Correlates tiles with the whole positions of their windows.

        source [tiles, pixels, c], first [tiles, pixels, 2] the windows' corners, origin [tiles, 2] the least of them,
        maps [tiles] which map a tile looks into, box: how far from the origin the windows reach.
        Returns [tiles, pixels, 8, 8], x first.
        """
        device = source.device
        # Not beyond the far borders; the windows are inside them, and so stay inside the box.
        limit = torch.tensor((self._width - box, self._height - box), device=device)
        origin = torch.minimum(origin, limit)
        # The pixels of a box, and of a window in it, are counted column by column.
        step = torch.arange(box, device=device)
        start = (maps * self._width + origin[:, 0]) * self._height + origin[:, 1]
        inside = (start[:, None, None] + step[:, None] * self._height + step).flatten()
        boxes = self._pixels.index_select(0, inside).view(len(source), box * box, self._channels)
        products = source @ boxes.mT
        step = torch.arange(WINDOW + 1, device=device)
        offset = first - origin[:, None]
        start = offset[..., 0] * box + offset[..., 1]
        inside = start[..., None] + (step[:, None] * box + step).flatten()
        return products.gather(2, inside).unflatten(2, (WINDOW + 1, WINDOW + 1))


def _interpolate(products: Tensor, fraction: Tensor) -> Tensor:
    """[tiles, pixels, 8, 8] at whole positions -> [tiles, pixels, 49] at `fraction` [tiles, pixels, 2] beyond them."""
    x, y = fraction[..., None, None].unbind(2)
    products = torch.addcmul(products[..., :-1, :], products[..., 1:, :] - products[..., :-1, :], x)
    return torch.addcmul(products[..., :-1], products[..., 1:] - products[..., :-1], y).flatten(2)
