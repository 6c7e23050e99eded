"""A video file with its sound."""

from __future__ import annotations

from ..amt.timeline.curve import SpeedCurve
from .audio import Sound, sound_of
from .decode import VideoReader


class VideoFile(VideoReader):
    """A file, or a trimmed part of it."""

    def sound(self, curve: SpeedCurve | None) -> Sound:
        """Heard at the speeds of the curve; None is as it is."""
        return sound_of(self, curve)
