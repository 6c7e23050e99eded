"""Makes a new video file from a video. One thread decodes, one makes frames, and one encodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import tee
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from ..amt.timeline import Plan, Span
from ..amt.timeline.analysis import SourceAnalysis
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

    def frames(self) -> Iterator[Frame]: ...


Interpolate = Callable[[Iterable[Source], Iterable[Fraction]], Iterator[Tensor]]
"""Makes the frames at the positions out of the sources, as `Engine.interpolate` does."""


def interpolate_video(
    video: Video,
    path: Path,
    *,
    plan: Plan,
    analysis: SourceAnalysis,
    interpolate: Interpolate,
    sound: Sequence[Track] = (),
    delay: Fraction = Fraction(0),
    poll: Callable[[], None],
    shown: Callable[[Tensor], None],
) -> Fraction:
    """Writes the file, and returns how long the picture is, in seconds. After an error in any thread no file is left.

    delay: seconds before the first frame is shown.
    poll: called now and then in this thread. An exception that it raises ends the work.
    shown: called with every frame of the result.
    """
    timing = video.timing
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
    )

    def write(item: tuple[Tensor, Fraction, Fraction]) -> None:
        writer.write(*item)

    with (
        writer,
        WriteBehind(write, FRAMES_BEHIND, poll) as written,
        ReadAhead(_read(video, analysis), FRAMES_AHEAD, poll) as items,
    ):
        for_sources, for_plan = tee(items)
        spans = (span for item in for_plan for span in item.spans)
        instants, for_positions = tee(plan.instants(spans))
        positions = (instant.position for instant in for_positions)
        frames = interpolate((item.source for item in for_sources), positions)
        length = Fraction(0)
        for frame, instant in zip(frames, instants, strict=False):
            written.put((frame, instant.time + delay, instant.duration))
            shown(frame)
            length = instant.time + instant.duration
    return length


class _Item(NamedTuple):
    source: Source
    spans: list[Span]
    """The span of a source. Sources may come later than their frames are read, and some are dropped."""


def _read(video: Video, analysis: SourceAnalysis) -> Iterator[_Item]:
    spans: deque[Span] = deque()

    def pictures() -> Iterator[Tensor]:
        for frame in video.frames():
            spans.append(frame.span)
            yield frame.picture

    for source in analysis(pictures()):
        known = [spans.popleft() for _ in range(len(spans))]
        yield _Item(source, known)
