"""Reads a video file as a stream: its frames one by one, each with the time when it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from copy import copy
from fractions import Fraction
from itertools import islice
from typing import NamedTuple, TypeVar

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from torch import Tensor

from ..amt.timeline import Span
from .colour import TRANSPARENCY_LEFT_OUT, Colour, bits_of, colour_of, is_transparent, to_rgb
from .container import (
    WHOLE,
    Source,
    UnreadableVideoError,
    Window,
    clock_may_jump,
    demuxed,
    open_file,
    seek,
    video_stream,
)
from .deinterlace import deinterlaced
from .hdr import brightness_of
from .orientation import orientation_of
from .timing import Timing, read_timing

Reader = TypeVar("Reader", bound="VideoReader")


class Frame(NamedTuple):
    """A decoded frame, upright."""

    span: Span
    """When it is shown, in seconds on the file's clock."""
    picture: Tensor
    """[h, w, 3], uint8, or float32 0..1 where the file has more than 8 bits."""


class VideoReader:
    """A video file, or the part of it in a window. The times are read when this is made, the frames by `frames`.

    demuxer: see `open_file`.
    most_pixels: the most pixels that a frame may have. A video with larger ones is refused before any is decoded.
    check: called now and then while packets are read. An exception that it raises ends the reading.
    timing: that of this file and window, where it is known already.

    Raises:
        UnreadableVideoError: the video cannot be read. The message says why.
    """

    def __init__(
        self,
        source: Source,
        window: Window = WHOLE,
        *,
        demuxer: str | None = None,
        most_pixels: int | None = None,
        check: Callable[[], object] = lambda: None,
        timing: Timing | None = None,
    ) -> None:
        self.source = source
        self.window = window
        self._demuxer = demuxer
        self._skipped = self._concealed = 0
        """Packets that gave no frame, and frames that the decoder patched up; counted in `frames`."""
        self.interlaced = False
        """Whether frames were deinterlaced; known after `frames`."""
        self.end: int | None = None
        """When the first frame is shown that is left out at the end, in units of the time base."""
        with self._open() as container:
            _refuse_large(video_stream(container), most_pixels)
            self.timing = timing or read_timing(container, window, check)
        with self._open() as container:
            frame, stream = self._first_frame(container)
            self.colour: Colour = colour_of(frame, stream.codec_context)
            self.bits = bits_of(frame)
            self.brightness = brightness_of(frame)
            self._transparent = is_transparent(frame, stream)
            self._orientation = orientation_of(frame)
            self._decoded_size = (frame.width, frame.height)
            aspect = stream.sample_aspect_ratio or Fraction(1)
            self.pixel_aspect = 1 / aspect if self._orientation.swaps_sides else aspect

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), upright."""
        width, height = self._decoded_size
        return (width, height) if self._orientation.swaps_sides else (height, width)

    def without_last(self: Reader, frames: int) -> Reader:
        """The video without its last frames; at least one stays."""
        shorter = copy(self)
        shorter.end = int(self.timing.pts[self.timing.frames - frames])
        shorter.timing = self.timing.without_last(frames)
        return shorter

    def notes(self) -> list[str]:
        """Sentences for the user on how the frames were read. They are complete after `frames`."""
        notes = [TRANSPARENCY_LEFT_OUT] if self._transparent else []
        if damaged := self._skipped + self._concealed:
            what = "1 damaged frame was" if damaged == 1 else f"{damaged} damaged frames were"
            notes.append(f"The video has faults: {what} concealed or replaced by the one before.")
        if self.interlaced:
            notes.append("The video is interlaced: it was deinterlaced.")
        return notes

    def frames(self, first: int = 0) -> Iterator[Frame]:
        """The frames from `first` on, in the order in which they are shown."""
        self._skipped = self._concealed = 0
        with self._open() as container:
            previous: tuple[Fraction, Tensor] | None = None
            reformatter = VideoReformatter()
            for pts, frame in deinterlaced(self._watched(self._decoded(container, first))):
                time = self.timing.time(pts)
                if previous is not None:
                    yield from self._shown(*previous, time)
                previous = time, self._picture(frame, reformatter)
        if previous is not None:
            yield from self._shown(*previous, self.timing.end if self.timing.constant else None)

    def _shown(self, start: Fraction, picture: Tensor, end: Fraction | None) -> Iterator[Frame]:
        """The frame, shown until the next one. It is repeated in place of frames that could not be decoded.

        end: when the next one is shown. None: this is the last frame, and is shown as long as the file says.
        """
        end = start + self.timing.last if end is None else end
        if self.timing.constant and self._skipped:
            step = 1 / self.timing.rate
            while end - start > 1.5 * step:
                yield Frame(Span(start, start + step), picture)
                start += step
        yield Frame(Span(start, end), picture)

    def _open(self) -> AbstractContextManager[InputContainer]:
        return open_file(self.source, self._demuxer)

    def _first_frame(self, container: InputContainer) -> tuple[av.VideoFrame, av.VideoStream]:
        for _, frame in self._decoded(container):
            return frame, video_stream(container)
        raise UnreadableVideoError(
            f"the video has no frames that can be decoded{self.window}. Convert it to H.264 first."
        )

    def _decoded(self, container: InputContainer, first: int = 0) -> Iterator[tuple[int, av.VideoFrame]]:
        """The frames in the window from `first` on with their times, which ascend."""
        stream = video_stream(container)
        stream.thread_type = "AUTO"
        start, end = self.window.bounds(self.timing.time_base)
        end = end if self.end is None else self.end
        packets = demuxed(container, stream)
        start = int(self.timing.pts[first]) if first else start
        if start and not self.timing.counted:
            key = self.timing.key_before(start)
            if clock_may_jump(container):
                packets = islice(packets, key[1] if key else 0, None)
            elif key or not first:
                seek(container, key[0] if key and first else start, stream)
        step = max(1, round(1 / (self.timing.rate * self.timing.time_base)))
        counted = self.timing.counted
        last: int | None = None
        for packet in packets:
            skipped = self._skipped
            for frame in self._decode(packet, is_first=last is None):
                pts = None if counted else frame.pts
                if pts is None or (last is not None and pts <= last):  # broken files have such times
                    pts = (0 if counted else self.timing.first) if last is None else last + step
                last = pts
                if end is not None and pts >= end:
                    return
                if start is None or pts >= start:
                    yield pts, frame
            if counted and last is not None and self._skipped > skipped:
                last += step  # the frame that it should have given is counted too

    def _decode(self, packet: av.Packet, is_first: bool) -> list[av.VideoFrame]:
        """Decodes a packet. One that cannot be decoded is counted and skipped, as players do."""
        try:
            frames: list[av.VideoFrame] = packet.decode()  # pyright: ignore[reportAssignmentType]  (a video stream's)
        except FFmpegError:
            # A stream that was cut out of a longer one begins with frames whose references are missing: no damage.
            self._skipped += not is_first
            return []
        self._concealed += sum(frame.is_corrupt for frame in frames)
        return frames

    def _watched(self, frames: Iterator[tuple[int, av.VideoFrame]]) -> Iterator[tuple[int, av.VideoFrame]]:
        for pts, frame in frames:
            if (frame.width, frame.height) != self._decoded_size:
                raise UnreadableVideoError(
                    f"the video's frames change their size from {self._decoded_size[0]} x {self._decoded_size[1]} to "
                    f"{frame.width} x {frame.height}. Convert it to one size first, or trim it to the part before."
                )
            self.interlaced |= frame.interlaced_frame
            yield pts, frame

    def _picture(self, frame: av.VideoFrame, reformatter: VideoReformatter) -> Tensor:
        return self._orientation.upright(to_rgb(frame, self.colour, reformatter))


def _refuse_large(stream: av.VideoStream, most_pixels: int | None) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if most_pixels is not None and width * height > most_pixels:
        raise UnreadableVideoError(
            f"the video's frames of {width} x {height} pixels need more memory than is free, or than is allowed: at "
            f"most {most_pixels / 1e6:.0f} megapixels. Make the video smaller first."
        )
