"""Sound as samples: decoded, stretched, and as frames for an encoder.

Arrays are float32 [samples, channels]. FFmpeg takes and gives them packed, with the channels of a sample side by side.
Planar samples are avoided: up to PyAV 18, reading the planes of a frame with eight channels reads beyond its memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain

import av
import av.filter
import numpy as np
from av.error import FFmpegError

from .layouts import Channels

log = logging.getLogger(__name__)

PACKED = "flt"
SECONDS_OF_SILENCE = 1
"""In one piece."""


def audio_frame(samples: np.ndarray, rate: int, layout: str) -> av.AudioFrame:
    packed = np.ascontiguousarray(samples, np.float32).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format=PACKED, layout=layout)
    frame.sample_rate = rate
    frame.time_base = Fraction(1, rate)
    return frame


def samples_of(frame: av.AudioFrame) -> np.ndarray:
    """Of a frame in the packed format."""
    return frame.to_ndarray().reshape(frame.samples, -1)


def channels_of(layout: str) -> int:
    return av.AudioLayout(layout).nb_channels


def silence(samples: int, rate: int, layout: str) -> Iterator[np.ndarray]:
    """Silence, in pieces, because it may last for hours."""
    piece = SECONDS_OF_SILENCE * rate
    for start in range(0, samples, piece):
        yield np.zeros((min(piece, samples - start), channels_of(layout)), np.float32)


def decoded(
    packets: Iterable[av.Packet], origin: Fraction, end: Fraction | None, rate: int, channels: Channels
) -> Iterator[np.ndarray]:
    """The samples from `origin` to `end`, in seconds, with silence where the file has none."""
    resampler = av.AudioResampler(format=PACKED, layout=channels.layout if channels.mixed else None, rate=rate)
    done = 0
    most = None if end is None else round((end - origin) * rate)
    for frame in chain(_decoded_frames(packets), [None]):
        start = done
        if frame is not None and frame.pts is not None and frame.time_base:
            start = round((frame.pts * frame.time_base - origin) * rate)
        for piece in resampler.resample(frame):
            samples = samples_of(piece)[:, : channels.count]
            missing = start - done
            if missing > (rate // 10 if done else 0):  # containers round their times, so a small difference is no gap
                missing = missing if most is None else min(missing, most - done)
                yield from silence(missing, rate, channels.layout)
                done += max(0, missing)
            elif missing < 0 and not done:
                samples = samples[-missing:]
            samples = samples[: None if most is None else max(0, most - done)]
            done += len(samples)
            start = done
            if len(samples):
                yield samples


def _decoded_frames(packets: Iterable[av.Packet]) -> Iterator[av.AudioFrame]:
    heard = False
    for packet in packets:
        try:
            yield from packet.decode()  # pyright: ignore[reportReturnType]  (it is an audio stream's)
            heard = True
        except FFmpegError as error:
            if heard:  # players go on as well: a click must not cost the whole video
                log.warning("a part of the video's sound cannot be decoded: %s", error)


def resampled(pieces: Iterable[np.ndarray], rate: int, new_rate: int, layout: str) -> Iterator[np.ndarray]:
    if new_rate == rate:
        yield from pieces
        return
    resampler = av.AudioResampler(format=PACKED, layout=layout, rate=new_rate)
    for frame in chain((audio_frame(piece, rate, layout) for piece in pieces), [None]):
        yield from map(samples_of, resampler.resample(frame))
