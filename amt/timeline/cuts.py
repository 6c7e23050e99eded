"""Finds cuts: frames that show what the one before does not, by more than the motion around them explains.

Both frames are looked at as small pictures. Each block of one is looked for in the other, nearby, by normalised
cross-correlation: motion moves a block and light scales it, but it is found again. Blocks that do not change say
nothing, so that pictures with still borders or insets are judged by the rest. What is not found is compared with
that of the gaps around: fast motion loses much as well, but in every gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .sources import Gap, Source

# The constants were chosen on the clips of tests/test_cuts.py, so that its cuts and its other gaps are furthest apart.
THRESHOLD = 0.12
SIDE = 64
"""Of the small pictures."""
BLOCK = 8
REACH = 12
"""How far a block is looked for, each way."""
CHANGED = 0.01
"""A block whose pixels change less than this on average says nothing; one that changes twice as much counts in full."""
TEXTURED = 0.03
"""A block counts by the deviation of its pixels, up to this: plain ones are found anywhere."""
FEW = 0.05
"""What few blocks lose counts for less: as if this share of the picture had been found."""
LIGHT = 0.1
"""Weight of the difference between the two pictures as a whole, at equal brightness and contrast."""
NEIGHBOURS = 2
"""How many gaps are compared with on either side..."""
WITHIN = 4
"""... and how far away: frames may be repeated, and repeats say nothing."""
SHARE_OF_NEIGHBOURS = 0.8
MOST_OF_MOTION = 0.36
"""However much is lost around it, a gap that loses this much more than the threshold is a cut: shots may be short."""
NOTHING = 0.005
SLIGHT = 0.06
"""A change of less than this, on average where there is any, is no cut: the first frame of a fade from black, say."""


class Novelty(NamedTuple):
    """What two frames in a row tell of the gap between them, each 0..1."""

    lost: float
    """How much of either is not found in the other."""
    change: float
    """How different their pixels are, where they are."""


@dataclass(frozen=True)
class CutDetector:
    """Marks the gaps that are cuts."""

    threshold: float = THRESHOLD
    """How much more must be lost in a gap than in those around it, 0..1. A lower one finds more cuts."""

    def __call__(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Takes sources a few ahead of those it yields: two where all frames differ, four at the most."""
        waiting: deque[tuple[Source, Novelty]] = deque()
        before: deque[Novelty] = deque(maxlen=WITHIN)
        previous = None
        for source in sources:
            small = small_picture(source.frame)
            waiting.append((source, Novelty(0, 0) if previous is None else novelty(previous, small)))
            previous = small
            while waiting and _known(waiting):
                yield self._marked(waiting, before)
        while waiting:
            yield self._marked(waiting, before)

    def _marked(self, waiting: deque[tuple[Source, Novelty]], before: deque[Novelty]) -> Source:
        source, gap = waiting.popleft()
        around = _nearest(reversed(before)) + _nearest(after for _, after in waiting)
        before.append(gap)
        expected = min(SHARE_OF_NEIGHBOURS * max(around, default=0.0), MOST_OF_MOTION)
        is_cut = gap.lost - expected > self.threshold and gap.change > SLIGHT
        return source._replace(gap=Gap.CUT) if is_cut else source


def _known(waiting: deque[tuple[Source, Novelty]]) -> bool:
    """Whether the gaps behind the first one suffice to judge it."""
    return len(waiting) > WITHIN or len(_nearest(gap for _, gap in list(waiting)[1:])) == NEIGHBOURS


def _nearest(gaps: Iterable[Novelty]) -> list[float]:
    """What is lost in the first few that are no repeats."""
    return [gap.lost for gap in islice(gaps, WITHIN) if gap.lost > NOTHING][:NEIGHBOURS]


def small_picture(frame: Tensor) -> Tensor:
    """[h, w, c], float 0..1 or uint8 -> [3, 64, 64], 0..1, on the CPU."""
    step = max(1, min(frame.shape[:2]) // (4 * SIDE))
    pixels = frame[::step, ::step, :3].permute(2, 0, 1).float()
    small = functional.adaptive_avg_pool2d(pixels[None], SIDE)[0].cpu()
    return small if frame.is_floating_point() else small / 255


def novelty(picture0: Tensor, picture1: Tensor) -> Novelty:
    """How different the later of two small pictures is."""
    difference = functional.avg_pool2d((picture0 - picture1).abs().mean(dim=0)[None], BLOCK).flatten()
    changed = (difference / CHANGED - 1).clamp(0, 1)
    if not bool(changed.any()):
        return Novelty(0.0, 0.0)
    lost = (_lost(picture0, picture1, changed) + _lost(picture1, picture0, changed)) / 2
    light = (_evenly_lit(picture0) - _evenly_lit(picture1)).abs().mean()
    return Novelty(float(lost + LIGHT * light), float((difference * changed).sum() / changed.sum()))


def _lost(picture0: Tensor, picture1: Tensor, changed: Tensor) -> Tensor:
    """How much of picture1 is not found in picture0."""
    blocks = functional.unfold(picture1[None], BLOCK, stride=BLOCK)[0].T.unflatten(1, (3, BLOCK, BLOCK))
    blocks = blocks - blocks.mean(dim=(2, 3), keepdim=True)
    lengths = blocks.flatten(1).norm(dim=1)
    # As the blocks have no mean colour, they need not be compared with places less theirs: it comes to the same.
    products = functional.conv2d(picture0[None], blocks)[0]
    means, squares = (functional.avg_pool2d(picture, BLOCK, stride=1) for picture in (picture0, picture0**2))
    places = ((squares - means**2).clamp(min=0).sum(dim=0) * BLOCK**2).sqrt()
    likeness = products / (lengths[:, None, None] * places + 1e-6)
    likeness = likeness.flatten(1).masked_fill(_too_far(), 0).amax(dim=1)
    weights = (lengths / blocks[0].numel() ** 0.5).clamp(max=TEXTURED) * changed
    return ((1 - likeness) * weights).sum() / (weights.sum() + FEW * len(weights) * TEXTURED)


@cache
def _too_far() -> Tensor:
    """Which places [blocks, places] a block is not looked for at."""
    steps = torch.arange(SIDE - BLOCK + 1)
    places = torch.cartesian_prod(steps, steps)
    blocks = torch.cartesian_prod(steps[::BLOCK], steps[::BLOCK])
    return (blocks[:, None] - places[None]).abs().amax(dim=2) > REACH


def _evenly_lit(picture: Tensor) -> Tensor:
    """A coarser picture of mean 0 in each colour, and deviation 1."""
    coarse = functional.avg_pool2d(picture[None], 2)[0]
    return (coarse - coarse.mean(dim=(1, 2), keepdim=True)) / (coarse.std() + 0.02)
