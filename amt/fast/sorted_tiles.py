"""Lookups for GPUs without Triton, where the volume is too large: tiles, sorted by how uneven their motion is.

As in `tiles`, a tile of neighbouring pixels is multiplied with a box of target pixels. Here the tiles of all levels
are sorted by the boxes that they need: how many there are of each kind is all that the host must know to give the GPU
its work, so it waits once a lookup.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from ..network.correlation import LEVELS, WINDOW, bilateral_centres
from .windows import GAP, Atlas, box_of, interpolate

TILE, QUARTER = 8, 4
"""Sides of a tile, and of the quarters that it is split into where its motion is uneven."""
TILE_BOXES, QUARTER_BOXES = (11, 16), (12, 20)
"""Sides of the boxes. Where even the largest is too small, each pixel has its window to itself."""


class SortedTileCorrelation:
    """Exact lookups without the volume: memory and time grow with the area, not with its square."""

    def __init__(self, fmap0: Tensor, fmap1: Tensor, *, chunk_bytes: int) -> None:
        """fmap0, fmap1: feature maps of the two frames, [b, c, h, w].

        chunk_bytes: of target pixels gathered at once, enough to keep a GPU busy.
        """
        height, width = self._size = fmap0.shape[2:]
        self._chunk_bytes = chunk_bytes
        self._axes = {"ty": -(-height // TILE), "tx": -(-width // TILE), "qy": 2, "qx": 2, "y": QUARTER, "x": QUARTER}
        self._atlas = Atlas(torch.cat((fmap1, fmap0)), largest_box=max(QUARTER_BOXES))
        self._source = self._in_tiles(torch.cat((fmap0, fmap1)) / math.sqrt(fmap0.shape[1]))

    def lookup(self, flow0: Tensor, flow1: Tensor, timestep: Tensor) -> Tensor:
        """[b, 392, h, w], channels last in memory, in the maps' precision."""
        first, fraction = self._atlas.locate(self._in_tiles(torch.cat(bilateral_centres(flow0, flow1, timestep))))
        # The planes lie one behind the other: in columns of all of them.
        maps = torch.arange(2 * len(flow0), device=first.device)[:, None] * self._atlas.columns
        first[..., 0].unflatten(1, (len(maps), -1)).add_(maps)
        first, fraction = first.flatten(0, 1), fraction.flatten(0, 1)
        found = self._source.new_empty(len(first), WINDOW**2)
        for side, box, tiles in _sorted(first):
            for some in tiles.split(max(1, self._chunk_bytes // (box * box * self._source[0].nbytes))):
                self._look_up(first, fraction, found, side, box, some)
        found = rearrange(
            found,
            "(level side b ty tx qy qx y x) entry -> b (ty qy y) (tx qx x) (side level entry)",
            level=LEVELS,
            side=2,
            **self._axes,
        )
        return found[:, : self._size[0], : self._size[1]].permute(0, 3, 1, 2)

    def _in_tiles(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [pixels, c]: every tile and every quarter of a tile is a run of pixels."""
        down, across = self._axes["ty"] * TILE - self._size[0], self._axes["tx"] * TILE - self._size[1]
        x = functional.pad(x, (0, across, 0, down), mode="replicate") if down or across else x
        return rearrange(x, "n c (ty qy y) (tx qx x) -> (n ty tx qy qx y x) c", **self._axes).contiguous()

    def _look_up(self, first: Tensor, fraction: Tensor, found: Tensor, side: int, box: int, tiles: Tensor) -> None:
        """Writes the entries of these tiles, which have side x side pixels and windows within boxes of this side."""
        first, fraction, source, found = (x.unflatten(0, (-1, side**2)) for x in (first, fraction, self._source, found))
        first, fraction = first.index_select(0, tiles), fraction.index_select(0, tiles)
        origin = first.amin(1)
        start = torch.add(origin[:, 1], origin[:, 0], alpha=self._atlas.rows)
        inside = start[:, None] + box_of(box, self._atlas.rows, tiles.device)
        boxes = self._atlas.pixels.index_select(0, inside.flatten()).unflatten(0, inside.shape)
        products = source.index_select(0, tiles % len(source)) @ boxes.mT
        x, y = (first - origin[:, None]).unbind(-1)
        inside = torch.add(y, x, alpha=box)[..., None] + box_of(GAP, box, tiles.device)
        entries = interpolate(products.gather(2, inside), fraction)
        found.index_copy_(0, tiles, entries.to(found.dtype))


def _sorted(first: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """The tiles of the windows that start at `first` [pixels, 2], by the boxes that they need.

    Gives the side of the tiles in pixels, the side of the boxes, and which of the tiles of this side they are.
    """
    whole, quarters = _extent(first, TILE), _extent(first, QUARTER)
    # Of the quarters, only those of split tiles count.
    quarters = quarters.unflatten(0, (-1, (TILE // QUARTER) ** 2))
    quarters = quarters.where((whole > TILE_BOXES[-1])[:, None], 0).flatten()
    counts = [(whole <= box).sum() for box in TILE_BOXES] + [(quarters <= box).sum() for box in (0, *QUARTER_BOXES)]
    ends = torch.stack(counts).tolist()  # the one wait
    whole_ends, quarter_ends = (0, *ends[: len(TILE_BOXES)]), ends[len(TILE_BOXES) :]
    for side, extents, boxes, its_ends in (
        (TILE, whole, TILE_BOXES, whole_ends),
        (QUARTER, quarters, QUARTER_BOXES, quarter_ends),
    ):
        order = extents.argsort()
        for box, (start, end) in zip(boxes, pairwise(its_ends), strict=True):
            if start < end:
                yield side, box, order[start:end]
    if quarter_ends[-1] < len(order):
        pixels = torch.arange(QUARTER**2, device=first.device)
        yield 1, GAP, (order[quarter_ends[-1] :, None] * QUARTER**2 + pixels).flatten()


def _extent(first: Tensor, side: int) -> Tensor:
    """Of each tile of side x side pixels: the side of the smallest box that its windows lie in."""
    corners = first.unflatten(0, (-1, side**2))
    return (corners.amax(1) - corners.amin(1)).amax(1) + GAP
