"""All-pairs correlation of two feature maps and the lookups into it (paper section 3.1; docs/network.md, section 3).

The correlation of pixel p of one frame with pixel q of the other is dot(a[p], b[q]) / sqrt(channels). It has
four levels, each pooled 2x2 over q, and a lookup reads a 7 x 7 window around a centre at every level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
        """The correlation around the positions that a pair of bilateral flows points to.

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
        _, c, h, w = fmap0.shape
        volume = fmap0.float().flatten(2).mT @ fmap1.float().flatten(2) / math.sqrt(c)
        self._pyramids = [
            pooled_levels(rearrange(v, "b p (h w) -> (b p) 1 h w", h=h, w=w)) for v in (volume, volume.mT)
        ]

    def lookup(self, flow0: Tensor, flow1: Tensor, timestep: Tensor) -> Tensor:
        centres = bilateral_centres(flow0, flow1, timestep)
        return torch.cat([look_up(p, c) for p, c in zip(self._pyramids, centres, strict=True)], dim=1)


def pooled_levels(volume: Tensor) -> list[Tensor]:
    """The four levels of a volume [pixels, 1, h, w]: each is pooled from the one before, odd remainders dropped."""
    levels = [volume]
    while len(levels) < LEVELS:
        levels.append(functional.avg_pool2d(levels[-1], 2))
    return levels


def look_up(levels: Sequence[Tensor], centres: Tensor) -> Tensor:
    """Reads the windows around centres [b, 2, h, w], which are in pixels of the finest level -> [b, 196, h, w].

    levels: of one volume, as `pooled_levels` gives them, for b * h * w pixels.
    """
    b, _, h, w = centres.shape
    x, y = rearrange(centres, "b c h w -> c (b h w) 1 1")
    step = torch.arange(-RADIUS, RADIUS + 1, device=centres.device, dtype=centres.dtype)
    found = []
    for level, volume in enumerate(levels):
        height, width = volume.shape[-2:]
        # The first window index steps x, the second y. Pixel p's centre lies at (2p + 1) / size - 1: that has a
        # meaning on a grid of a single row or column too.
        window_x = (2 * (x / 2**level + step[:, None]) + 1) / width - 1
        window_y = (2 * (y / 2**level + step) + 1) / height - 1
        position = torch.stack(torch.broadcast_tensors(window_x, window_y), dim=-1)
        found.append(functional.grid_sample(volume, position, align_corners=False))
    return rearrange(found, "level (b h w) 1 i j -> b (level i j) h w", b=b, h=h, w=w)
