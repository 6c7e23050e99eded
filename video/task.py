"""What shall become of a video."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from ..amt.timeline import Plan
from ..amt.timeline.analysis import SourceAnalysis
from .audio import Sound
from .file import VideoFile
from .in_memory import VideoInMemory


class Task(NamedTuple):
    """What shall become of a video's time and sound."""

    plan: Plan
    analysis: SourceAnalysis
    silent: bool = False
    """Whether the sound is dropped where the speed changes."""

    def sound(self, video: VideoFile | VideoInMemory) -> Sound:
        """What is heard with the result."""
        if self.silent and self.plan.heard is not None:
            return Sound(origin=video.timing.start)
        return video.sound(self.plan.heard)

    def delay(self, video: VideoFile | VideoInMemory, sound: Sound) -> Fraction:
        """Seconds before the first frame is shown."""
        return (video.timing.start - sound.origin) / (self.plan.heard.keys[0].speed if self.plan.heard else 1)
