"""The sound of a video: its packets as they are, or decoded, stretched and encoded again."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from typing import Protocol, cast

import av
import av.filter
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as NothingMore
from av.error import FFmpegError

from .decode import Source, VideoReader, open_file

log = logging.getLogger(__name__)

NO_TAG = "\0\0\0\0"
RUN_IN = Fraction(1, 10)
"""Seconds of packets before a cut that decoders need to sound right at it; the file's edit list hides them."""
HEAD_START = Fraction(1, 10)
"""Sound that begins this much before the picture, or less, is an encoder's run-in, not an offset."""
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
AAC_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1")
BITS_PER_CHANNEL = 96_000


class Track(Protocol):
    """Sound on its way into a file."""

    def join(self, container: OutputContainer) -> None:
        """Adds its stream. Called once, before anything is written."""
        ...

    def packets(self, until: Fraction | None) -> Iterator[av.Packet]:
        """What comes next and begins before `until`, in seconds of the new file; None is all that is left."""
        ...

    def close(self) -> None: ...


class _Paced:
    """Packets, handed out as the time comes."""

    def __init__(self) -> None:
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
    """What begins here or later is left out."""


class CopiedTrack(_Paced):
    """The packets of a file's stream, bit for bit, at their times."""

    def __init__(self, source: Source, index: int, part: Part) -> None:
        super().__init__()
        self._file, self._index, self._part = source, index, part

    def join(self, container: OutputContainer) -> None:
        with open_file(self._file) as file:
            self._stream = _add_copy(container, _stream(file, self._index))

    def _all(self) -> Iterator[av.Packet]:
        for packet in _demuxed(self._file, self._index, self._part):
            if not packet.size:
                continue
            packet.pts = packet.dts = (packet.pts or 0) - round(self._part.origin / packet.time_base)
            packet.stream = self._stream
            yield packet


class EncodedTrack(_Paced):
    """Sound as AAC. `samples` are float32 [channels, any number] that begin at 0."""

    def __init__(self, samples: Iterable[np.ndarray], rate: int, layout: str) -> None:
        super().__init__()
        self._samples, self._rate, self._layout = samples, rate, layout

    def join(self, container: OutputContainer) -> None:
        self._stream = container.add_stream("aac", rate=self._rate, layout=self._layout)
        self._stream.bit_rate = BITS_PER_CHANNEL * self._stream.codec_context.layout.nb_channels

    def _all(self) -> Iterator[av.Packet]:
        done = 0
        for part in self._samples:
            frame = _frame(part, self._rate, self._layout)
            frame.pts = done
            done += part.shape[1]
            yield from self._stream.encode(frame)
        if done:
            yield from self._stream.encode(None)


def tracks_of(video: VideoReader, stretch: int) -> tuple[list[Track], Fraction]:
    """The sound of a video, to be heard `stretch` times as long with its pitch kept; and where the new file's 0 is.

    Of a video that is not trimmed, the sound goes on to its own end.
    """
    with open_file(video.source) as file:
        streams = [stream for stream in file.streams.audio if _can_be_heard(stream)]
        origin = video.timing.start
        trimmed = bool(video.window.start or video.window.duration)
        if not trimmed:
            starts = [stream.start_time * _time_base(stream) for stream in streams if stream.start_time is not None]
            first = min(starts, default=origin)
            origin = first if origin - first > HEAD_START else origin
        part = Part(origin, trimmed, video.timing.end if video.window.duration else None)
        tracks: list[Track] = []
        for stream in streams:
            if stretch == 1 and _mp4_takes(stream):
                tracks.append(CopiedTrack(video.source, stream.index, part))
            else:
                tracks.append(_encoded(video.source, stream, part, stretch))
    return tracks, origin


def track_of_samples(samples: np.ndarray, rate: int, stretch: int) -> EncodedTrack:
    """A track of float32 [channels, samples] that begin at 0; of channels that nobody has named, the first two."""
    layout = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}.get(len(samples), "stereo")
    samples = samples if layout != "stereo" else samples[:2]
    new_rate = rate if rate in AAC_RATES else 48000
    pieces: Iterable[np.ndarray] = np.array_split(samples, max(1, samples.shape[1] // rate), axis=1)
    if new_rate != rate:
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=new_rate)
        frames = chain((_frame(piece, rate, layout) for piece in pieces), [None])
        pieces = (made.to_ndarray() for frame in frames for made in resampler.resample(frame))
    return EncodedTrack(stretched(pieces, stretch, new_rate, layout), new_rate, layout)


def _encoded(source: Source, stream: av.AudioStream, part: Part, stretch: int) -> EncodedTrack:
    context = stream.codec_context
    rate = context.sample_rate if context.sample_rate in AAC_RATES else 48000
    layout = context.layout.name if context.layout.name in AAC_LAYOUTS else "stereo"
    if stream.duration is not None:  # what the decoder gives beyond is an encoder's filling
        end = ((stream.start_time or 0) + stream.duration) * _time_base(stream)
        part = replace(part, end=end if part.end is None else min(end, part.end))
    samples = _decoded(source, stream.index, part, rate, layout)
    return EncodedTrack(stretched(samples, stretch, rate, layout), rate, layout)


def stretched(samples: Iterable[np.ndarray], stretch: int, rate: int, layout: str) -> Iterator[np.ndarray]:
    """`stretch`, a power of 2, times as many samples, sounding as high as before."""
    if stretch == 1:
        yield from samples
        return
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate, format="fltp", layout=layout, time_base=Fraction(1, rate))
    last = source
    for name, value in [("atempo", "0.5")] * (stretch.bit_length() - 1) + [("aformat", "sample_fmts=fltp")]:
        step = graph.add(name, value)
        last.link_to(step)
        last = step
    sink = graph.add("abuffersink")
    last.link_to(sink)
    graph.configure()
    taken = given = 0
    for part in chain(samples, [None]):
        frame = None
        if part is not None:
            frame = _frame(part, rate, layout)
            frame.pts = taken
            taken += part.shape[1]
        source.push(frame)
        with suppress(NothingYet, NothingMore):
            while True:
                made = cast(av.AudioFrame, sink.pull()).to_ndarray()[:, : max(0, taken * stretch - given)]
                given += made.shape[1]
                yield made
    if given < taken * stretch:  # the filter swallows a little at the end
        yield np.zeros((_channels(layout), taken * stretch - given), np.float32)


def _decoded(source: Source, index: int, part: Part, rate: int, layout: str) -> Iterator[np.ndarray]:
    """The samples from the origin on; silence where there are none."""
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    done = 0
    most = None if part.end is None else round((part.end - part.origin) * rate)
    for frame in chain(_frames(source, index, part), [None]):
        start = done
        if frame is not None and frame.pts is not None and frame.time_base:
            start = round((frame.pts * frame.time_base - part.origin) * rate)
        for piece in resampler.resample(frame):
            samples = piece.to_ndarray()
            missing = start - done
            if missing > (rate // 10 if done else 0):  # containers round: a little more or less is no gap
                done = start if most is None else min(start, most)
                yield np.zeros((len(samples), missing), np.float32)
            elif missing < 0 and not done:
                samples = samples[:, -missing:]
            samples = samples[:, : None if most is None else max(0, most - done)]
            done += samples.shape[1]
            start = done
            if samples.shape[1]:
                yield samples


def _frames(source: Source, index: int, part: Part) -> Iterator[av.AudioFrame]:
    heard = False
    for packet in _demuxed(source, index, part):
        try:
            yield from packet.decode()  # pyright: ignore[reportReturnType]  (it is an audio stream's)
            heard = True
        except FFmpegError as error:
            if heard:  # as players do: a click is no reason to go without the picture
                log.warning("a part of the video's sound cannot be decoded: %s", error)


def _demuxed(source: Source, index: int, part: Part) -> Iterator[av.Packet]:
    """The part's packets, those just before it, and an empty one that flushes a decoder."""
    with open_file(source) as file:
        stream = _stream(file, index)
        start = part.origin - RUN_IN
        if part.trimmed and start > 0:
            file.seek(int(start / _time_base(stream)), stream=stream)
        after = 0
        for packet in file.demux(stream):
            if packet.size:
                packet.pts = after if packet.pts is None else packet.pts
                after = packet.pts + (packet.duration or 0)
                if part.end is not None and _begins(packet) >= part.end:
                    return
                if part.trimmed and after * packet.time_base <= start:
                    continue
            yield packet


def _stream(file: InputContainer, index: int) -> av.AudioStream:
    return cast(av.AudioStream, file.streams[index])


def _time_base(stream: av.AudioStream) -> Fraction:
    return stream.time_base or Fraction(1, stream.codec_context.sample_rate)


def _begins(packet: av.Packet) -> Fraction:
    """In seconds."""
    return (packet.pts or 0) * packet.time_base


def _add_copy(container: OutputContainer, stream: av.AudioStream) -> av.AudioStream:
    copy = container.add_stream_from_template(stream)
    copy.codec_tag = NO_TAG  # the source container's own name for the codec; mp4 has another
    return copy


def _mp4_takes(stream: av.AudioStream) -> bool:
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as trial:
            _add_copy(trial, stream)
            trial.start_encoding()
    except (FFmpegError, ValueError):
        return False
    return True


def _can_be_heard(stream: av.AudioStream) -> bool:
    if stream.codec_context is None:  # as with the spatial sound of some phones, beside one that can be
        log.warning("a sound track of the video is left out: this FFmpeg does not know its codec")
        return False
    return True


def _frame(samples: np.ndarray, rate: int, layout: str) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), format="fltp", layout=layout)
    frame.sample_rate = rate
    frame.time_base = Fraction(1, rate)
    return frame


def _channels(layout: str) -> int:
    return av.AudioLayout(layout).nb_channels
