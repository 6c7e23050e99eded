"""Lookups for GPUs without Triton, where memory has room for the volume: in its maps' precision, and without a wait."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor

from ..network.correlation import LEVELS, WINDOW, bilateral_centres
from .windows import GAP, Atlas, box_of, interpolate


class HalfVolumeCorrelation:
    """All levels of the volume as one product of matrices, of which a lookup takes the windows.

    Memory grows with the square of the area, as that of `CorrelationVolume` does; in half precision it is half.
    """

    def __init__(self, fmap0: Tensor, fmap1: Tensor) -> None:
        """fmap0, fmap1: feature maps of the two frames, [b, c, h, w]."""
        self._atlas = Atlas(torch.cat((fmap1, fmap0)))
        source = torch.cat((fmap0, fmap1)).flatten(2) / math.sqrt(fmap0.shape[1])
        self._volume = source.mT @ self._atlas.planes.flatten(1, 2).mT

    @staticmethod
    def memory(maps: torch.Size, dtype: torch.dtype) -> int:
        """About how many bytes the volume of such maps [b, c, h, w] and a lookup in it take."""
        b, _, h, w = maps
        pixels = 2 * b * h * w
        columns, rows = w + w // 2 + 3 * GAP, h + GAP
        return pixels * (columns * rows * dtype.itemsize + LEVELS * GAP**2 * 16)

    def lookup(self, flow0: Tensor, flow1: Tensor, timestep: Tensor) -> Tensor:
        """[b, 392, h, w], channels last in memory, in the maps' precision."""
        b, _, h, w = flow0.shape
        centres = rearrange(torch.cat(bilateral_centres(flow0, flow1, timestep)), "map xy h w -> (map h w) xy")
        first, fraction = self._atlas.locate(centres)
        x, y = first.unbind(-1)
        start = torch.add(y, x, alpha=self._atlas.rows)
        start += torch.arange(len(centres), device=start.device) * self._atlas.area
        inside = start[..., None] + box_of(GAP, self._atlas.rows, start.device)
        products = self._volume.flatten().index_select(0, inside.flatten()).view_as(inside)
        entries = interpolate(products, fraction)
        found = entries.new_empty(b, h, w, 2, LEVELS, WINDOW**2, dtype=self._volume.dtype)
        found.copy_(rearrange(entries, "level (side b h w) entry -> b h w side level entry", side=2, h=h, w=w))
        return found.flatten(3).permute(0, 3, 1, 2)
