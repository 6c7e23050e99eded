"""Work in bands of rows: convolutions see only so far, so a part of the rows can be computed from a part of the rows.

What has the size of the frame times hundreds of channels then never lives as a whole. It is faster too where memory
is got from the system in large pieces: a CPU spends as long on the first touch of 60 MB as on a 3x3 convolution of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

LEAST_HALOS = 8
"""How many halos a band has at least: with less, over a fifth of the work would go into them."""


def suitable_band_bytes(device: torch.device) -> int:
    """How large a band of the widest activation should be."""
    # A GPU wants much work at once, and its allocator keeps memory.
    return 12 * 2**20 if device.type == "cpu" else 256 * 2**20


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
    for start, stop in pairwise(_edges(rows, row_bytes, band_bytes, halo)):
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


def _edges(rows: int, row_bytes: int, band_bytes: int, halo: int) -> list[int]:
    # Gradients need every activation anyway.
    count = 1 if torch.is_grad_enabled() else _count(rows, row_bytes, band_bytes, halo)
    return [rows * i // count for i in range(count + 1)]


def _count(rows: int, row_bytes: int, band_bytes: int, halo: int) -> int:
    wanted = max(band_bytes // row_bytes, LEAST_HALOS * halo)
    return max(1, round(rows / wanted))


def in_place_pays() -> bool:
    """Not where gradients need what would be overwritten, nor where a compiler fuses what reads and writes memory."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling())


def small_parts(x: Tensor) -> tuple[Tensor, ...]:
    """Bands of x [b, c, h, w], views, so small that what is computed of one stays in caches."""
    row_bytes = x[:, :, 0].numel() * x.element_size()
    return x.split(max(1, suitable_band_bytes(x.device) // 8 // row_bytes), dim=2)
