"""Reads a video file as a stream: its frames one by one, each with when it is shown."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from torch import Tensor

from ..amt.timeline import Span, exact_rate
from .colour import Colour, bits_of, colour_of, to_rgb

Source = str | io.BytesIO
"""A file's path or its bytes."""

ATTACHED_PICTURE = 0x400
"""FFmpeg's disposition of a cover."""
MISSING = Fraction(1, 2)
"""Seconds by which a file's frames may end earlier than it says."""


BARE = Fraction(1, 1_200_000)
"""FFmpeg's time base of streams without a container: a rate that they do not say themselves is made up."""


class UnreadableVideo(ValueError):
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


class Frame(NamedTuple):
    """A decoded frame, upright."""

    span: Span
    """When it is shown, in seconds on the file's clock."""
    picture: Tensor
    """[h, w, 3], uint8, or float32 0..1 where the file has more than 8 bits."""


@dataclass(frozen=True)
class Timing:
    """When the frames of a file are shown, as its packets say."""

    frames: int
    first: int
    """When the first is shown, in units of the time base..."""
    final: int
    """... and when the last."""
    time_base: Fraction
    rate: Fraction
    """The usual number of frames a second."""
    regular: bool
    """Whether each frame is shown for one or more times 1 / rate; if not, rate is only about right."""
    constant: bool
    """Whether all are shown for 1 / rate."""
    last: Fraction
    """For how long the last frame is shown, in seconds."""
    counted: bool = False
    """Whether the file has no times: frames are then counted, and the time base is 1 / rate."""

    def time(self, pts: int) -> Fraction:
        """Seconds on the file's clock. Containers round; what is regular is brought back to exact multiples."""
        start = self.first * self.time_base
        if not self.regular:
            return pts * self.time_base
        return start + round((pts - self.first) * self.time_base * self.rate) / self.rate

    @property
    def start(self) -> Fraction:
        """When the first frame is shown, in seconds on the file's clock."""
        return self.time(self.first)

    @property
    def end(self) -> Fraction:
        """When the last frame is no longer shown."""
        return self.time(self.final) + self.last

    @property
    def tick(self) -> Fraction:
        """All frames begin at multiples of this, counted from the first."""
        return 1 / self.rate if self.regular else self.time_base


class VideoReader:
    """A video file, or the part of it in a window. Reads its packets' times at once, its frames in `frames`.

    Raises:
        UnreadableVideo: it cannot be read; says why.
    """

    def __init__(self, source: Source, window: Window = Window()) -> None:
        self.source = source
        self.window = window
        with open_file(source) as container:
            self.timing = _timing(container, window)
        with open_file(source) as container:
            frame, stream = self._first_frame(container)
            self.colour: Colour = colour_of(frame, stream.codec_context)
            self.bits = bits_of(frame)
            self._turns = round(frame.rotation / 90) % 4
            self._decoded_size = (frame.width, frame.height)
            aspect = stream.sample_aspect_ratio or Fraction(1)
            self.pixel_aspect = 1 / aspect if self._turns % 2 else aspect

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), upright."""
        width, height = self._decoded_size
        return (width, height) if self._turns % 2 else (height, width)

    def frames(self) -> Iterator[Frame]:
        """The frames, in the order in which they are shown."""
        with open_file(self.source) as container:
            previous: tuple[Fraction, Tensor] | None = None
            reformatter = VideoReformatter()
            for pts, frame in self._decoded(container):
                time = self.timing.time(pts)
                if previous is not None:
                    yield Frame(Span(previous[0], time), previous[1])
                previous = time, self._picture(frame, reformatter)
        if previous is not None:
            yield Frame(Span(previous[0], previous[0] + self.timing.last), previous[1])

    def _first_frame(self, container: InputContainer) -> tuple[av.VideoFrame, av.VideoStream]:
        for _, frame in self._decoded(container):
            return frame, _video_stream(container)
        raise UnreadableVideo(f"the video has no frames that can be decoded{self.window}. Convert it to H.264 first.")

    def _decoded(self, container: InputContainer) -> Iterator[tuple[int, av.VideoFrame]]:
        """The frames in the window with their times, which ascend."""
        stream = _video_stream(container)
        stream.thread_type = "AUTO"
        start, end = _bounds(self.window, self.timing.time_base)
        if start and not self.timing.counted:
            container.seek(start, stream=stream)
        step = max(1, round(1 / (self.timing.rate * self.timing.time_base)))
        last: int | None = None
        for packet in container.demux(stream):
            for frame in self._decode(packet, last):
                pts = None if self.timing.counted else frame.pts
                if pts is None or (last is not None and pts <= last):  # as broken files have it
                    pts = (0 if self.timing.counted else self.timing.first) if last is None else last + step
                last = pts
                if end is not None and pts >= end:
                    return
                if start is None or pts >= start:
                    yield pts, frame

    def _decode(self, packet: av.Packet, last: int | None) -> list[av.VideoFrame]:
        try:
            return packet.decode()  # pyright: ignore[reportReturnType]  (it is a video stream's)
        except FFmpegError as error:
            if last is None:  # a stream cut out of a longer one begins with frames that refer to what is not there
                return []
            raise UnreadableVideo(
                f"the video is damaged: it cannot be decoded after {float(self.timing.time(last)):.2f} s "
                f"({error.strerror}). Repair or download it again, or trim it to the part before."
            ) from error

    def _picture(self, frame: av.VideoFrame, reformatter: VideoReformatter) -> Tensor:
        if (frame.width, frame.height) != self._decoded_size:
            raise UnreadableVideo(
                f"the video's frames change their size from {self._decoded_size[0]} x {self._decoded_size[1]} to "
                f"{frame.width} x {frame.height}. Convert it to one size first, or trim it to the part before."
            )
        picture = to_rgb(frame, self.colour, reformatter)
        return torch.rot90(picture, self._turns).contiguous() if self._turns else picture


@contextmanager
def open_file(source: Source) -> Iterator[InputContainer]:
    """Opens a file of its own: readers of the same source do not move each other."""
    file = source if isinstance(source, str) else io.BytesIO(source.getvalue())
    try:
        container = av.open(file, mode="r")
    except (FFmpegError, OSError) as error:
        raise UnreadableVideo(
            f"the video cannot be opened: {error.strerror or error}. Is the file whole, and a video? Download it "
            "again, or convert it to mp4."
        ) from error
    with container:
        yield container


def _video_stream(container: InputContainer) -> av.VideoStream:
    for stream in container.streams.video:
        if not int(stream.disposition) & ATTACHED_PICTURE and stream.codec_context is not None:
            return stream
    raise UnreadableVideo(
        "the file has no picture, or none that this FFmpeg can decode. Choose another, or convert it to H.264 first."
    )


def _bounds(window: Window, time_base: Fraction) -> tuple[int | None, int | None]:
    """The window in units of the time base, its end excluded. Rounded as ComfyUI does it."""
    start = int(window.start / time_base) or None
    end = int((window.start + window.duration) / time_base) if window.duration else None
    return start, end


def _timing(container: InputContainer, window: Window) -> Timing:
    """Reads all packets, without decoding them."""
    stream = _video_stream(container)
    time_base = stream.time_base or Fraction(1, 1000)
    start, end = _bounds(window, time_base)
    if start:
        container.seek(start, stream=stream)
    times, untimed, last_duration = array("q"), 0, 0
    try:
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None:
                untimed += 1
                continue
            if end is not None and packet.dts is not None and packet.dts >= end:
                break
            if (start is None or packet.pts >= start) and (end is None or packet.pts < end):
                if not times or packet.pts > times[-1]:
                    last_duration = packet.duration or 0
                times.append(packet.pts)
    except FFmpegError as error:
        raise UnreadableVideo(f"the video is damaged: {error}. Repair or download it again.") from error
    frames = len(times) + untimed
    if not frames:
        remedy = "Change the trim." if str(window) else "Choose another, or download it again."
        raise UnreadableVideo(f"the video has no frames{window}. {remedy}")
    # AVI stores no times: FFmpeg counts, which is wrong where frames are stored in another order.
    if container.format.name == "avi" and (not times or stream.codec_context.has_b_frames):
        return _counted(stream.guessed_rate or stream.average_rate, frames, window)
    if time_base == BARE and not stream.codec_context.framerate:
        raise _no_rate()
    if not times:
        return _counted(stream.codec_context.framerate, frames, window)
    pts = np.sort(np.frombuffer(times, np.int64))
    timing = _timed(stream, pts, time_base, last_duration)
    _refuse_incomplete(stream, timing.end, end)
    if end is not None and not timing.regular:
        timing = replace(timing, last=min(timing.last, (end - timing.final) * time_base))
    return timing


def _counted(rate: Fraction | None, frames: int, window: Window) -> Timing:
    if not rate:
        raise _no_rate()
    first = _bounds(window, 1 / rate)[0] or 0
    return Timing(frames, first, first + frames - 1, 1 / rate, rate, True, True, 1 / rate, counted=True)


def _timed(stream: av.VideoStream, pts: np.ndarray, time_base: Fraction, last_duration: int) -> Timing:
    """From times in ascending order."""
    frames, first, final = len(pts), int(pts[0]), int(pts[-1])
    last = last_duration * time_base
    seconds = (final - first) * time_base
    # What FFmpeg guesses for one frame is made up; for more, it is compared with their times.
    said = [rate for rate in (stream.average_rate, stream.guessed_rate if frames > 1 else None) if rate]
    try:
        measured = [exact_rate(float((frames - 1) / seconds if seconds else (said or [1 / last])[0]))]
    except (ValueError, ZeroDivisionError):
        raise _no_rate() from None
    for rate in (*said, *measured):
        # In frames; what the container rounded is half a unit of the time base away, or almost one where it cuts off.
        places = (pts - first) * float(time_base * rate)
        gaps = np.diff(np.round(places)) if frames > 1 else np.ones(1)
        off = np.abs(places - np.round(places)).max()
        if off <= 1.01 * time_base * rate + 1e-6 and off < 0.5 and (gaps >= 1).all() and (gaps == 1).mean() >= 0.5:
            shown = max(1, round(last * rate)) / rate
            return Timing(frames, first, final, time_base, rate, True, bool((gaps == 1).all()), shown)
    return Timing(frames, first, final, time_base, measured[0], False, False, last or 1 / measured[0])


def _no_rate() -> UnreadableVideo:
    return UnreadableVideo(
        "the video's frame rate cannot be read: its file gives neither times for its frames nor a rate. Convert it "
        "first, for example with: ffmpeg -r 24 -i video -c copy video.mp4"
    )


def _refuse_incomplete(stream: av.VideoStream, end: Fraction, wanted: int | None) -> None:
    """Raises UnreadableVideo where the frames end earlier than the file says, and earlier than is wanted."""
    time_base = stream.time_base or Fraction(0)
    if stream.duration is not None:
        said = ((stream.start_time or 0) + stream.duration) * time_base
    else:  # as Matroska files have it
        said = _clock(stream.metadata.get("DURATION", ""))
        if said is None:
            return
    if wanted is not None:
        said = min(said, wanted * time_base)
    if said - end > MISSING:
        raise UnreadableVideo(
            f"the video is incomplete: it says that it lasts {float(said):.2f} s, but its frames end at "
            f"{float(end):.2f} s. Download or copy it again, or trim it to the part that is there."
        )


def _clock(text: str) -> Fraction | None:
    """00:01:02.5 -> seconds."""
    try:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
    except ValueError:
        return None
