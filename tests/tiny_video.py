"""Small videos in memory, with a sound track where the container has one."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CODECS = {"mp4": "libx264", "webm": "libvpx-vp9", "gif": "gif", "avi": "mpeg4", "mpegts": "libx264"}


def video_bytes(
    frames: int = 5, width: int = 32, height: int = 24, kind: str = "mp4", *, noise: bool = False, **metadata: str
) -> bytes:
    """Frame n is of the grey 40 n (modulo 256), or noise that compresses badly; 24 frames a second."""
    random = np.random.default_rng(0)
    buffer = io.BytesIO()
    options = {"movflags": "use_metadata_tags"} if kind == "mp4" else {}
    with av.open(buffer, "w", format=kind, options=options) as container:
        container.metadata.update(metadata)
        stream = container.add_stream(CODECS[kind], rate=Fraction(24))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = width, height
        stream.pix_fmt = "rgb8" if kind == "gif" else "yuv420p"
        sound = container.add_stream("aac", rate=8000) if kind == "mp4" else None
        for number in range(frames):
            picture = np.full((height, width, 3), 40 * number % 256, np.uint8)
            if noise:
                picture = random.integers(0, 256, picture.shape, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        if sound:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 8000
            container.mux(sound.encode(silence))
            container.mux(sound.encode())
    return buffer.getvalue()


def write_transparent(path: Path, codec: str, pixel_format: str, pictures: np.ndarray, **options: str) -> None:
    """Pictures with alpha, uint8 [n, h, w, 4], at 24 frames a second. options: the codec's."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=24, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pixel_format
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba")))
        container.mux(stream.encode())
