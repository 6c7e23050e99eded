"""Sound tracks for a new file: packets that are copied, or samples that are encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, Protocol, cast

import av
import numpy as np
from av.container import InputContainer, OutputContainer

from ..printable import printable
from .container import Source, clock_may_jump, demuxed, open_file, seek
from .samples import audio_frame

NO_TAG = "\0\0\0\0"
RUN_IN = Fraction(1, 10)
"""Seconds of packets before a cut that decoders need to sound right at it; the file's edit list hides them."""
BITS_PER_CHANNEL = 96_000
LONG_GAP = Fraction(10)
"""Seconds without sound from which on damage is more likely than a pause, once the picture has ended."""


class Track(Protocol):
    """A sound track for a new file."""

    def join(self, container: OutputContainer) -> None:
        """Adds its stream. Called once, before anything is written."""
        ...

    def packets(self, until: Fraction | None) -> Iterator[av.Packet]:
        """The next packets that begin before `until`, in seconds of the new file. None: all that are left."""
        ...

    def close(self) -> None: ...


class Label(NamedTuple):
    """What a player shows of a track, and whether it plays it unless told otherwise."""

    language: str | None = None
    title: str | None = None
    disposition: int | None = None

    @staticmethod
    def of(stream: av.AudioStream) -> Label:
        text = {key: printable(value, 100) for key, value in stream.metadata.items() if key in ("language", "title")}
        return Label(text.get("language"), text.get("title"), int(stream.disposition))

    def write(self, stream: av.AudioStream) -> None:
        for key in ("language", "title"):
            if value := getattr(self, key):
                stream.metadata[key] = value
        if self.disposition is not None:
            stream.disposition = self.disposition  # pyright: ignore[reportAttributeAccessIssue]


NO_LABEL = Label()


class _Paced:
    """Gives packets in the order of their times."""

    def __init__(self, label: Label) -> None:
        self._label = label
        self._source = iter(self._all())
        self._next: av.Packet | None = None

    def _all(self) -> Iterator[av.Packet]:
        raise NotImplementedError

    def packets(self, until: Fraction | None) -> Iterator[av.Packet]:
        while True:
            packet = self._next or next(self._source, None)
            self._next = None
            if packet is None:
                return
            if until is not None and _begins(packet) >= until:
                self._next = packet
                return
            yield packet

    def close(self) -> None:
        self._source.close()  # pyright: ignore[reportAttributeAccessIssue]  (a generator)


@dataclass(frozen=True)
class Part:
    """Which part of a file's sound is wanted, in seconds on the file's clock."""

    origin: Fraction
    """This becomes 0."""
    trimmed: bool
    """Whether what lies before the origin is left out; where it is not, it is all the same hidden."""
    end: Fraction | None
    """Packets that begin at this time or later are left out."""
    picture_end: Fraction
    """After it, the sound ends with its first long gap."""


class CopiedTrack(_Paced):
    """The packets of a file's stream, bit for bit, at their times."""

    def __init__(self, source: Source, index: int, part: Part, label: Label = NO_LABEL) -> None:
        super().__init__(label)
        self._file, self._index, self._part = source, index, part

    def join(self, container: OutputContainer) -> None:
        with open_file(self._file) as file:
            self._stream = add_copy(container, audio_stream(file, self._index))
        self._label.write(self._stream)

    def _all(self) -> Iterator[av.Packet]:
        for packet in ascending(part_packets(self._file, self._index, self._part), self._part.origin):
            packet.stream = self._stream
            yield packet


class EncodedTrack(_Paced):
    """A track that is encoded. `samples` are float32 [any number, channels] and begin at 0.

    codec: aac, or flac, which loses nothing; deep: and has 24 bits a sample, not 16.
    """

    def __init__(
        self,
        samples: Iterable[np.ndarray],
        rate: int,
        layout: str,
        label: Label = NO_LABEL,
        *,
        codec: str = "aac",
        deep: bool = False,
    ) -> None:
        super().__init__(label)
        self._samples, self._rate, self._layout, self._codec, self._deep = samples, rate, layout, codec, deep

    def join(self, container: OutputContainer) -> None:
        self._stream = cast(av.AudioStream, container.add_stream(self._codec, rate=self._rate, layout=self._layout))
        context = self._stream.codec_context
        if self._codec == "aac":
            context.bit_rate = BITS_PER_CHANNEL * context.layout.nb_channels
        else:
            context.format = "s32" if self._deep else "s16"  # pyright: ignore[reportAttributeAccessIssue]
        self._label.write(self._stream)

    def _all(self) -> Iterator[av.Packet]:
        done = 0
        for part in self._samples:
            frame = audio_frame(part, self._rate, self._layout)
            frame.pts = done
            done += len(part)
            yield from self._stream.encode(frame)
        if done:
            yield from self._stream.encode(None)


def part_packets(source: Source, index: int, part: Part) -> Iterator[av.Packet]:
    """The part's packets, those just before it, and an empty one that flushes a decoder."""
    with open_file(source) as file:
        stream = audio_stream(file, index)
        ended = part.picture_end
        start = part.origin - RUN_IN
        if part.trimmed and start > 0 and not clock_may_jump(file):
            seek(file, int(start / time_base_of(stream)), stream)
        after = 0
        for packet in demuxed(file, stream):
            if packet.size:
                packet.pts = after if packet.pts is None else packet.pts
                if _begins(packet) > ended + LONG_GAP:
                    return
                after = packet.pts + (packet.duration or 0)
                ended = max(ended, after * packet.time_base)
                if part.end is not None and _begins(packet) >= part.end:
                    return
                if part.trimmed and after * packet.time_base <= start:
                    continue
            yield packet


def ascending(packets: Iterable[av.Packet], origin: Fraction) -> Iterator[av.Packet]:
    """The packets with content, with `origin` at 0. Their times ascend, because containers want that."""
    last: int | None = None
    for packet in packets:
        if packet.size:
            begin = (packet.pts or 0) - round(origin / packet.time_base)
            packet.pts = packet.dts = last = begin if last is None else max(begin, last + 1)
            yield packet


def audio_stream(file: InputContainer, index: int) -> av.AudioStream:
    return cast(av.AudioStream, file.streams[index])


def time_base_of(stream: av.AudioStream) -> Fraction:
    return stream.time_base or Fraction(1, stream.codec_context.sample_rate)


def _begins(packet: av.Packet) -> Fraction:
    """In seconds."""
    return (packet.pts or 0) * packet.time_base


def add_copy(container: OutputContainer, stream: av.AudioStream) -> av.AudioStream:
    copy = container.add_stream_from_template(stream)
    copy.codec_tag = NO_TAG  # the source container's own name for the codec; mp4 has another
    return copy
