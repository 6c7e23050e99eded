"""All-pairs correlation of two feature maps and the lookups into it (paper section 3.1; specification section 3).

The correlation of pixel p of one frame with pixel q of the other is dot(a[p], b[q]) / sqrt(channels). It has
four levels, each pooled 2x2 over q, and a lookup reads a 7 x 7 window around a centre at every level.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
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
        return torch.cat([_lookup(v, c) for v, c in zip(self._volumes, centres, strict=True)], dim=1)


def _lookup(volume: Tensor, centres: Tensor) -> Tensor:
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
