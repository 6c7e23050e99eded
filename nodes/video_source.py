"""Reads ComfyUI's VIDEO: its frames with their times, and its sound."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
from comfy_api.latest import Input, InputImpl

from ..amt.timeline import exact_rate
from ..video.colour import BT709, BT2020_HLG, BT2020_PQ, TRANSPARENCY_LEFT_OUT
from ..video.container import Window
from ..video.encode import VISUALLY_LOSSLESS
from ..video.file import VideoFile
from ..video.in_memory import VideoInMemory
from .checks import check_images, free_memory
from .temporary import as_video, new_video

BYTES_A_PIXEL = 100
"""What a pixel of a video takes while it is made: some frames wait to be read and written, as bytes and as float32."""


COLOUR_SPACES = {"HDR": BT2020_HLG, "HDR PQ": BT2020_PQ}
"""What newer versions of ComfyUI (from about 0.35) say of images in memory; else they are BT.709."""


def open_video(video: Any) -> VideoFile | VideoInMemory:
    """Raises TypeError where that is no VIDEO, UnreadableVideoError where it cannot be read."""
    if isinstance(video, InputImpl.VideoFromComponents):
        return _in_memory(video)
    if not isinstance(video, Input.Video):
        raise TypeError(
            f"video: expected a VIDEO, got {type(video).__name__}. Connect Load Video or Create Video; "
            "images go into AMT Images to Video."
        )
    if has_pending_edits(video) or _is_list(video):
        video = _written(video)
    window = Window(*video.get_active_trim_window())
    most_pixels = free_memory(torch.device("cpu")) // BYTES_A_PIXEL
    return VideoFile(video.get_stream_source(), window, most_pixels=most_pixels)


def has_pending_edits(video: Input.Video) -> bool:
    """Whether the VIDEO is cropped or resized, and its stream is not. ComfyUI has this from about 0.35 on."""
    return bool(getattr(video, "has_pending_frame_edits", lambda: False)())


def _is_list(video: Input.Video) -> bool:
    """Whether it is several videos in a row, whose stream would be built in memory as a whole."""
    kind = getattr(InputImpl, "VideoFromList", None)
    return kind is not None and isinstance(video, kind)


def _written(video: Input.Video) -> Input.Video:
    """The VIDEO as ComfyUI writes it, in a temporary file."""
    path = new_video()
    # Without loss that could be seen, where this ComfyUI can be told so.
    options: dict[str, Any] = {"crf": VISUALLY_LOSSLESS} if "crf" in signature(video.save_to).parameters else {}
    try:
        video.save_to(str(path), **options)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return as_video(path)


def _in_memory(video: Any) -> VideoInMemory:
    components = video.get_components()
    images = check_images(components.images, "video")
    rate, bits, audio = exact_rate(float(components.frame_rate)), video.get_bit_depth(), components.audio
    said = getattr(video, "get_color_space", lambda: "auto")()
    options: dict[str, Any] = {"colour": COLOUR_SPACES.get(said, BT709)}
    if getattr(components, "alpha", None) is not None or images.shape[3] > 3:
        options["notes"] = [TRANSPARENCY_LEFT_OUT]
    if audio:
        options |= {"samples": audio["waveform"][0].float().cpu().numpy(), "sample_rate": int(audio["sample_rate"])}
    return VideoInMemory(images, rate, bits, **options)
