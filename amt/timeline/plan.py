"""Which frames the output has: plain arithmetic, before any tensor.

A position is a time counted in source frames: 3 is source frame 3 itself, 3 + 1/2 the middle of frames 3 and 4.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count, pairwise
from typing import Literal, NamedTuple

from .curve import SpeedCurve, constant_speed

MOST_PASSES = 8

End = Literal["stop", "hold", "loop"]
"""What follows the last source frame: nothing; that frame again, for as long as it was shown; the way to the first."""

TOLERANCE = Fraction(1, 32)
"""How far, in source frames, a dyadic time may be from the one that is wanted.

A millisecond or so. Closer is not better: every halving softens the picture a little, and costs a call of the network.
At 1/5, a frame made for 3/16 is 1 dB nearer to the truth than one made for 13/64; at 2/5, 3/8 beats 13/32 likewise.
"""


class Span(NamedTuple):
    """When a source frame is shown: each begins where the one before it ends."""

    start: Fraction
    end: Fraction


class Instant(NamedTuple):
    """A frame of the output."""

    position: Fraction
    time: Fraction
    """When it is shown, in the unit of the spans; the first at 0."""
    duration: Fraction
    """For how long."""
    moment: Fraction
    """Which moment of the source it shows, on the clock of the spans."""


def frame_count(frames: int, passes: int, end: End = "stop") -> int:
    """How many frames `frames` frames become when every gap is halved `passes` times."""
    last = 0 if end == "stop" else 2**passes
    return (frames - 1) * 2**passes + max(last, 1) if frames > 0 else 0


def multiples(step: Fraction, frames: int, end: End = "stop", seen: int = 0, seam: int = 0) -> list[Fraction]:
    """The positions 0, step, 2 * step ... that `frames` evenly spaced frames have.

    seen: how many of the frames have had theirs before. The positions are those behind the last of these, and counted
    from it.
    seam: of a loop, how many positions are spread between the last frame and the first; 0 for those of the step.
    """
    seam = seam if end == "loop" else 0
    lowest = math.floor((seen - 1) / step) + 1 if seen else 0
    last = math.floor((frames - 1) / step)
    highest = last if end == "stop" or seam else math.ceil(frames / step) - 1
    begin, back = frames - 1, (last + 1 + seam) * step
    positions = [k * step for k in range(lowest, highest + 1)]
    positions += [begin + (k * step - begin) / (back - begin) for k in range(last + 1, last + 1 + seam)]
    return [position - max(seen - 1, 0) for position in positions]


def halved(
    spans: Iterable[Span], passes: int, end: End, stretch: int = 1, first: Fraction | None = None, seam: int = 0
) -> Iterator[Instant]:
    """Every gap halved `passes` times, and all of it shown `stretch` times as long.

    first: when the source begins, where these spans are a later part of it.
    seam: of a loop, how many frames lie between the last one and the first; 0 for as many as in every gap.
    """
    for index, (span, is_last) in enumerate(_with_last(spans)):
        first = span.start if first is None else first
        step = (span.end - span.start) / 2**passes
        parts = seam + 1 if is_last and end == "loop" and seam else 2**passes
        for k in range(1 if is_last and end == "stop" else parts):
            way = Fraction(k, parts)
            time = (span.start - first + k * step) * stretch
            yield Instant(index + way, time, step * stretch, span.start + way * (span.end - span.start))


def resampled(
    spans: Iterable[Span],
    rate: Fraction,
    end: End,
    source_time: Callable[[Fraction], Fraction] = lambda time: time,
    first: Fraction | None = None,
    seam: int = 0,
) -> Iterator[Instant]:
    """Frames 1 / `rate` apart, in the spans' unit, whatever the rate of the source.

    source_time: which time of the source is shown at a time of the output; both begin at 0 and grow.
    first: when the source begins, where these spans are a later part of it.
    seam: of a loop, how many frames lie between the last one and the first; 0 for as many as in every gap.
    """
    shown = 0
    for index, (span, is_last) in enumerate(_with_last(spans)):
        first = span.start if first is None else first
        if index == 0 and span.start > first:
            shown = _first_not_before(span.start - first, lambda k: source_time(k / rate))
        if is_last and end == "loop" and seam:
            begin = span.start - first
            back = shown + seam + (source_time(shown / rate) == begin)
            for k in range(shown, back):
                way = (source_time(k / rate) - begin) / (source_time(back / rate) - begin)
                yield Instant(index + way, k / rate, 1 / rate, span.start + way * (span.end - span.start))
            return
        while (shown_time := source_time(time := shown / rate) + first) < span.end:
            share = (shown_time - span.start) / (span.end - span.start)
            if is_last and end == "stop" and share > 0:
                return
            yield Instant(index + share, time, 1 / rate, shown_time)
            shown += 1


@dataclass(frozen=True)
class Plan:
    """What becomes of a source's time."""

    passes: int = 0
    """How often every gap is halved, where no rate is given."""
    end: End = "stop"
    rate: Fraction | None = None
    """Frames a second, at exact times; None for those that the passes give."""
    slow: bool = False
    """Whether the frames that the passes give are shown at the source's rate, and all of it lasts longer."""
    curve: SpeedCurve | None = None
    """How fast the source is shown when; needs a rate."""
    seam: int = 0
    """Of a loop, how many frames lie between the last one and the first; 0 for as many as in every gap."""

    @property
    def stretch(self) -> int:
        """How many times as long all of it lasts."""
        return 2**self.passes if self.slow and self.rate is None else 1

    @property
    def heard(self) -> SpeedCurve | None:
        """How fast its sound is heard; None is as fast as it is."""
        return self.curve or (constant_speed(Fraction(1, self.stretch)) if self.stretch > 1 else None)

    def instants(self, spans: Iterable[Span], first: Fraction | None = None) -> Iterator[Instant]:
        """The frames of the output. Spans in seconds, where there is a rate.

        first: when the source begins, where these spans are a later part of it. The times are those that the frames
        have in the whole output; positions are counted from the first of these spans.
        """
        if self.rate is not None:
            return resampled(spans, self.rate, self.end, self.source_time, first, self.seam)
        return halved(spans, self.passes, self.end, self.stretch, first, self.seam)

    def source_time(self, output: Fraction) -> Fraction:
        """Which moment of the source is shown at a time of the output, where there is a rate; both begin at 0."""
        return self.curve.source_time(output) if self.curve else output

    def output_rate(self, rate: Fraction) -> Fraction:
        """Frames a second of the output, for a source of this rate."""
        return self.rate or rate * 2**self.passes / self.stretch

    def count(self, frames: int, rate: Fraction) -> int:
        """How many frames the output has, for a source of so many frames at this constant rate."""
        if self.end == "loop" and self.seam and not self.curve:
            return replace(self, end="stop").count(frames, rate) + self.seam
        if self.rate is None:
            return frame_count(frames, self.passes, self.end)
        if self.curve:
            spans = (Span(k / rate, (k + 1) / rate) for k in range(frames))
            return sum(1 for _ in self.instants(spans))
        if self.end == "stop":
            return int((frames - 1) * self.rate / rate) + 1
        return math.ceil(frames * self.rate / rate)


def _first_not_before(moment: Fraction, time_of: Callable[[int], Fraction]) -> int:
    """The first k >= 0 with time_of(k) >= moment; the times ascend."""
    high = 1
    while time_of(high) < moment:
        high *= 2
    return bisect_left(range(high + 1), moment, key=time_of)


def _with_last(spans: Iterable[Span]) -> Iterator[tuple[Span, bool]]:
    """Each span, and whether it is the last."""
    previous = None
    for span in spans:
        if previous is not None:
            yield previous, False
        previous = span
    if previous is not None:
        yield previous, True


def halvings(passes: int) -> Iterator[Fraction]:
    """The positions after `passes` halvings of every gap, without end."""
    return (Fraction(k, 2**passes) for k in count())


def dyadic(time: Fraction, tolerance: Fraction = TOLERANCE) -> Fraction:
    """`time` itself where it is k / 2^n, else such a time within `tolerance` with the smallest n; 0 < time < 1.

    Networks that were trained for the middle alone reach such a time by n halvings; 0 and 1, the given frames, by none.
    """
    if not 0 < time < 1:
        raise ValueError(f"expected a time strictly between 0 and 1, got {time}")
    if time.denominator.bit_count() == 1:
        return time
    parts = 1
    while abs((nearest := Fraction(round(time * parts), parts)) - time) > tolerance:
        parts *= 2
    return nearest


def dyadic_times(times: Sequence[Fraction]) -> list[Fraction]:
    """`dyadic` for the times between two frames, ascending; those that are close together stay apart."""
    # The same time asked for twice is one time.
    least = min((after - before for before, after in pairwise(times) if after > before), default=Fraction(1))
    # Less than half of the way, or two neighbours would meet in the middle.
    return [dyadic(time, min(TOLERANCE, least * 2 / 5)) for time in times]


NTSC = Fraction(1000, 1001)
NTSC_BASES = (12, 15)
"""Of multiples of these there are such rates: 23.976, 29.97, 59.94, and their halves and multiples."""


def exact_rate(fps: float) -> Fraction:
    """The frame rate that a decimal number stands for: 23.976 is 24000/1001, 12.5 is 25/2. Raises ValueError."""
    if not 0 < fps <= 1000:  # also refuses NaN
        raise ValueError(f"expected a frame rate above 0 and up to 1000 frames a second, got {fps}")
    nearest = Fraction(fps).limit_denominator(1000)
    whole = round(fps / NTSC)
    # Two decimals are what people type: 59.94, 23.98.
    is_ntsc = any(whole % base == 0 for base in NTSC_BASES) and abs(whole * NTSC - Fraction(fps)) < Fraction(1, 200)
    if nearest.denominator > 1 and whole and is_ntsc:
        return whole * NTSC
    if not nearest:
        raise ValueError(f"expected a frame rate of at least one frame in 1000 seconds, got {fps}")
    return nearest
