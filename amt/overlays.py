"""Subtitles and logos: thin things that stand still on the screen while the picture behind them moves.

A network moves them with the picture, and shows them twice. So they are taken out of both frames before motion is
found, and put back into what is made.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST = 128
"""Pixels of the longer side. Letters on smaller pictures are no larger than the texture."""
SAME = 6 / 255
"""Compression changes what stands still by less than this."""
EDGE = 0.05
"""The least difference of brightness between the pixels of an edge."""
CORNER = 0.001
"""The least strength of the corners of a letter; its edges are steep."""
MOVING = 0.4
"""The least share of the edges around that must move. Where less moves, what stands still is the scene, and
something may fly past in front of it."""
CELL = 4
"""Side in pixels of the cells in which all but the pixels themselves is looked at."""
COARSE = 8
"""Side in cells of those in which the surroundings are averaged."""


def find_overlay(frame0: Tensor, frame1: Tensor) -> Tensor | None:
    """Where thin things stand still in front of motion: frames [b, c, h, w] -> [b, 1, h, w], 0 or 1.

    None: nowhere. Of larger frames only a CPU says so; the host would have to wait for the answer of a GPU.
    """
    size = (frame0.shape[-2], frame0.shape[-1])
    if max(size) < SMALLEST:
        return None
    difference = (frame0[:, :3] - frame1[:, :3]).abs().amax(dim=1, keepdim=True)
    same = (functional.avg_pool2d(difference, 3, 1, 1) < SAME).float()
    light = frame0[:, :3].mean(dim=1, keepdim=True)
    across = functional.pad(light[..., :, 1:] - light[..., :, :-1], (0, 1))
    down = functional.pad(light[..., 1:, :] - light[..., :-1, :], (0, 0, 0, 1))
    edges = (torch.maximum(across.abs(), down.abs()) > EDGE).float()
    still = same * edges
    of_edges = (edges, still, across * across * still, down * down * still, across * down * still)
    edges, still, *products = _cells(torch.cat(of_edges, dim=1)).split(1, dim=1)
    # An eighth of the frame to each side.
    coarse = functional.avg_pool2d(torch.cat((edges, still), dim=1), COARSE, ceil_mode=True, count_include_pad=False)
    around = _mean(coarse, *(1 + 2 * (side // (8 * CELL * COARSE)) for side in size))
    around = functional.interpolate(around, scale_factor=COARSE)[..., : edges.shape[-2], : edges.shape[-1]]
    moving = 1 - around[:, 1:] / (around[:, :1] + 1e-6) > MOVING
    letters = _highest((_corners(*products) > CORNER) * moving.float(), 5)
    if letters.device.type == "cpu" and not bool(letters.any()):
        return None
    overlay = functional.interpolate(letters, scale_factor=CELL)[..., : size[0], : size[1]] * same
    thickest = 1 + 2 * max(1, max(size) // (64 * CELL))
    covered = (_cells(overlay) > 0.5).float()
    thick = _highest(1 - _highest(1 - covered, thickest), thickest + 2)
    thin = functional.interpolate(1 - thick, scale_factor=CELL)[..., : size[0], : size[1]]
    return _highest(overlay * thin, 3)


def without(frame: Tensor, overlay: Tensor) -> Tensor:
    """The frame with what is around the overlay in its place."""
    kept = 1 - overlay
    cells = _mean(_cells(torch.cat((frame * kept, kept), dim=1)), 5, 5)
    filled = functional.interpolate(cells, scale_factor=CELL, mode="bilinear")[
        ..., : frame.shape[-2], : frame.shape[-1]
    ]
    return torch.where(overlay > 0, filled[:, :-1] / (filled[:, -1:] + 1e-4), frame)


def _corners(xx: Tensor, yy: Tensor, xy: Tensor) -> Tensor:
    """How strong edges are in every direction: an edge along the motion stands still as well.

    The smaller eigenvalue of the structure tensor (Shi and Tomasi, 1994), from the means of the products of the
    derivatives in cells.
    """
    xx, yy, xy = (_mean(product, 3, 3) for product in (xx, yy, xy))
    return (xx + yy) / 2 - (((xx - yy) / 2) ** 2 + xy**2).sqrt()


def _cells(values: Tensor) -> Tensor:
    """The means in cells; at the right and lower edge of what is there."""
    return functional.avg_pool2d(values, CELL, ceil_mode=True, count_include_pad=False)


def _highest(values: Tensor, side: int) -> Tensor:
    """The highest value in the square of this odd side around each pixel."""
    half = side // 2
    return functional.max_pool2d(functional.max_pool2d(values, (side, 1), 1, (half, 0)), (1, side), 1, (0, half))


def _mean(values: Tensor, rows: int, columns: int) -> Tensor:
    """The mean in the rectangle of these odd sides around each cell; smaller at the edges."""
    padding = (rows // 2, columns // 2)
    return functional.avg_pool2d(values, (rows, columns), 1, padding, count_include_pad=False)
