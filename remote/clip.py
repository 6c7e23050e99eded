"""A short video in memory: what kind it is, its frames, and a copy that holds nothing but the picture."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import av
import torch

from ..video.container import UnreadableVideoError, open_file, video_stream
from ..video.decode import VideoReader
from .errors import RemoteError

MAX_PIXELS = 2**26
"""The most pixels that a frame may have: 8192 x 8192."""
MAX_IMAGE_BYTES = 8 * 2**30
"""The most bytes that the decoded frames may take, as float32."""

log = logging.getLogger(__name__)


class Measure(NamedTuple):
    frames: int
    width: int
    height: int


def demuxer(data: bytes) -> str:
    """The FFmpeg demuxer for `data` by its first bytes. The file is opened with this demuxer, so that FFmpeg does
    not take it for a playlist or a script that names further files."""
    if data[4:8] == b"ftyp":
        return "mp4"
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    raise RemoteError(f"what was delivered is no MP4, WebM or GIF video ({len(data)} bytes)")


def measure(data: bytes) -> Measure:
    """The number of frames, counted by their packets, and their size, from the first frame, which alone is decoded."""
    with _opened(data) as reader:
        return _measure(reader)


def decode(data: bytes, *, max_frames: int, check: Callable[[], None]) -> torch.Tensor:
    """The frames as IMAGE [frames, height, width, 3]; `check` is called before each and may raise.

    There are at most `max_frames` of them, and at most MAX_IMAGE_BYTES. Further frames are left out with a warning:
    an error would lose a result that was paid for, and the whole file is delivered anyway.

    Raises:
        RemoteError: the video is damaged, or its picture changes its size.
    """
    with _opened(data) as reader:
        count, width, height = _measure(reader)
        room = min(count, max_frames, MAX_IMAGE_BYTES // (width * height * 12))
        if room < count:
            log.warning("The video has %d frames; IMAGE holds the first %d of them", count, room)
        images = torch.empty((room, height, width, 3))
        made = 0
        for frame in reader.frames():
            check()
            if made == room:
                break
            picture = frame.picture
            images[made] = picture if picture.is_floating_point() else picture.float() / 255
            made += 1
    return images[:made]


def picture_only(data: bytes) -> bytes:
    """An MP4 with the video stream of `data`, not encoded again, and nothing else: no sound, and no metadata, in which
    ComfyUI keeps whole workflows."""
    buffer = io.BytesIO()
    with open_file(io.BytesIO(data), demuxer(data)) as source, av.open(buffer, mode="w", format="mp4") as target:
        stream = video_stream(source)
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    return buffer.getvalue()


@contextmanager
def _opened(data: bytes) -> Iterator[VideoReader]:
    try:
        yield VideoReader(io.BytesIO(data), demuxer=demuxer(data), most_pixels=MAX_PIXELS)
    except UnreadableVideoError as error:
        raise RemoteError(f"the delivered file cannot be used: {error}".rstrip(".")) from None


def _measure(reader: VideoReader) -> Measure:
    height, width = reader.size
    return Measure(reader.timing.frames, width, height)
