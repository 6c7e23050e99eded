"""Frames that show the one before again: drawings shown for two frames, or a slow source in a fast file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from .sources import Gap, Source

MOST_REPEATS = 3
"""In animation a drawing is shown for up to four frames. A picture that stands still for longer is meant to do so."""
BLOCK = 16
"""Side in pixels of the blocks whose means are compared."""
TOLERANCE = 1.5 / 255
"""Compression changes a repeated frame a little. The mean of a block changes by no more than this."""


def exact_repeats(sources: Iterable[Source]) -> Iterator[Source]:
    """Marks the frames that equal the frame before them, bit for bit."""
    previous = None
    for source in sources:
        if previous is not None and torch.equal(previous, source.frame):
            source = source._replace(gap=Gap.REPEAT)
        yield source
        previous = source.frame


def without_repeats(sources: Iterable[Source]) -> Iterator[Source]:
    """Drops frames that look like the one before, up to three in a row, so that the next motion fills their time.

    Repeats stay, and are marked, where the picture stands still for longer, and before a cut: without them the cut
    would come too early.
    """
    blocks = None
    standstill = False
    repeats: list[Source] = []
    for source in sources:
        shown, blocks = blocks, _blocks(source.frame)
        if shown is not None and source.gap is not Gap.CUT and _look_alike(shown, blocks):
            # The next frame is compared with the first of the repeats: a slow fade is no standstill.
            blocks = shown
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


def closing_repeats(first: Tensor, backwards: Iterable[Tensor]) -> int:
    """How many frames at the end of a loop show its first one again. Without them it does not stand still there.

    backwards: the frames of the loop, from the last one on.
    0 where there are more than three: a picture that stands still for longer is meant to do so.
    """
    blocks = _blocks(first)
    alike = 0
    for frame in backwards:
        if not _look_alike(blocks, _blocks(frame)):
            return alike
        alike += 1
        if alike > MOST_REPEATS:
            return 0
    return alike


def _look_alike(blocks0: Tensor, blocks1: Tensor) -> bool:
    return bool((blocks0 - blocks1).abs().max() <= TOLERANCE)


def _blocks(frame: Tensor) -> Tensor:
    """The means of blocks: [h, w, c], float 0..1 or uint8 -> [1, c, rows, columns], 0..1."""
    pixels = frame.permute(2, 0, 1)[None].float()
    means = functional.avg_pool2d(pixels, BLOCK, ceil_mode=True)
    return means if frame.is_floating_point() else means / 255
