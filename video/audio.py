"""The sound of a video: which of its tracks are copied, which are encoded again, and which are lost."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from ..amt.timeline.curve import SpeedCurve
from .container import Source, clock_may_jump, demuxed, open_file
from .decode import VideoReader
from .layouts import channels_of_samples, channels_of_stream
from .samples import decoded, resampled
from .tempo import at_speed
from .tracks import (
    CopiedTrack,
    EncodedTrack,
    Label,
    Part,
    Track,
    add_copy,
    ascending,
    audio_stream,
    part_packets,
    time_base_of,
)

HEAD_START = Fraction(1, 10)
"""Sound may begin earlier than the picture by up to this much, because encoders add a little at the start."""
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
TRIAL_PACKETS = 20
"""How many packets of a stream are tried, to see whether mp4 takes it. Some are refused only by their packets."""


@dataclass
class Sound:
    """What is heard with a video."""

    tracks: list[Track] = field(default_factory=list)
    origin: Fraction = Fraction(0)
    """The time on the video's clock that is 0 in the new file."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user on what differs from the source."""


def sound_of(video: VideoReader, curve: SpeedCurve | None) -> Sound:
    """The sound of a video at the speed that its picture is shown at, with its pitch kept; None is as fast as it is.

    Of a video whose end is not trimmed, the sound goes on to its own end.
    """
    with open_file(video.source) as file:
        all_streams = list(file.streams.audio)
        streams = [stream for stream in all_streams if stream.codec_context is not None]
        lost = len(all_streams) - len(streams)
        trimmed = bool(video.window.start or video.window.duration)
        origin = video.timing.start
        if not trimmed:
            starts = [stream.start_time * time_base_of(stream) for stream in streams if stream.start_time is not None]
            first = min(starts, default=origin)
            origin = first if origin - first > HEAD_START else origin
        curve = curve and curve.later(video.timing.start - origin)
        end = video.timing.end
        cut = video.window.duration or video.end is not None
        part = Part(origin, trimmed, end if cut else None, end)
        tracks: list[Track] = []
        for stream in streams:
            if curve is None and _mp4_takes(video.source, stream.index):
                tracks.append(CopiedTrack(video.source, stream.index, part, Label.of(stream)))
            elif _is_decodable(video.source, stream.index):
                tracks.append(_encoded(video.source, stream, part, curve))
            else:
                lost += 1
    notes = []
    if lost:
        which = "A sound track is" if lost == 1 else f"{lost} sound tracks are"
        notes.append(f"{which} missing in the result: this FFmpeg cannot decode it.")
    return Sound(tracks, origin, notes)


def track_of_samples(samples: np.ndarray, rate: int, curve: SpeedCurve | None) -> EncodedTrack:
    """A track of samples, float32 [channels, samples], from time 0. Of unnamed channels, the first two are taken."""
    channels = channels_of_samples(len(samples))
    picked = samples[: channels.count].T
    new_rate = rate if rate in AAC_RATES else 48000
    pieces: Iterable[np.ndarray] = np.array_split(picked, max(1, len(picked) // rate))
    pieces = resampled(pieces, rate, new_rate, channels.layout)
    return EncodedTrack(at_speed(pieces, curve, new_rate, channels.layout), new_rate, channels.layout)


def _encoded(source: Source, stream: av.AudioStream, part: Part, curve: SpeedCurve | None) -> EncodedTrack:
    context = stream.codec_context
    channels = channels_of_stream(context)
    as_given = channels.layout == context.layout.name or (not channels.mixed and channels.count == context.channels)
    lossless = curve is None and _is_linear(context) and as_given
    rate = context.sample_rate if lossless or context.sample_rate in AAC_RATES else 48000
    if stream.duration is not None and not clock_may_jump(cast(InputContainer, stream.container)):
        # Samples beyond that were added by an encoder to fill its last packet.
        end = ((stream.start_time or 0) + stream.duration) * time_base_of(stream)
        part = replace(part, end=end if part.end is None else min(end, part.end))
    samples = decoded(part_packets(source, stream.index, part), part.origin, part.end, rate, channels)
    return EncodedTrack(
        at_speed(samples, curve, rate, channels.layout),
        rate,
        channels.layout,
        Label.of(stream),
        codec="flac" if lossless else "aac",
        deep=context.format.bits > 16,
    )


def _is_linear(context: av.AudioCodecContext) -> bool:
    """Whether the samples are stored as they are, without compression."""
    return re.match(r"pcm_[fsu]\d", context.name) is not None


def _mp4_takes(source: Source, index: int) -> bool:
    """Whether the packets can be copied into an mp4 file that players play."""
    with open_file(source) as file:
        stream = audio_stream(file, index)
        if _is_linear(stream.codec_context):
            return False  # mp4's own form of such samples is new, and widely used players play it as loud noise
        try:
            with av.open(io.BytesIO(), "w", format="mp4") as trial:
                copy = add_copy(trial, stream)
                trial.start_encoding()
                for packet in islice(ascending(demuxed(file, stream), Fraction(0)), TRIAL_PACKETS):
                    packet.stream = copy
                    trial.mux(packet)
        except (FFmpegError, ValueError):
            return False
    return True


def _is_decodable(source: Source, index: int) -> bool:
    with open_file(source) as file:
        stream = audio_stream(file, index)
        for packet in islice(demuxed(file, stream), TRIAL_PACKETS):
            try:
                if packet.decode():
                    return True
            except FFmpegError:
                continue
    return False
