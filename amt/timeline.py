"""Which frames the output has: plain arithmetic, before any tensor.

A position is a time counted in source frames: 3 is source frame 3 itself, 3 + 1/2 the middle of frames 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import count

MOST_PASSES = 8

TOLERANCE = Fraction(1, 128)
"""How far, in source frames, a dyadic time may be from the one that is wanted."""


def frame_count(frames: int, passes: int) -> int:
    """How many frames `frames` frames become when every gap is halved `passes` times."""
    return (frames - 1) * 2**passes + 1 if frames > 0 else 0


def halvings(passes: int) -> Iterator[Fraction]:
    """The positions after `passes` halvings of every gap, without end."""
    return (Fraction(k, 2**passes) for k in count())


def dyadic(time: Fraction, tolerance: Fraction = TOLERANCE) -> Fraction:
    """`time` itself where it is k / 2^n, else such a time within `tolerance` with the smallest n; 0 < time < 1.

    Networks that were trained for the middle alone reach such a time by n halvings.
    """
    if not 0 < time < 1:
        raise ValueError(f"expected a time strictly between 0 and 1, got {time}")
    if time.denominator.bit_count() == 1:
        return time
    parts = 1
    while True:
        parts *= 2
        nearest = Fraction(min(max(round(time * parts), 1), parts - 1), parts)
        if abs(nearest - time) <= tolerance:
            return nearest


NTSC = Fraction(1000, 1001)


def exact_rate(fps: float) -> Fraction:
    """The frame rate that a decimal number stands for: 23.976 is 24000/1001, 12.5 is 25/2. Raises ValueError."""
    if not 0 < fps <= 1000:  # also refuses NaN
        raise ValueError(f"expected a frame rate above 0 and up to 1000 frames a second, got {fps}")
    nearest = Fraction(fps).limit_denominator(1000)
    ntsc = round(fps / NTSC) * NTSC
    # Two decimals are what people type: 59.94, 23.98.
    if nearest.denominator > 1 and ntsc and abs(ntsc - Fraction(fps)) < Fraction(1, 200):
        return ntsc
    if not nearest:
        raise ValueError(f"expected a frame rate of at least one frame in 1000 seconds, got {fps}")
    return nearest
