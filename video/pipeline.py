"""Makes a new video file from a video. One thread decodes, one makes frames, and one encodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain, tee
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from torch import Tensor

from ..amt.timeline import Instant, Plan, Span
from ..amt.timeline.analysis import SourceAnalysis
from ..amt.timeline.segments import PART, WHOLE, Segment, part_borders
from ..amt.timeline.sources import Source
from .colour import Colour
from .decode import Frame
from .encode import VideoWriter
from .hdr import BrightnessMetadata
from .threads import FRAMES_AHEAD, FRAMES_BEHIND, ReadAhead, WriteBehind
from .timing import Timing
from .tracks import Track


class Video(Protocol):
    """A source of frames."""

    timing: Timing
    colour: Colour
    bits: int
    pixel_aspect: Fraction
    brightness: BrightnessMetadata | None

    def frames(self, first: int = 0) -> Iterator[Frame]: ...


CONTEXT = 32
"""Source frames before a segment that are looked at: cuts and repeats are judged by what is around them."""

Interpolate = Callable[[Iterable[Source], Iterable[Fraction]], Iterator[Tensor]]
"""Makes the frames at the positions out of the sources, as `Engine.interpolate` does."""


def borders_of(timing: Timing, plan: Plan, part: int = PART, bad: Collection[int] = ()) -> list[int]:
    """The source frames with which the parts of the output begin, but the first; see `part_borders`."""
    return part_borders(plan, timing.frames, timing.shown, timing.key_frames(), part, bad)


def interpolate_video(
    video: Video,
    path: Path | BinaryIO,
    *,
    plan: Plan,
    analysis: SourceAnalysis,
    interpolate: Interpolate,
    sound: Sequence[Track] = (),
    delay: Fraction = Fraction(0),
    poll: Callable[[], None],
    shown: Callable[[Tensor], None],
    segment: Segment = WHOLE,
    part: int = PART,
) -> Fraction:
    """Writes the file, and returns how long the picture is, in seconds. After an error in any thread no file is left.

    path: of the new file, or the open file to write into.
    delay: seconds before the first frame is shown.
    poll: called now and then in this thread. An exception that it raises ends the work.
    shown: called with every frame of the result.
    segment: which of the result's segments is made. Its file begins at 0; `join_videos` joins them.
    part: about how many frames of the result the encoder takes before it begins anew.
    """
    timing = video.timing
    borders = borders_of(timing, plan, part, analysis.bad)
    parts = segment.parts(len(borders) + 1)
    rate = plan.output_rate(timing.rate)
    tick = 1 / rate if plan.rate else timing.tick / 2**plan.passes * plan.stretch
    delay = round(delay / tick) * tick
    writer = VideoWriter(
        path,
        rate=rate,
        tick=None if timing.constant or plan.rate else tick,
        colour=video.colour,
        bits=video.bits,
        pixel_aspect=video.pixel_aspect,
        brightness=video.brightness,
        sound=sound,
        from_zero=parts.start > 0,
    )

    def write(item: tuple[Tensor, Instant, bool]) -> None:
        frame, instant, begins_part = item
        if begins_part:
            writer.begin_part()
        writer.write(frame, instant.time + delay, instant.duration)

    with (
        writer,
        WriteBehind(write, FRAMES_BEHIND, poll) as written,
        ReadAhead(_read(video, analysis, borders, parts), FRAMES_AHEAD, poll) as items,
    ):
        begin = _Begin.of(items)
        for_sources, for_plan = tee(begin.items)
        spans = (span for item in for_plan for span in item.spans)
        instants = plan.instants(spans, timing.shown(0))
        for_frames, for_moments = tee(instant for instant in instants if instant.moment >= begin.moment)
        moments = (instant.moment for instant in for_moments)
        part_moments: deque[Fraction | int] = deque()
        frames = interpolate(_sources(for_sources, part_moments), moments)
        start = length = None
        for frame, instant in zip(frames, for_frames, strict=False):
            begins_part = bool(part_moments) and instant.moment >= part_moments[0]
            if begins_part:
                part_moments.popleft()
                parts = parts[1:]
                if not parts:
                    break
            written.put((frame, instant, begins_part))
            shown(frame)
            start = instant.time if start is None else start
            length = instant.time + instant.duration - start
    return length or Fraction(0)


class _Item(NamedTuple):
    source: Source | None
    """Its position is when it is shown. None before the first one of the segment."""
    spans: list[Span]
    """The span of a source. Sources may come later than their frames are read, and some are dropped."""


class _Begin(NamedTuple):
    """Where the segment begins."""

    moment: Fraction | int
    """Of its first source."""
    items: Iterator[_Item]
    """All of them."""

    @staticmethod
    def of(items: Iterator[_Item]) -> _Begin:
        before: list[_Item] = []
        for item in items:
            before.append(item)
            if item.source is not None:
                return _Begin(item.source.position, chain(before, items))
        return _Begin(0, iter(before))


def _sources(items: Iterable[_Item], part_moments: deque[Fraction | int]) -> Iterator[Source]:
    """The sources. The positions of those that begin a part are noted, before they are taken."""
    for item in items:
        if item.source is not None:
            if item.source.begins_part:
                part_moments.append(item.source.position)
            yield item.source


def _read(video: Video, analysis: SourceAnalysis, borders: Sequence[int], parts: range) -> Iterator[_Item]:
    """The sources of these parts of the output, and the one with which the next part begins."""
    first = _before(borders[parts.start - 1], CONTEXT, analysis.bad) if parts.start else 0
    begins = deque(video.timing.shown(border) for border in borders[max(0, parts.start - 1) : parts.stop])
    spans: deque[Span] = deque()
    starts: deque[Fraction] = deque()
    """When the sources from `position` on are shown."""
    position = 0
    end = Fraction(0)

    def pictures() -> Iterator[Tensor]:
        nonlocal end
        for frame in video.frames(first):
            spans.append(frame.span)
            starts.append(frame.span.start)
            end = frame.span.end
            yield frame.picture

    first_frame = next(video.frames()).picture if first and analysis.end == "loop" else None
    waiting = parts.start > 0
    for source in analysis(pictures(), first_frame, first):
        known = [spans.popleft() for _ in range(len(spans))]
        while position < source.position and starts:
            starts.popleft()
            position += 1
        begins_part = bool(begins) and bool(starts) and starts[0] >= begins[0]
        if begins_part:
            begins.popleft()
        if waiting and begins_part:
            waiting = begins_part = False  # it is the first one: nothing ends there
        # By times and not by numbers: where frames are left out that are shown for unlike times, the frames in their
        # place are made for the right ones.
        shown = source._replace(position=starts[0] if starts else end, begins_part=begins_part)
        yield _Item(None if waiting else shown, known)
        if begins_part and not begins and parts.stop <= len(borders):
            return


def _before(border: int, frames: int, bad: Collection[int]) -> int:
    """Where so many good source frames lie before the border, or 0 where there are not so many."""
    first = border
    while first > 0 and frames > 0:
        first -= 1
        frames -= first not in bad
    return first
