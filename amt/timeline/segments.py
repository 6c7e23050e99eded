"""A timeline cut into segments, so that several machines make one video.

The output falls into parts of a few seconds. Every part begins with a source frame, and is made as if nothing had been
before it: the encoder begins anew there, and so does whatever is carried from pair to pair. A segment is a number of
parts in a row. So it does not matter who makes which part, and the joined segments are what one machine makes alone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from itertools import count
from typing import NamedTuple

from .plan import Plan

PART = 120
"""Frames of the output in a part, about. Fewer cost bytes, because an encoder begins a part with a whole picture."""
SLACK = Fraction(1, 4)
"""By this share of a part a border moves to a key frame of the source: cuts mostly are there, and decoding begins."""
LEAST_SOURCES = 5
"""Source frames in a part. Up to three in a row may be left out because they repeat the one before."""


class Segment(NamedTuple):
    """Which segment of how many, from 1."""

    number: int = 1
    of: int = 1

    def parts(self, count: int) -> range:
        """Its parts, of so many. Raises ValueError where there are more segments than parts, or no such segment."""
        if not 1 <= self.number <= self.of:
            raise ValueError(f"expected a segment from 1 to {self.of}, got {self.number}")
        if self.of > count:
            raise ValueError(f"expected at most {count} segments for a video of this length, got {self.of}")
        return range(count * (self.number - 1) // self.of, count * self.number // self.of)


WHOLE = Segment()


def part_borders(
    plan: Plan,
    frames: int,
    time_of: Callable[[int], Fraction],
    keys: Sequence[int] = (),
    part: int = PART,
    bad: Collection[int] = (),
) -> list[int]:
    """The source frames, from 1 and ascending, with which the second part and all later ones begin.

    frames: of the source.
    time_of: when a source frame is shown, in seconds; ascending.
    keys: the frames where decoding can begin, ascending.
    part: frames of the output in a part.
    bad: the source frames that are left out, with which no part can begin.
    """
    first = time_of(0)
    left_out = sorted(bad)

    def good(begin: int, end: int) -> int:
        """How many source frames are used of those from `begin` to before `end`."""
        return end - begin - (bisect_left(left_out, end) - bisect_left(left_out, begin))

    def source_of(parts: Fraction) -> int:
        """The first source frame that is shown when so many parts are over."""
        if plan.rate is None:
            return -int(-parts * part // 2**plan.passes)  # rounded up
        return bisect_left(range(frames), first + plan.source_time(parts * part / plan.rate), key=time_of)

    borders: list[int] = []
    for number in count(1):
        border = source_of(Fraction(number))
        if border >= frames:
            return borders
        earliest, latest = source_of(number - SLACK), source_of(number + SLACK)
        near = keys[bisect_left(keys, earliest) : bisect_right(keys, latest)]
        border = min(near, key=lambda key: abs(key - border), default=border)
        while border in bad:
            border += 1
        if min(good(borders[-1] if borders else 0, border), good(border, frames)) >= LEAST_SOURCES:
            borders.append(border)
    raise AssertionError("unreachable")
