"""Colours: what the numbers in a video file mean, and how they become RGB and back."""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor

# swscale's flags. Without the rounding, luma comes back 1 too dark; with these it comes back as it was.
_BICUBIC, _AREA, _FULL_CHROMA_OUT, _FULL_CHROMA_IN, _ROUND = 0x4, 0x20, 0x2000, 0x4000, 0x40000

TRANSPARENCY_LEFT_OUT = "Transparency is left out, because the file that is made cannot hold it; images can."

UNSPECIFIED = 2
LIMITED, FULL = 1, 2
BT709_MATRIX = 1

_SWSCALE_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""The matrices that swscale knows, by the code points of H.273; others are carried as BT.709."""
_SWSCALE_DEFAULT = 5


@dataclass(frozen=True)
class Colour:
    """Code points of H.273 (ISO/IEC 23091-2). As numbers: which of them PyAV names depends on its version."""

    matrix: int
    primaries: int
    transfer: int
    range: int
    """LIMITED or FULL."""


BT709 = Colour(matrix=BT709_MATRIX, primaries=1, transfer=1, range=LIMITED)
BT2020_HLG = Colour(matrix=9, primaries=9, transfer=18, range=LIMITED)
BT2020_PQ = Colour(matrix=9, primaries=9, transfer=16, range=LIMITED)


def colour_of(frame: av.VideoFrame, context: av.VideoCodecContext) -> Colour:
    """The YUV colours of a decoded frame. What the frame does not say stays open."""
    is_rgb = frame.format.is_rgb
    matrix = int(frame.colorspace)
    if is_rgb or matrix not in (*_SWSCALE_MATRIX, UNSPECIFIED):
        matrix = BT709_MATRIX
    full = not is_rgb and (int(frame.color_range) == FULL or frame.format.name.startswith("yuvj"))
    return Colour(matrix, int(context.color_primaries), int(context.color_trc), FULL if full else LIMITED)


def bits_of(frame: av.VideoFrame) -> int:
    """The number of bits of a colour: 8 or more."""
    return max((component.bits for component in frame.format.components), default=8)


def is_transparent(frame: av.VideoFrame, stream: av.VideoStream) -> bool:
    """Whether something of it is transparent."""
    # VP8 and VP9 keep transparency in a picture beside, which FFmpeg's own decoders leave out.
    if any(name.lower() == "alpha_mode" and value == "1" for name, value in stream.metadata.items()):
        return True
    if not any(component.is_alpha for component in frame.format.components):
        return False
    return bool(frame.to_ndarray(format="rgba")[..., 3].min() < 255)


def to_rgb(frame: av.VideoFrame, colour: Colour, reformatter: VideoReformatter) -> Tensor:
    """A decoded frame -> [h, w, 3]: uint8, or float32 0..1 where it has more than 8 bits."""
    deep = bits_of(frame) > 8
    matrix = _SWSCALE_MATRIX.get(colour.matrix, _SWSCALE_DEFAULT)
    rgb = reformatter.reformat(
        frame,
        format="rgb48le" if deep else "rgb24",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL if frame.format.is_rgb else colour.range,
        dst_color_range=FULL,
        interpolation=_BICUBIC | _FULL_CHROMA_OUT | _ROUND,
    ).to_ndarray()
    return torch.from_numpy(rgb.astype(np.float32) / 65535 if deep else rgb)


def pixel_format(colour: Colour, bits: int) -> str:
    """The format for the file: 4:2:0, because players decode that."""
    if bits > 8:
        return "yuv420p10le"
    return "yuvj420p" if colour.range == FULL else "yuv420p"


def from_rgb(pixels: np.ndarray, colour: Colour, bits: int, reformatter: VideoReformatter) -> av.VideoFrame:
    """[h, w, 3] uint8, or uint16 for more than 8 bits -> a frame in `pixel_format`."""
    matrix = _SWSCALE_MATRIX.get(colour.matrix, _SWSCALE_DEFAULT)
    rgb = av.VideoFrame.from_ndarray(pixels, format="rgb48le" if bits > 8 else "rgb24")
    return reformatter.reformat(
        rgb,
        format=pixel_format(colour, bits),
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL,
        dst_color_range=colour.range,
        interpolation=_AREA | _FULL_CHROMA_OUT | _FULL_CHROMA_IN | _ROUND,
    )
