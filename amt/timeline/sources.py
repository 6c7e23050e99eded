"""The source frames as the engine takes them: each with what lies between it and the one before."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from enum import Enum
from fractions import Fraction
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

    position: Fraction | int
    """Where it lies, ascending: counted in frames from 0, or a time. The space between two may be of any length."""
    frame: Tensor
    """[h, w, c], float 0..1 or uint8."""
    gap: Gap
    """What lies between it and the source before it. For the first one it has no meaning."""
    begins_part: bool = False
    """Whether a part of the output begins with it (`segments`)."""


def as_sources(frames: Iterable[Tensor]) -> Iterator[Source]:
    """Frames [h, w, c] as sources with motion between all of them."""
    return (Source(index, frame, Gap.MOTION) for index, frame in enumerate(frames))


def with_end(
    sources: Iterable[Source], end: End, first_frame: Tensor | None = None, left_out: Container[int] = ()
) -> Iterator[Source]:
    """The sources, and then what follows the last one: nothing, the last frame again, or the first frame.

    first_frame: that of the whole clip, where these sources are a later part of it.
    left_out: positions that are not among the sources. What follows comes behind them.
    """
    last = None
    for source in sources:
        first_frame = source.frame if first_frame is None else first_frame
        last = source
        yield source
    if last is None or first_frame is None:
        return
    position = int(last.position) + 1
    while position in left_out:
        position += 1
    if end == "hold":
        yield Source(position, last.frame, Gap.REPEAT)
    elif end == "loop":
        yield Source(position, first_frame, Gap.MOTION)
