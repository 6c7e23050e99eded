"""A short video in memory: what kind it is, its frames, and a copy that holds nothing but the picture."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError

from .errors import RemoteError

MAX_SIDE = 16384
MAX_IMAGE_BYTES = 8 * 2**30
"""Of the decoded frames, as float32."""

log = logging.getLogger(__name__)


def demuxer(data: bytes) -> str:
    """The FFmpeg demuxer for `data` by its first bytes. Forced on opening, so that nothing is taken for a playlist
    or a script that names further files."""
    if data[4:8] == b"ftyp":
        return "mp4"
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    raise RemoteError(f"what was delivered is no MP4, WebM or GIF video ({len(data)} bytes)")


def _open(data: bytes) -> InputContainer:
    kind = demuxer(data)
    try:
        container = av.open(io.BytesIO(data), mode="r", format=kind)
    except (FFmpegError, ValueError) as error:
        raise RemoteError(f"the delivered video could not be opened ({type(error).__name__})") from None
    if not container.streams.video:
        container.close()
        raise RemoteError("the delivered file holds no video stream")
    stream = container.streams.video[0]
    if not (0 < stream.width <= MAX_SIDE and 0 < stream.height <= MAX_SIDE):
        container.close()
        raise RemoteError(f"the delivered video claims to be {stream.width} x {stream.height}")
    return container


def measure(data: bytes) -> tuple[int, int, int]:
    """Frames (by counting packets, nothing is decoded), width and height of the video."""
    with _open(data) as container:
        stream = container.streams.video[0]
        try:
            count = sum(packet.size > 0 for packet in container.demux(stream))
        except FFmpegError as error:
            raise RemoteError(f"the delivered video is damaged ({type(error).__name__})") from None
        if not count:
            raise RemoteError("the delivered video has no frames")
        return count, stream.width, stream.height


def decode(data: bytes, *, max_frames: int, check: Callable[[], None]) -> torch.Tensor:
    """The frames as IMAGE [frames, height, width, 3]; `check` is called before each and may raise.

    At most `max_frames`, and no more than MAX_IMAGE_BYTES hold: the file itself is delivered whole, so frames beyond
    are left out here with a warning rather than losing what was paid for.

    Raises:
        RemoteError: damaged, or the picture changes its size midway.
    """
    count, width, height = measure(data)
    room = min(count, max_frames, MAX_IMAGE_BYTES // (width * height * 12))
    if room < count:
        log.warning("The video has %d frames; IMAGE holds the first %d of them", count, room)
    images = torch.empty((room, height, width, 3))
    made = 0
    with _open(data) as container:
        try:
            for frame in container.decode(container.streams.video[0]):
                check()
                if (frame.width, frame.height) != (width, height):
                    raise RemoteError(
                        f"the video changes from {width} x {height} to {frame.width} x {frame.height} midway"
                    )
                if made == room:
                    break
                pixels: np.ndarray = frame.to_ndarray(format="rgb24")
                images[made] = torch.from_numpy(pixels).float() / 255
                made += 1
        except FFmpegError as error:
            raise RemoteError(
                f"the delivered video is damaged after frame {made} of {count} ({type(error).__name__})"
            ) from None
    if not made:
        raise RemoteError("the delivered video has no frames that can be decoded")
    return images[:made]


def picture_only(data: bytes) -> bytes:
    """An MP4 with the video stream of `data`, not encoded again, and nothing else: no sound, and no metadata, in which
    ComfyUI keeps whole workflows."""
    buffer = io.BytesIO()
    with _open(data) as source, av.open(buffer, mode="w", format="mp4") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    return buffer.getvalue()
