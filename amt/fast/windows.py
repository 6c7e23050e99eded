"""Where windows lie among the target's features, for lookups in plain PyTorch."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from ..network.correlation import LEVELS, RADIUS, WINDOW

GAP = WINDOW + 1
"""Windows have 8 x 8 whole positions; one that touches its level nowhere lies within 8 zeros beside it."""


class Atlas:
    """All levels of the target maps in one plane for each map, with zeros between them.

    So a window is 8 x 8 neighbours in the plane, wherever it lies, and no condition asks for borders. Beside level 0
    there is level 1, with level 2 below it and level 3 beside that. A plane is stored column after column, because the
    first window index steps x. Pooling is linear: level k of a correlation is that with the k times pooled map.
    """

    def __init__(self, maps: Tensor, *, largest_box: int = GAP) -> None:
        """maps [n, c, h, w]. largest_box: the side of the largest box that is read from where a window starts."""
        levels = [maps]
        while len(levels) < LEVELS:
            levels.append(functional.avg_pool2d(levels[-1], 2))
        (h0, w0), (h1, w1), (h2, w2), (_, w3) = (level.shape[2:] for level in levels)
        self.rows = max(h0, h1 + GAP + h2) + GAP
        self.rows += -self.rows % 8  # GPUs multiply matrices fastest where rows are whole multiples of 16 bytes
        self.columns = GAP + w0 + GAP + max(w1, w2 + GAP + w3) + GAP
        n, c = maps.shape[:2]
        self.area = self.columns * self.rows
        beyond = (largest_box - GAP) * (self.rows + 1)
        self.pixels = maps.new_zeros(n * self.area + beyond, c)
        self.planes = self.pixels[: n * self.area].view(n, self.columns, self.rows, c)
        right, below, last = GAP + w0 + GAP, h1 + GAP, w2 + GAP
        for level, x, y in zip(levels, (GAP, right, right, right + last), (0, 0, below, below), strict=True):
            height, width = level.shape[2:]
            self.planes[:, x : x + width, y : y + height] = rearrange(level, "n c y x -> n x y c")
        # The same for all levels at once, made of what a device can count by itself: a copy would be waited for.
        level = torch.arange(LEVELS, device=maps.device)
        x = (level > 0) * (w0 + GAP) + (level > 2) * last + (GAP - RADIUS)
        y = (level > 1) * below - RADIUS
        self._origins = torch.stack((x, y), dim=1)[:, None]
        sizes = torch.stack((torch.full_like(level, w0) >> level, torch.full_like(level, h0) >> level), dim=1)
        self._ends = (sizes + RADIUS)[:, None]
        self._scales = torch.exp2(-level)[:, None, None]

    def locate(self, centres: Tensor) -> tuple[Tensor, Tensor]:
        """The windows around centres [pixels, 2] at every level: where they start, and how far behind that they are.

        Both [4, pixels, 2]: the first in whole positions of a plane, the second from 0 to 1.
        """
        # At these limits and beyond them every entry of a window lies outside of its level.
        centres = (self._scales * centres).nan_to_num_().clamp_(min=-RADIUS - 1)
        centres = torch.minimum(centres, self._ends)
        first = centres.floor()
        return first.long().add_(self._origins), centres.sub_(first)


def box_of(side: int, rows: int, device: torch.device) -> Tensor:
    """What lies in a box of this side, counted from its first pixel, in a plane of so many rows: [side * side]."""
    step = torch.arange(side, device=device)
    return (step[:, None] * rows + step).flatten()


def interpolate(products: Tensor, fraction: Tensor) -> Tensor:
    """[..., 64] at whole positions, x first -> [..., 49] at `fraction` [..., 2] behind the first of them."""
    x, y = fraction[..., None, None].unbind(-3)
    products = products.float().unflatten(-1, (GAP, GAP))
    products = torch.lerp(products[..., :-1, :], products[..., 1:, :], x)
    return torch.lerp(products[..., :-1], products[..., 1:], y).flatten(-2)
