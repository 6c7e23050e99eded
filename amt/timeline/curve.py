"""Speed curves: how fast the source's time passes at every moment, and so which moment is shown when.

The speed is a polynomial of the output's time, so the moment that is shown at any output time is an exact Fraction.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

SLOWEST, FASTEST = Fraction(1, 100), Fraction(100)
EXAMPLE = "0 s: 1x, 2 s: 0.25x, 3 s: 1x"


class SpeedKey(NamedTuple):
    """From this moment of the source on, it is shown at this speed."""

    time: Fraction
    """Seconds of the source, counted from its first frame."""
    speed: Fraction
    """1 is as fast as the source, 1/4 is four times as slow."""
    ease: Fraction = Fraction(0)
    """Over how many seconds of the source, before `time`, the speed changes to this one."""


class _Piece(NamedTuple):
    """A part of the curve: the speed is constant, or changes smoothly from one value to another."""

    output: Fraction
    """When it begins, in seconds of the output."""
    source: Fraction
    """The moment of the source that is shown then."""
    speed: Fraction
    change: Fraction = Fraction(0)
    """By how much the speed is higher at its end."""
    length: Fraction = Fraction(0)
    """How long the change takes, in seconds of the output."""


@dataclass(frozen=True)
class SpeedCurve:
    """Which moment of the source is shown at which time of the output; both begin at 0.

    Raises ValueError where the keys are in no order, or a change of speed begins before the key in front of it.
    """

    keys: tuple[SpeedKey, ...]

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError(f"expected at least one speed, such as {EXAMPLE}")
        for key in self.keys:
            if not SLOWEST <= key.speed <= FASTEST:
                raise ValueError(f"expected speeds from {float(SLOWEST):g}x to {float(FASTEST):g}x, got {key.speed}x")
        for before, after in pairwise(self.keys):
            if after.time <= before.time:
                raise ValueError(
                    f"expected times in ascending order, got {float(after.time):g} s after {float(before.time):g} s"
                )
            if after.ease > after.time - before.time:
                raise ValueError(
                    f"expected the change of speed before {float(after.time):g} s to begin after the one at "
                    f"{float(before.time):g} s, got an ease of {float(after.ease):g} s"
                )

    def source_time(self, output: Fraction) -> Fraction:
        """The moment of the source, in seconds, that is shown at `output` seconds, 0 or later."""
        piece = self._pieces[bisect_right(self._pieces, output, key=lambda piece: piece.output) - 1]
        passed = output - piece.output
        source = piece.source + piece.speed * passed
        if piece.change:
            # The change follows the smoothstep polynomial 3 u^2 - 2 u^3, whose integral is u^3 - u^4 / 2.
            u = passed / piece.length
            source += piece.change * piece.length * (u**3 - u**4 / 2)
        return source

    def output_time(self, source: Fraction) -> float:
        """About when the moment `source` is shown, in seconds of the output, to within a microsecond."""
        index = bisect_right(self._pieces, source, key=lambda piece: piece.source) - 1
        piece = self._pieces[index]
        if not piece.change:
            return float(piece.output + (source - piece.source) / piece.speed)
        low, high = piece.output, piece.output + piece.length
        while high - low > Fraction(1, 10**6):
            middle = (low + high) / 2
            middle = middle.limit_denominator(10**9)
            low, high = (middle, high) if self.source_time(middle) <= source else (low, middle)
        return float(low)

    def later(self, seconds: Fraction) -> SpeedCurve:
        """The curve of a source that begins so much earlier: the first speed holds for that much longer."""
        first, *others = self.keys
        return SpeedCurve((first, *(key._replace(time=key.time + seconds) for key in others)))

    @cached_property
    def _pieces(self) -> list[_Piece]:
        first = self.keys[0]
        pieces = [_Piece(Fraction(0), Fraction(0), first.speed)]
        for key in self.keys[1:]:
            last = pieces[-1]
            begins = key.time - key.ease
            output = last.output + (begins - last.source) / last.speed
            if key.ease and key.speed != last.speed:
                # The mean speed over the change is the mean of both, because smoothstep is symmetric.
                length = 2 * key.ease / (last.speed + key.speed)
                pieces.append(_Piece(output, begins, last.speed, key.speed - last.speed, length))
                output += length
                begins = key.time
            pieces.append(_Piece(output, begins, key.speed))
        return pieces


def constant_speed(speed: Fraction) -> SpeedCurve:
    return SpeedCurve((SpeedKey(Fraction(0), speed),))


_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_KEY = re.compile(rf"{_NUMBER}\s*s?\s*[:=]\s*{_NUMBER}\s*x?(?:\s+ease(?:\s+{_NUMBER}\s*s?)?)?", re.IGNORECASE)
_EASED = re.compile(r"\bease\b", re.IGNORECASE)


def speed_curve(text: str) -> SpeedCurve:
    """Reads "0 s: 1x, 2 s: 0.25x ease 0.5 s, 3 s: 1x ease": a speed holds until the next one.

    `ease 0.5 s` lets the speed change over the half second before that moment; `ease` alone, from the key before on.
    Commas, semicolons and line ends part the keys. Raises ValueError.
    """
    keys: list[SpeedKey] = []
    for part in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        found = _KEY.fullmatch(part)
        if not found:
            raise ValueError(f'expected keys like "2 s: 0.25x" or "2 s: 0.25x ease 0.5 s", got "{part}"')
        time, speed = Fraction(found[1]), Fraction(found[2])
        all_of_it = time - keys[-1].time if keys and _EASED.search(part) else Fraction(0)
        keys.append(SpeedKey(time, speed, Fraction(found[3]) if found[3] else all_of_it))
    return SpeedCurve(tuple(keys))
