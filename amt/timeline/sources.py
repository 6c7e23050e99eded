"""The source frames as the engine takes them: each with what lies between it and the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from torch import Tensor

from .plan import End


class Gap(Enum):
    """What lies between two frames."""

    MOTION = "motion"
    CUT = "cut"
    REPEAT = "repeat"
    """Nothing: the later one is the earlier one again."""


class Source(NamedTuple):
    """A source frame."""

    position: int
    """From 0 and ascending."""
    frame: Tensor
    """[h, w, c], float 0..1 or uint8."""
    gap: Gap
    """What lies between it and the source before it; of the first it says nothing."""


def moving(frames: Iterable[Tensor]) -> Iterator[Source]:
    """All frames, with motion between them."""
    return (Source(index, frame, Gap.MOTION) for index, frame in enumerate(frames))


def closed(sources: Iterable[Source], end: End, beginning: Tensor | None = None) -> Iterator[Source]:
    """The sources, and behind the last one what follows it: nothing, that frame again, or the first one.

    beginning: the first frame, where that is not the first of these sources.
    """
    last = None
    for source in sources:
        beginning = source.frame if beginning is None else beginning
        last = source
        yield source
    if last is None or beginning is None:
        return
    if end == "hold":
        yield Source(last.position + 1, last.frame, Gap.REPEAT)
    elif end == "loop":
        yield Source(last.position + 1, beginning, Gap.MOTION)
