"""Reads ComfyUI's VIDEO: its frames with their times, and its sound."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from comfy_api.latest import Input, InputImpl
from torch import Tensor

from ..amt.timeline import Span, exact_rate
from ..amt.timeline.curve import SpeedCurve
from ..video.audio import Sound, sound_of, track_of_samples
from ..video.colour import BT709
from ..video.container import Window
from ..video.decode import Frame, VideoReader
from ..video.hdr import BrightnessMetadata
from ..video.timing import Timing
from .checks import check_images


class VideoFile(VideoReader):
    """A file, or a trimmed part of it."""

    def sound(self, curve: SpeedCurve | None) -> Sound:
        """Heard at the speeds of the curve; None is as it is."""
        return sound_of(self, curve)


class VideoInMemory:
    """Images and sound in memory, as Create Video gives them. They are read directly, and not encoded first."""

    colour = BT709
    pixel_aspect = Fraction(1)
    brightness: BrightnessMetadata | None = None

    def __init__(self, video: InputImpl.VideoFromComponents) -> None:
        components = video.get_components()
        self._images: Tensor = check_images(components.images, "video")
        self._audio: Any = components.audio
        self.bits = video.get_bit_depth()
        rate, frames = exact_rate(float(components.frame_rate)), len(self._images)
        self.timing = Timing(frames, 0, frames - 1, 1 / rate, rate, True, True, 1 / rate, pts=np.arange(frames))
        self.size = (self._images.shape[1], self._images.shape[2])

    def frames(self, first: int = 0) -> Iterator[Frame]:
        for index, image in enumerate(self._images[first:, ..., :3], first):
            yield Frame(Span(self.timing.time(index), self.timing.time(index + 1)), image)

    def notes(self) -> list[str]:
        return []

    def sound(self, curve: SpeedCurve | None) -> Sound:
        if not self._audio:
            return Sound()
        rate = int(self._audio["sample_rate"])
        samples = self._audio["waveform"][0, :, : round(self.timing.end * rate)].float().cpu().numpy()
        return Sound([track_of_samples(samples, rate, curve)])


def open_video(video: Any) -> VideoFile | VideoInMemory:
    """Raises TypeError where that is no VIDEO, UnreadableVideoError where it cannot be read."""
    if isinstance(video, InputImpl.VideoFromComponents):
        return VideoInMemory(video)
    if not isinstance(video, Input.Video):
        raise TypeError(
            f"video: expected a VIDEO, got {type(video).__name__}. Connect Load Video or Create Video; "
            "images go into AMT Images to Video."
        )
    return VideoFile(video.get_stream_source(), Window(*video.get_active_trim_window()))
