"""The source frames as the engine takes them: each with what lies between it and the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from torch import Tensor

from .plan import End


class Gap(Enum):
    """What lies between two source frames in a row."""

    MOTION = "motion"
    CUT = "cut"
    REPEAT = "repeat"
    """The later frame is the earlier one again."""


class Source(NamedTuple):
    """A source frame."""

    position: int
    """From 0 and ascending."""
    frame: Tensor
    """[h, w, c], float 0..1 or uint8."""
    gap: Gap
    """What lies between it and the source before it. For the first one it has no meaning."""
    begins_part: bool = False
    """Whether a part of the output begins with it (`segments`)."""


def as_sources(frames: Iterable[Tensor]) -> Iterator[Source]:
    """Frames [h, w, c] as sources with motion between all of them."""
    return (Source(index, frame, Gap.MOTION) for index, frame in enumerate(frames))


def with_end(sources: Iterable[Source], end: End, first_frame: Tensor | None = None) -> Iterator[Source]:
    """The sources, and then what follows the last one: nothing, the last frame again, or the first frame.

    first_frame: that of the whole clip, where these sources are a later part of it.
    """
    last = None
    for source in sources:
        first_frame = source.frame if first_frame is None else first_frame
        last = source
        yield source
    if last is None or first_frame is None:
        return
    if end == "hold":
        yield Source(last.position + 1, last.frame, Gap.REPEAT)
    elif end == "loop":
        yield Source(last.position + 1, first_frame, Gap.MOTION)
