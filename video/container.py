"""Opens video files, and gives their streams and packets. The packets' times never jump."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
"""FFmpeg's flag for a cover picture."""


class UnreadableVideoError(ValueError):
    """The file is no video, is damaged, or does not say what is needed."""


@dataclass(frozen=True)
class Window:
    """The part of a file that is shown, in seconds on the file's clock."""

    start: float = 0
    duration: float = 0
    """0 is to the end."""

    def __str__(self) -> str:
        """The window in words, for error messages: empty for a whole file, or " from 1 s to 2.5 s"."""
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
    """Opens the source once more, so that several readers do not disturb one another.

    demuxer: the FFmpeg demuxer to use, whatever the file looks like. Name one for files from outside, because some
    formats, such as playlists, make FFmpeg open further files.

    Raises:
        UnreadableVideoError: it cannot be opened.
    """
    file = source if isinstance(source, str) else io.BytesIO(source.getvalue())
    try:
        # Titles of old files have any encoding. One that is not UTF-8 must not make the video unreadable.
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
    """The first video stream that is no cover picture. Raises UnreadableVideoError where there is none."""
    for stream in container.streams.video:
        if not int(stream.disposition) & ATTACHED_PICTURE and stream.codec_context is not None:
            return stream
    raise UnreadableVideoError(
        "the file has no picture, or none that this FFmpeg can decode. Choose another, or convert it to H.264 first."
    )


def seek(container: InputContainer, time: int, stream: Stream) -> None:
    """Goes to the key frame before a time in units of the stream's time base; nowhere, where the file cannot do that.

    Readers look at the packets' times in any case, so then they only read more.
    """
    with suppress(FFmpegError):
        container.seek(time, stream=stream)


def clock_may_jump(container: InputContainer) -> bool:
    """Whether the format is one for transmission, such as .ts. Such recordings may be joined byte by byte, and
    they have no index."""
    return bool(container.format.flags & Flags.ts_discont.value)


def demuxed(container: InputContainer, stream: Stream) -> Iterator[av.Packet]:
    """The stream's packets in the order of the file, and at the end an empty one that flushes a decoder.

    Where the format's clock may jump, their times are changed to those of a clock that does not. All streams of a file
    get times of the same clock, as long as each is read from the file's beginning.
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
    """Removes the jumps of a clock, which are there when a camera was restarted or recordings were joined.

    All streams jump, though not at the same packet: what was filmed last comes between what was heard first behind the
    joint. So each stream jumps when its own times do, and takes over the offset of a stream that jumped before it:
    picture and sound stay together.
    """

    LATE = Fraction(10)
    """Seconds after the expected time from which on a packet's time is a jump, not a gap; as in ffmpeg."""
    EARLY = Fraction(1, 10)
    """The same, for a packet whose time is before the expected one."""
    UNEVEN = Fraction(1)
    """Seconds by which one stream may end earlier than another where recordings are joined."""

    def __init__(self) -> None:
        self._offsets = [Fraction(0)]
        """Of the recordings, in order; to be added to their times."""
        self._recording: dict[int, int] = {}
        """By stream: in which recording it is."""
        self._expected: dict[int, Fraction] = {}
        """The stream's index -> when its next packet should begin."""

    def correct(self, packet: av.Packet) -> None:
        ticks = packet.pts if packet.dts is None else packet.dts
        if ticks is None:
            return
        stream, time = packet.stream.index, ticks * packet.time_base
        recording = self._recording.get(stream, 0)
        expected = self._expected.get(stream, time + self._offsets[recording])
        if not -self.EARLY <= time + self._offsets[recording] - expected <= self.LATE:
            recording = self._next_recording(recording, time, expected)
        self._recording[stream] = recording
        offset = self._offsets[recording]
        self._expected[stream] = max(expected, time + offset + (packet.duration or 0) * packet.time_base)
        moved = round(offset / packet.time_base)
        if moved:
            packet.pts = None if packet.pts is None else packet.pts + moved
            packet.dts = None if packet.dts is None else packet.dts + moved

    def _next_recording(self, recording: int, time: Fraction, expected: Fraction) -> int:
        """The one in which another stream already is, or else a new one."""
        for later in range(recording + 1, len(self._offsets)):
            late = time + self._offsets[later] - expected
            if -self.UNEVEN <= late <= self.LATE:
                self._offsets[later] += max(Fraction(0), -late)  # the picture must not begin before the last one ended
                return later
        self._offsets.append(expected - time)
        return len(self._offsets) - 1
