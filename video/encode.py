"""Writes video files, frame by frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from torch import Tensor

VISUALLY_LOSSLESS = 12
"""x264's constant rate factor."""


class VideoWriter:
    """An H.264 file in an mp4 container, BT.709. A context manager: on an error the file is removed."""

    def __init__(self, path: Path, *, rate: Fraction) -> None:
        self._path = path
        self._rate = rate
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> VideoWriter:
        self._container = av.open(str(self._path), "w", format="mp4", options={"movflags": "faststart"})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None and self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
        except BaseException:
            error = error or RuntimeError()
            raise
        finally:
            if error is not None:
                self._path.unlink(missing_ok=True)

    def write(self, frame: Tensor) -> None:
        """frame: [h, w, 3], 0..1. All frames have the first one's size; odd sides grow by one pixel."""
        picture = av.VideoFrame.from_ndarray(_even(_bytes(frame)), format="rgb24")
        stream = self._stream or self._open_stream(picture.width, picture.height)
        yuv = picture.reformat(
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation="AREA",
        )
        self._container.mux(stream.encode(yuv))

    def _open_stream(self, width: int, height: int) -> av.VideoStream:
        stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": str(VISUALLY_LOSSLESS)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._stream = stream
        return stream


def _bytes(frame: Tensor) -> np.ndarray:
    return (frame.float().clamp(0, 1) * 255).round().byte().cpu().numpy()


def _even(pixels: np.ndarray) -> np.ndarray:
    """4:2:0 shares a colour among 2 x 2 pixels: an odd last row or column is repeated."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
