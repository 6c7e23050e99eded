"""Work in bands of rows: convolutions see only so far, so a part of the rows can be computed from a part of the rows.

So what has the size of the frame times hundreds of channels never lives as a whole. It is faster too where memory is
got from the system in large pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..network.config import Config

LEAST_HALOS = 8
"""How many halos a band has at least: with less, over a fifth of the work would go into them."""
DECODER_CONVOLUTIONS = 6
DECODER_HALO = DECODER_CONVOLUTIONS + 1
"""How many rows of its input further than itself a row of a decoder's output sees: six 3x3 convolutions and a
transposed one."""


def merge_halo(config: Config) -> int:
    """How many rows of the half resolution further than itself a row of the merged frame sees."""
    return (config.merge_kernel - 1) // 2


def update_halo(correlation_scale: int) -> int:
    """How many rows of the correlation further than itself a row of a full-scale update's deltas sees.

    A 7x7 and six 3x3 convolutions of the flow, or the enlargement of the correlation and fewer.
    """
    return -(-9 // correlation_scale) + 1


@dataclass(frozen=True)
class Band:
    """A part of the rows."""

    rows: slice
    """What to compute from."""
    above: int
    """How many of the rows, at their start, are halo: there for the sake of the others."""
    below: int
    """The same at their end."""


def in_bands(
    compute: Callable[[Band], tuple[Tensor, ...]], rows: int, *, row_bytes: int, band_bytes: int, halo: int
) -> tuple[Tensor, ...]:
    """What `compute` gives of all rows, computed in bands where rows are many.

    compute: gives [b, c, h, w] tensors for a band without its halos.
    row_bytes: of a row of the widest activation. band_bytes: how large that activation may be in a band, unless it
    takes more to keep the work on halos small. halo: how many rows further a row of the result sees.
    """
    results: tuple[Tensor, ...] = ()
    count = _count(rows, row_bytes, band_bytes, halo)
    for start, stop in pairwise(rows * i // count for i in range(count + 1)):
        first, last = max(0, start - halo), min(rows, stop + halo)
        parts = compute(Band(slice(first, last), start - first, last - stop))
        if stop - start == rows:
            return parts
        # Into their places at once: parts that wait for the others would lie between what comes and goes meanwhile,
        # and leave holes in the process's memory.
        results = results or tuple(_with_rows(part, part.shape[2] // (stop - start) * rows) for part in parts)
        for result, part in zip(results, parts, strict=True):
            scale = result.shape[2] // rows
            result[:, :, start * scale : stop * scale] = part
    return results


def _with_rows(x: Tensor, rows: int) -> Tensor:
    """Memory for a tensor like x [b, c, h, w], with so many rows."""
    memory_format = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
    shape = (*x.shape[:2], rows, x.shape[3])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format)


def without_rows(x: Tensor, above: int, below: int) -> Tensor:
    """A view of x [b, c, h, w] without so many rows at its start and its end."""
    return x[:, :, above : x.shape[2] - below]


def largest_band(rows: int, *, row_bytes: int, band_bytes: int, halo: int) -> int:
    """How many rows, halos and all, `in_bands` computes at once."""
    count = _count(rows, row_bytes, band_bytes, halo)
    return min(rows, -(-rows // count) + 2 * halo)


def _count(rows: int, row_bytes: int, band_bytes: int, halo: int) -> int:
    wanted = max(band_bytes // row_bytes, LEAST_HALOS * halo)
    return max(1, round(rows / wanted))
