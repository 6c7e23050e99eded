"""Reads ComfyUI's VIDEO: its frames with their times, and its sound."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import Input, InputImpl

from ..amt.timeline import exact_rate
from ..video.container import Window
from ..video.file import VideoFile
from ..video.in_memory import VideoInMemory
from .checks import check_images, free_memory

BYTES_A_PIXEL = 100
"""What a pixel of a video takes while it is made: some frames wait to be read and written, as bytes and as float32."""


def open_video(video: Any) -> VideoFile | VideoInMemory:
    """Raises TypeError where that is no VIDEO, UnreadableVideoError where it cannot be read."""
    if isinstance(video, InputImpl.VideoFromComponents):
        components = video.get_components()
        images = check_images(components.images, "video")
        rate, bits, audio = exact_rate(float(components.frame_rate)), video.get_bit_depth(), components.audio
        if not audio:
            return VideoInMemory(images, rate, bits)
        samples = audio["waveform"][0].float().cpu().numpy()
        return VideoInMemory(images, rate, bits, samples, int(audio["sample_rate"]))
    if not isinstance(video, Input.Video):
        raise TypeError(
            f"video: expected a VIDEO, got {type(video).__name__}. Connect Load Video or Create Video; "
            "images go into AMT Images to Video."
        )
    window = Window(*video.get_active_trim_window())
    most_pixels = free_memory(torch.device("cpu")) // BYTES_A_PIXEL
    return VideoFile(video.get_stream_source(), window, most_pixels=most_pixels)
