"""When the frames of a video file are shown. The packets say it, so nothing is decoded."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from ..amt.timeline import exact_rate
from .container import UnreadableVideoError, Window, clock_may_jump, demuxed, seek, video_stream

MISSING = Fraction(1, 2)
"""The frames of a file may end earlier than the file says by this many seconds."""

WITHOUT_CONTAINER = Fraction(1, 1_200_000)
"""FFmpeg's time base for streams without a container. If such a stream does not say its rate, FFmpeg makes one up."""

PACKETS_BETWEEN_CHECKS = 1000

LONGEST = 10**9
"""Seconds between the first and the last frame, some thirty years. Only damage gives more."""


@dataclass(frozen=True)
class Timing:
    """When the frames of a file are shown."""

    frames: int
    first: int
    """When the first frame is shown, in units of the time base."""
    final: int
    """When the last frame is shown, in units of the time base."""
    time_base: Fraction
    rate: Fraction
    """The usual number of frames a second."""
    regular: bool
    """Whether each frame is shown for a whole multiple of 1 / rate. If not, the rate is approximate."""
    constant: bool
    """Whether all frames are shown for 1 / rate."""
    last: Fraction
    """How long the last frame is shown, in seconds."""
    counted: bool = False
    """Whether the file has no times. Then the frames are counted, and the time base is 1 / rate."""
    pts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64), compare=False, repr=False)
    """When each frame is shown, in units of the time base, ascending."""
    keys: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int64), compare=False, repr=False)
    """[key frames, 2], also those just before a window: when each is shown, in units of the time base, and its packet's
    number in the stream, which counts in files without an index."""

    def time(self, pts: int) -> Fraction:
        """A time in seconds on the file's clock. Containers round times; regular ones are made exact again."""
        start = self.first * self.time_base
        if not self.regular:
            return pts * self.time_base
        return start + round((pts - self.first) * self.time_base * self.rate) / self.rate

    def shown(self, frame: int) -> Fraction:
        """When a frame is shown, in seconds on the file's clock."""
        return self.time(int(self.pts[frame]))

    def key_frames(self) -> list[int]:
        """The frames where decoding can begin, ascending."""
        return np.flatnonzero(np.isin(self.pts, self.keys[:, 0])).tolist()

    def key_before(self, pts: int) -> tuple[int, int] | None:
        """Where to begin to decode for a frame: a key frame's time and packet; None for the file's beginning.

        Of the two key frames before it, the earlier one is surely enough.
        """
        index = bisect_right(self.keys[:, 0].tolist(), pts) - 2
        return (int(self.keys[index, 0]), int(self.keys[index, 1])) if index >= 0 else None

    def without_last(self, frames: int) -> Timing:
        """That of the source without its last frames; at least one stays."""
        kept = self.frames - frames
        shown = self.shown(kept) - self.shown(kept - 1)
        return replace(self, frames=kept, final=int(self.pts[kept - 1]), last=shown, pts=self.pts[:kept])

    @property
    def start(self) -> Fraction:
        """When the first frame is shown, in seconds on the file's clock."""
        return self.time(self.first)

    @property
    def end(self) -> Fraction:
        """When the last frame ends, in seconds on the file's clock."""
        return self.time(self.final) + self.last

    @property
    def tick(self) -> Fraction:
        """All frames begin at multiples of this, counted from the first."""
        return 1 / self.rate if self.regular else self.time_base


def read_timing(container: InputContainer, window: Window, check: Callable[[], object]) -> Timing:
    """Reads all packets of the window. `check` is called now and then; an exception that it raises ends the reading.

    Raises:
        UnreadableVideoError: the file is damaged or incomplete, or has no frames or no rate.
    """
    stream = video_stream(container)
    time_base = stream.time_base or Fraction(1, 1000)
    start, end = window.bounds(time_base)
    has_index = not clock_may_jump(container)
    if start and has_index:
        seek(container, start, stream)
    times, untimed, last_duration = array("q"), 0, 0
    keys = array("q")
    try:
        for number, packet in enumerate(demuxed(container, stream)):
            if number % PACKETS_BETWEEN_CHECKS == 0:
                check()
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None:
                untimed += 1
                continue
            if packet.is_keyframe:
                keys.extend((packet.pts, number))
            if end is not None and packet.dts is not None and packet.dts >= end:
                break
            if (start is None or packet.pts >= start) and (end is None or packet.pts < end):
                if not times or packet.pts > times[-1]:
                    last_duration = packet.duration or 0
                times.append(packet.pts)
    except FFmpegError as error:
        raise UnreadableVideoError(f"the video is damaged: {error}. Repair or download it again.") from error
    frames = len(times) + untimed
    if not frames:
        remedy = "Change the trim." if str(window) else "Choose another, or download it again."
        raise UnreadableVideoError(f"the video has no frames{window}. {remedy}")
    # AVI stores no times. FFmpeg counts the frames, which is wrong where they are stored in another order.
    if container.format.name == "avi" and (not times or stream.codec_context.has_b_frames):
        if start is not None or end is not None:
            seek(container, 0, stream)
            frames = sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)
        return _counted(stream.guessed_rate or stream.average_rate, frames, window)
    if time_base == WITHOUT_CONTAINER and not stream.codec_context.framerate:
        raise _no_rate()
    if not times:
        return _counted(stream.codec_context.framerate, frames, window)
    pts = np.sort(np.frombuffer(times, np.int64))
    if (int(pts[-1]) - int(pts[0])) * time_base > LONGEST:
        raise UnreadableVideoError(
            "the video is damaged: by its times, its frames are centuries apart. Download it again, or repair it, for "
            "example with: ffmpeg -i video -vf setpts=N/FRAME_RATE/TB repaired.mp4"
        )
    timing = _timed(stream, pts, time_base, last_duration)
    # How long a file without an index lasts is FFmpeg's estimate.
    timing = _complete(timing, stream, pts, end) if has_index else timing
    pairs = np.frombuffer(keys, np.int64).reshape(-1, 2)
    timing = replace(timing, pts=pts, keys=pairs[pairs[:, 0].argsort(kind="stable")])
    if end is not None and not timing.regular:
        timing = replace(timing, last=min(timing.last, (end - timing.final) * time_base))
    return timing


def _counted(rate: Fraction | None, frames: int, window: Window) -> Timing:
    """frames: of the whole file."""
    if not rate:
        raise _no_rate()
    rate = _nominal(rate)
    start, end = window.bounds(1 / rate)
    first = start or 0
    final = (frames if end is None else min(frames, end)) - 1
    frames = final - first + 1
    if frames < 1:
        raise UnreadableVideoError(f"the video has no frames{window}. Change the trim.")
    return Timing(
        frames, first, final, 1 / rate, rate, True, True, 1 / rate, counted=True, pts=np.arange(first, final + 1)
    )


def _timed(stream: av.VideoStream, pts: np.ndarray, time_base: Fraction, last_duration: int) -> Timing:
    """From times in ascending order."""
    frames, first, final = len(pts), int(pts[0]), int(pts[-1])
    last = last_duration * time_base
    seconds = (final - first) * time_base
    # For a single frame FFmpeg makes up a rate. For more frames its guess is compared with their times.
    said = [rate for rate in (stream.average_rate, stream.guessed_rate if frames > 1 else None) if rate]
    try:
        measured = (frames - 1) / seconds if seconds else (said or [1 / last])[0]
    except ZeroDivisionError:
        raise _no_rate() from None
    # Containers round the rate that they say. So the rate that it stands for is tried first, and then the rate itself.
    rates = (*said, measured)
    for rate in (*map(_nominal, rates), *(rate.limit_denominator(1001) for rate in rates), *said):
        # In frames; what the container rounded is half a unit of the time base away, or almost one where it cuts off.
        places = (pts - first) * float(time_base * rate)
        gaps = np.diff(np.round(places)) if frames > 1 else np.ones(1)
        off = np.abs(places - np.round(places)).max()
        if off <= 1.01 * time_base * rate + 1e-6 and off < 0.5 and (gaps >= 1).all() and (gaps == 1).mean() >= 0.5:
            shown = max(1, round(last * rate)) / rate
            return Timing(frames, first, final, time_base, rate, True, bool((gaps == 1).all()), shown)
    rate = _nominal(measured)
    return Timing(frames, first, final, time_base, rate, False, False, last or 1 / rate)


def _nominal(rate: Fraction) -> Fraction:
    """The usual rate that this one stands for, or itself where there is none."""
    try:
        return exact_rate(float(rate))
    except ValueError:  # above a thousand frames a second, or below one frame in a thousand seconds
        return rate


def _no_rate() -> UnreadableVideoError:
    return UnreadableVideoError(
        "the video's frame rate cannot be read: its file gives neither times for its frames nor a rate. Convert it "
        "first, for example with: ffmpeg -r 24 -i video -c copy video.mp4"
    )


def _complete(timing: Timing, stream: av.VideoStream, pts: np.ndarray, wanted: int | None) -> Timing:
    """The timing with the last frame shown to the end that the file says, where that is possible.

    wanted: the end of the window in units of the time base.

    Raises:
        UnreadableVideoError: the frames end earlier than the file says, and earlier than is wanted.
    """
    time_base = timing.time_base
    if stream.duration is not None:
        said = ((stream.start_time or 0) + stream.duration) * time_base
    else:  # Matroska files say it in a tag
        said = _seconds(stream.metadata.get("DURATION", ""))
        if said is None:
            return timing
    if wanted is not None:
        said = min(said, wanted * time_base)
    if said - timing.end <= MISSING:
        return timing
    last = said - timing.time(timing.final)
    longest = int(np.diff(pts).max(initial=0)) * time_base
    if last <= longest:  # a slide show, or a picture that often stands still
        return replace(timing, last=max(1, round(last * timing.rate)) / timing.rate if timing.regular else last)
    raise UnreadableVideoError(
        f"the video is incomplete: it says that it lasts {float(said):.2f} s, but its frames end at "
        f"{float(timing.end):.2f} s. Download or copy it again, or trim it to the part that is there."
    )


def _seconds(text: str) -> Fraction | None:
    """00:01:02.5 -> 62.5 s. None for any other text, because a tag may hold anything."""
    found = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,12})?)\0*", text.strip(), re.ASCII)
    return 3600 * int(found[1]) + 60 * int(found[2]) + Fraction(found[3]) if found else None
