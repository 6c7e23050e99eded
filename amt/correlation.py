"""All-pairs correlation of two feature maps and the lookups into it (paper section 3.1; specification section 3).

The correlation of pixel p of one frame with pixel q of the other is dot(a[p], b[q]) / sqrt(channels). It has
four levels, each pooled 2x2 over q, and a lookup reads a 7 x 7 window around a centre at every level.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from .sampling import pixel_grid

LEVELS = 4
RADIUS = 3
WINDOW = 2 * RADIUS + 1
CHANNELS = 2 * LEVELS * WINDOW * WINDOW
"""Channels of a bilateral lookup: two directions, four levels, 49 window entries."""


class Correlation(Protocol):
    """Holds what one pair of feature maps needs for its lookups."""

    def lookup(self, flow0: Tensor, flow1: Tensor, timestep: Tensor) -> Tensor:
        """Correlation around the positions that a pair of bilateral flows points to.

        flow0, flow1 [b, 2, h, w] on the feature maps' own grid, timestep [b, 1, 1, 1] -> [b, 392, h, w] float32.
        """
        ...


def bilateral_centres(flow0: Tensor, flow1: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel of frame 0 lies in frame 1, and the other way round, when motion is linear over time."""
    grid = pixel_grid(flow0.shape[2], flow0.shape[3], flow0.device)
    return grid + flow1 / timestep, grid + flow0 / (1 - timestep)


class CorrelationVolume:
    """Builds both volumes whole, as the paper describes it: memory grows with the square of the area."""

    def __init__(self, fmap0: Tensor, fmap1: Tensor) -> None:
        """fmap0, fmap1: feature maps of the two frames, [b, c, h, w]."""
        b, c, h, w = fmap0.shape
        a = fmap0.float().flatten(2)
        volume = a.mT @ fmap1.float().flatten(2) / math.sqrt(c)
        self._volumes = tuple(v.reshape(b * h * w, 1, h, w) for v in (volume, volume.mT))

    def lookup(self, flow0: Tensor, flow1: Tensor, timestep: Tensor) -> Tensor:
        centres = bilateral_centres(flow0, flow1, timestep)
        return torch.cat([look_up(v, c) for v, c in zip(self._volumes, centres, strict=True)], dim=1)


def look_up(volume: Tensor, centres: Tensor) -> Tensor:
    """volume [b * h * w, 1, H, W], centres [b, 2, h, w] in pixels of the H x W grid -> [b, 196, h, w]."""
    b, _, h, w = centres.shape
    centres = centres.permute(0, 2, 3, 1).reshape(b * h * w, 1, 1, 2)
    steps = torch.arange(-RADIUS, RADIUS + 1, device=centres.device, dtype=torch.float32)
    # The first window index steps x, the second y.
    window = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)
    levels = []
    for level in range(LEVELS):
        if level:
            volume = functional.avg_pool2d(volume, 2)
        size = torch.tensor([volume.shape[-1], volume.shape[-2]], device=centres.device)
        # Pixel p's centre lies at (2p + 1) / size - 1: valid on a grid of a single row or column too.
        position = (2 * (centres / 2**level + window) + 1) / size - 1
        sampled = functional.grid_sample(volume, position, align_corners=False)
        levels.append(sampled.reshape(b, h, w, WINDOW * WINDOW))
    return torch.cat(levels, dim=-1).permute(0, 3, 1, 2)


# The lookup without a volume. Side of a tile of pixels that are looked up together -> sides of the boxes of target
# pixels that it may be correlated with. Larger boxes waste products, smaller tiles memory traffic.
BOXES = {8: (10, 12, 14, 16), 4: (12, 16, 20), 1: (WINDOW + 1,)}
TILE = max(BOXES)
LARGEST_BOX = max(max(boxes) for boxes in BOXES.values())
MARGIN = WINDOW
"""Zeros around the target grids. Windows that lie outside are moved to where they are just outside."""
CHUNK_BYTES = 6 * 2**20
"""Of target pixels gathered at once on a CPU: what its caches hold, and allocators reuse."""
DEVICE_CHUNK_BYTES = 128 * 2**20
"""The same elsewhere: enough to keep a GPU busy."""


class TiledCorrelation:
    """Exact lookups without the volume: memory and time grow with the area, not with its square.

    Pooling is linear, so level k of the volume is the correlation with the k times pooled target. Neighbours mostly
    point to neighbours: a tile of 8 x 8 pixels needs little more of the target than a box of 16 x 16 pixels, and tile
    times box is a matrix product. Where motion is too uneven for that, tiles are split, down to single pixels.
    The 49 samples of a window share one fractional position, so the products at its 8 x 8 whole positions give them.
    """

    def __init__(self, fmap0: Tensor, fmap1: Tensor) -> None:
        """fmap0, fmap1: feature maps of the two frames, [b, c, h, w]."""
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
            target.look_up(self._source, centres / 2**level, entries)
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

    def look_up(self, source: Tensor, centres: Tensor, out: Tensor) -> None:
        """Correlates source [pixels, c] with the windows around centres [pixels, 2] of this level: out [pixels, 49].

        The order of the pixels is that of `_to_tiles`.
        """
        # At these limits and beyond them every sample lies outside the grid.
        centres = torch.minimum(centres.clamp(min=-RADIUS - 1), self._end + RADIUS)
        first = centres.nan_to_num().floor()
        fraction = centres - first
        first = first.long() - RADIUS + MARGIN

        budget = CHUNK_BYTES if source.device.type == "cpu" else DEVICE_CHUNK_BYTES
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
                step = max(1, budget // (4 * box * box * self._channels))
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


def choose_correlation(fmap0: Tensor, fmap1: Tensor) -> Correlation:
    """The lookup that suits: without a volume, unless gradients are wanted, which would need its products again.

    (Training works on crops, whose volumes are small.)
    """
    return CorrelationVolume(fmap0, fmap1) if torch.is_grad_enabled() else TiledCorrelation(fmap0, fmap1)
