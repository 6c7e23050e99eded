"""Finds cuts: places where a frame shows what the one before does not, by more than the motion around explains.

Both frames of a gap are made small. Each block of one is searched for in the other, nearby, by normalised
cross-correlation: a block that moves, or gets lighter, is still found. Blocks that do not change are left out, so that
a picture with still borders or insets is judged by the rest of it. The share that is not found is compared with that of
the neighbouring gaps: in fast motion many blocks are not found either, but this is so in every gap.
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
"""Pixels of the small pictures, each way."""
BLOCK = 8
"""Pixels of a block, each way."""
SEARCH_RADIUS = 12
"""How many pixels away, each way, a block is searched for."""
LEAST_CHANGE = 0.01
"""A block whose pixels change by less than this on average has no weight. With twice this change it has all of it."""
MOST_TEXTURE = 0.03
"""The weight of a block grows with the standard deviation of its pixels up to this, as plain blocks are found
anywhere."""
FOUND_SHARE = 0.05
"""This share of the picture counts as found in any case, so that a few blocks that are not found make little change."""
LIGHT_WEIGHT = 0.1
"""Weight of the difference between the two whole pictures, at equal brightness and contrast."""
NEIGHBOURS = 2
"""With how many gaps on either side a gap is compared."""
NEIGHBOURHOOD = 4
"""How far away these neighbours may be: frames may be repeated, and gaps before repeats are no neighbours."""
NEIGHBOUR_SHARE = 0.8
"""This much of what the worst neighbour loses is explained by motion."""
MOST_EXPLAINED = 0.36
"""Motion explains no more than this. So there is a cut even between other cuts, when shots are short."""
REPEAT_LOSS = 0.005
"""A gap that loses less than this is before a repeated frame."""
PLAIN = 1e-4
"""The product of two blocks' lengths from which on they have a texture to compare."""
LEAST_CUT_CHANGE = 0.06
"""The parts that change must change by more than this on average to be a cut, where both pictures have the contrast of
daylight. The first frame of a fade from black, for example, changes by less."""
DAYLIGHT = 0.15
"""The standard deviation of such a picture. At night or in fog all changes are smaller, and so are those at a cut."""
FLAT = 0.005
"""A picture with a standard deviation below this is a card of one colour: a change to it is judged as in daylight."""


class GapMeasure(NamedTuple):
    """How much the two frames of a gap differ, each 0..1."""

    lost: float
    """The share of either picture that is not found in the other one."""
    change: float
    """The mean difference of the pixels in those blocks that change, as it would be in daylight."""


@dataclass(frozen=True)
class CutDetector:
    """Marks the gaps that are cuts."""

    threshold: float = THRESHOLD
    """How much more a gap must lose than its neighbours explain, 0..1. A lower threshold finds more cuts."""

    def __call__(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The sources with their cuts marked. It reads two sources ahead where all frames differ, and four at most."""
        waiting: deque[tuple[Source, GapMeasure]] = deque()
        before: deque[GapMeasure] = deque(maxlen=NEIGHBOURHOOD)
        previous = None
        for source in sources:
            small = small_picture(source.frame)
            waiting.append((source, GapMeasure(0, 0) if previous is None else measure_gap(previous, small)))
            previous = small
            while waiting and _can_be_judged(waiting):
                yield self._marked(waiting, before)
        while waiting:
            yield self._marked(waiting, before)

    def _marked(self, waiting: deque[tuple[Source, GapMeasure]], before: deque[GapMeasure]) -> Source:
        source, gap = waiting.popleft()
        around = _nearest(reversed(before)) + _nearest(after for _, after in waiting)
        before.append(gap)
        expected = min(NEIGHBOUR_SHARE * max(around, default=0.0), MOST_EXPLAINED)
        is_cut = gap.lost - expected > self.threshold and gap.change > LEAST_CUT_CHANGE
        return source._replace(gap=Gap.CUT) if is_cut else source


def _can_be_judged(waiting: deque[tuple[Source, GapMeasure]]) -> bool:
    """Whether enough gaps behind the first one are known."""
    return len(waiting) > NEIGHBOURHOOD or len(_nearest(gap for _, gap in list(waiting)[1:])) == NEIGHBOURS


def _nearest(gaps: Iterable[GapMeasure]) -> list[float]:
    """How much the first few gaps lose, without those before repeated frames."""
    return [gap.lost for gap in islice(gaps, NEIGHBOURHOOD) if gap.lost > REPEAT_LOSS][:NEIGHBOURS]


def small_picture(frame: Tensor) -> Tensor:
    """A frame made small: [h, w, c], float 0..1 or uint8 -> [3, 64, 64], 0..1, on the CPU."""
    step = max(1, min(frame.shape[:2]) // (4 * SIDE))
    pixels = frame[::step, ::step, :3].permute(2, 0, 1).float()
    small = functional.adaptive_avg_pool2d(pixels[None], SIDE)[0].cpu()
    return small if frame.is_floating_point() else small / 255


def measure_gap(picture0: Tensor, picture1: Tensor) -> GapMeasure:
    """Compares two small pictures [3, 64, 64]."""
    difference = functional.avg_pool2d((picture0 - picture1).abs().mean(dim=0)[None], BLOCK).flatten()
    changed = (difference / LEAST_CHANGE - 1).clamp(0, 1)
    if not bool(changed.any()):
        return GapMeasure(0.0, 0.0)
    lost = (_lost(picture0, picture1, changed) + _lost(picture1, picture0, changed)) / 2
    light = (_evenly_lit(picture0) - _evenly_lit(picture1)).abs().mean()
    change = (difference * changed).sum() / changed.sum() * DAYLIGHT / _contrast(picture0, picture1)
    return GapMeasure(float(lost + LIGHT_WEIGHT * light), float(change))


def _contrast(picture0: Tensor, picture1: Tensor) -> float:
    """The lower one of both pictures, at most that of daylight."""
    lower = min(float(picture.std(dim=(1, 2)).mean()) for picture in (picture0, picture1))
    return DAYLIGHT if lower < FLAT else min(lower, DAYLIGHT)


def _lost(picture0: Tensor, picture1: Tensor, changed: Tensor) -> Tensor:
    """The share of picture1 that is not found in picture0. changed: the weight of each block, 0..1."""
    # The variance of a plain place is a small difference of large sums, which float32 does not have.
    picture0, picture1 = picture0.double(), picture1.double()
    blocks = functional.unfold(picture1[None], BLOCK, stride=BLOCK)[0].T.unflatten(1, (3, BLOCK, BLOCK))
    blocks = blocks - blocks.mean(dim=(2, 3), keepdim=True)
    lengths = blocks.flatten(1).norm(dim=1)
    # The blocks have no mean colour any more, so the mean colours of picture0 make no difference to the products.
    products = functional.conv2d(picture0[None], blocks)[0]
    means, squares = (functional.avg_pool2d(picture, BLOCK, stride=1) for picture in (picture0, picture0**2))
    places = ((squares - means**2).clamp(min=0).sum(dim=0) * BLOCK**2).sqrt()
    likeness = products / (lengths[:, None, None] * places).clamp(min=PLAIN)
    likeness = likeness.flatten(1).masked_fill(_too_far(), 0).amax(dim=1)
    weights = (lengths / blocks[0].numel() ** 0.5).clamp(max=MOST_TEXTURE) * changed
    return ((1 - likeness) * weights).sum() / (weights.sum() + FOUND_SHARE * len(weights) * MOST_TEXTURE)


@cache
def _too_far() -> Tensor:
    """[blocks, places]: True where a place is outside of the search radius of a block."""
    steps = torch.arange(SIDE - BLOCK + 1)
    places = torch.cartesian_prod(steps, steps)
    blocks = torch.cartesian_prod(steps[::BLOCK], steps[::BLOCK])
    return (blocks[:, None] - places[None]).abs().amax(dim=2) > SEARCH_RADIUS


def _evenly_lit(picture: Tensor) -> Tensor:
    """A coarser picture with mean 0 in each colour and standard deviation 1."""
    coarse = functional.avg_pool2d(picture[None], 2)[0]
    return (coarse - coarse.mean(dim=(1, 2), keepdim=True)) / (coarse.std() + 0.02)
