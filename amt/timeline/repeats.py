"""Frames that show the one before again: drawings shown for two frames, or a slow source in a fast file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from .sources import Gap, Source

MOST_REPEATS = 3
"""Drawings are shown for two, three or four frames. What stands still for longer is meant to."""
BLOCK = 16
ALIKE = 1.5 / 255
"""Compression changes repeated frames a little: the mean of no block by more than this."""


def exact_repeats(sources: Iterable[Source]) -> Iterator[Source]:
    """Marks the frames that are the one before, bit for bit."""
    previous = None
    for source in sources:
        if previous is not None and torch.equal(previous, source.frame):
            source = source._replace(gap=Gap.REPEAT)
        yield source
        previous = source.frame


def without_repeats(sources: Iterable[Source]) -> Iterator[Source]:
    """Drops frames that look like the one before, up to three in a row, so that the next motion fills their time.

    Those of a longer standstill stay, and so do those before a cut, which is where the cut belongs.
    """
    blocks = None
    standstill = False
    repeats: list[Source] = []
    for source in sources:
        shown, blocks = blocks, _blocks(source.frame)
        if shown is not None and source.gap is not Gap.CUT and bool((shown - blocks).abs().max() <= ALIKE):
            blocks = shown  # compared with the first of them, not with one another: a slow fade is no standstill
            repeats.append(source._replace(gap=Gap.REPEAT))
            standstill = standstill or len(repeats) > MOST_REPEATS
        else:
            if source.gap is not Gap.CUT:
                repeats.clear()
            repeats.append(source)
            standstill = False
        if standstill or repeats[-1] is source:
            yield from repeats
            repeats.clear()
    yield from repeats


def _blocks(frame: Tensor) -> Tensor:
    """[h, w, c] -> the means of blocks, 0..1."""
    pixels = frame.permute(2, 0, 1)[None].float()
    means = functional.avg_pool2d(pixels, BLOCK, ceil_mode=True)
    return means if frame.is_floating_point() else means / 255
