"""Video files opened: their streams, and the packets of a stream with times that go on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.stream import Stream

from ..printable import printable

Source = str | io.BytesIO
"""A file's path or its bytes."""

ATTACHED_PICTURE = 0x400
"""FFmpeg's disposition of a cover."""


class UnreadableVideoError(ValueError):
    """The file is no video, is damaged, or does not say what is needed."""


@dataclass(frozen=True)
class Window:
    """The part of a file that is shown, in seconds on the file's clock."""

    start: float = 0
    duration: float = 0
    """0 is to the end."""

    def __str__(self) -> str:
        """Where to look for what is missing: nothing, or " from 1 s to 2.5 s"."""
        if not self.start and not self.duration:
            return ""
        return f" from {self.start:g} s to {f'{self.start + self.duration:g} s' if self.duration else 'its end'}"

    def bounds(self, time_base: Fraction) -> tuple[int | None, int | None]:
        """The window in units of the time base, its end excluded. Rounded as ComfyUI does it."""
        start = int(self.start / time_base) or None
        end = int((self.start + self.duration) / time_base) if self.duration else None
        return start, end


WHOLE = Window()


@contextmanager
def open_file(source: Source, demuxer: str | None = None) -> Iterator[InputContainer]:
    """Opens a file of its own: readers of the same source do not move each other.

    demuxer: the FFmpeg demuxer to use, whatever the file looks like. For files from outside: some formats, such as
    playlists, name further files to open.

    Raises:
        UnreadableVideoError: it cannot be opened.
    """
    file = source if isinstance(source, str) else io.BytesIO(source.getvalue())
    try:
        # Titles of old files are in any encoding: what is not UTF-8 must not cost the picture.
        container = av.open(file, mode="r", format=demuxer, metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as error:
        reason = printable(getattr(error, "strerror", None) or error)
        raise UnreadableVideoError(
            f"the video cannot be opened: {reason}. Is the file whole, and a video? Download it "
            "again, or convert it to mp4."
        ) from error
    with container:
        yield container


def video_stream(container: InputContainer) -> av.VideoStream:
    """The first stream of pictures that is no cover. Raises UnreadableVideoError where there is none."""
    for stream in container.streams.video:
        if not int(stream.disposition) & ATTACHED_PICTURE and stream.codec_context is not None:
            return stream
    raise UnreadableVideoError(
        "the file has no picture, or none that this FFmpeg can decode. Choose another, or convert it to H.264 first."
    )


def clock_may_jump(container: InputContainer) -> bool:
    """Whether the format is one for transmission, such as .ts: recordings of it may be joined byte by byte, and have
    no index by which a place could be found."""
    return bool(container.format.flags & Flags.ts_discont.value)


def demuxed(container: InputContainer, stream: Stream) -> Iterator[av.Packet]:
    """The stream's packets in the order of the file, and at the end an empty one that flushes a decoder.

    Where the format's clock may jump, their times are changed to those of a clock that does not. The same file gives
    the same times for all of its streams, provided that it is read from its beginning.
    """
    if not clock_may_jump(container):
        yield from container.demux(stream)
        return
    clock = _SteadyClock()
    timed = [other for other in container.streams if other.type in ("video", "audio")]
    for packet in container.demux(timed):
        if packet.size:
            clock.correct(packet)
        if packet.stream.index == stream.index:
            yield packet


class _SteadyClock:
    """Closes the gaps that a jumping clock leaves: when a camera was restarted, or recordings were joined.

    As in ffmpeg, a jump in one stream moves all streams: they jump together, so picture and sound stay together.
    """

    LATE = Fraction(10)
    """Seconds after the expected time from which on a packet's time is a jump, not a gap."""
    EARLY = Fraction(1, 10)
    """The same, for a packet whose time is before the expected one."""

    def __init__(self) -> None:
        self._offset = Fraction(0)
        self._expected: dict[int, Fraction] = {}
        """By stream: when its next packet should begin."""

    def correct(self, packet: av.Packet) -> None:
        time = packet.pts if packet.dts is None else packet.dts
        if time is None:
            return
        begins = time * packet.time_base + self._offset
        expected = self._expected.get(packet.stream.index, begins)
        if not -self.EARLY <= begins - expected <= self.LATE:
            self._offset += expected - begins
            begins = expected
        ends = begins + (packet.duration or 0) * packet.time_base
        self._expected[packet.stream.index] = max(expected, ends)
        moved = round(self._offset / packet.time_base)
        if moved:
            packet.pts = None if packet.pts is None else packet.pts + moved
            packet.dts = None if packet.dts is None else packet.dts + moved
