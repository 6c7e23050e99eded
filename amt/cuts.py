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


@dataclass(frozen=True)
class CutDetector:
    """Marks the gaps that are cuts."""

    threshold: float = THRESHOLD
    """How much more must be lost in a gap than in those around it, 0..1. A lower one finds more cuts."""

    def __call__(self, sources: Iterable[Source]) -> Iterator[Source]:
        """Takes sources a few ahead of those it yields: two where all frames differ, four at the most."""
        waiting: deque[tuple[Source, float]] = deque()
        before: deque[float] = deque(maxlen=WITHIN)
        previous = None
        for source in sources:
            small = small_picture(source.frame)
            waiting.append((source, 0.0 if previous is None else novelty(previous, small)))
            previous = small
            while waiting and _known(waiting):
                yield self._marked(waiting, before)
        while waiting:
            yield self._marked(waiting, before)

    def _marked(self, waiting: deque[tuple[Source, float]], before: deque[float]) -> Source:
        source, lost = waiting.popleft()
        around = [*_nearest(reversed(before)), *_nearest(lost for _, lost in waiting)]
        before.append(lost)
        expected = min(SHARE_OF_NEIGHBOURS * max(around, default=0.0), MOST_OF_MOTION)
        return source._replace(gap=Gap.CUT) if lost - expected > self.threshold else source


def _known(waiting: deque[tuple[Source, float]]) -> bool:
    """Whether the gaps behind the first one suffice to judge it."""
    return len(waiting) > WITHIN or sum(lost > NOTHING for _, lost in list(waiting)[1:]) >= NEIGHBOURS


def _nearest(gaps: Iterable[float]) -> list[float]:
    """The first few that are no repeats."""
    return [lost for lost in list(gaps)[:WITHIN] if lost > NOTHING][:NEIGHBOURS]


def small_picture(frame: Tensor) -> Tensor:
    """[h, w, c], float 0..1 or uint8 -> [3, 64, 64], 0..1, on the CPU."""
    step = max(1, min(frame.shape[:2]) // (4 * SIDE))
    pixels = frame[::step, ::step, :3].permute(2, 0, 1).float()
    small = functional.adaptive_avg_pool2d(pixels[None], SIDE)[0].cpu()
    return small if frame.is_floating_point() else small / 255


def novelty(picture0: Tensor, picture1: Tensor) -> float:
    """How much of either picture is not found in the other, 0..1."""
    difference = functional.avg_pool2d((picture0 - picture1).abs().mean(dim=0)[None], BLOCK).flatten()
    changed = (difference / CHANGED - 1).clamp(0, 1)
    if not bool(changed.any()):
        return 0.0
    lost = (_lost(picture0, picture1, changed) + _lost(picture1, picture0, changed)) / 2
    light = (_evenly_lit(picture0) - _evenly_lit(picture1)).abs().mean()
    return float(lost + LIGHT * light)


def _lost(picture0: Tensor, picture1: Tensor, changed: Tensor) -> Tensor:
    """How much of picture1 is not found in picture0."""
    there, _ = _patches(picture0, stride=1)
    blocks, deviations = _patches(picture1, stride=BLOCK)
    likeness = (blocks @ there.T).masked_fill(_too_far(), 0).amax(dim=1)
    weights = deviations.clamp(max=TEXTURED) * changed
    return ((1 - likeness) * weights).sum() / (weights.sum() + FEW * len(weights) * TEXTURED)


def _patches(picture: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """All blocks, each less its mean colour and of length 1, [blocks, values]; and the deviations of their values."""
    patches = functional.unfold(picture[None], BLOCK, stride=stride)[0].T.unflatten(1, (3, -1))
    patches = (patches - patches.mean(dim=2, keepdim=True)).flatten(1)
    lengths = patches.norm(dim=1)
    return patches / (lengths[:, None] + 1e-6), lengths / patches.shape[1] ** 0.5


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
