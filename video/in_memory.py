"""Images and sound in memory, read as a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from fractions import Fraction

import numpy as np
from torch import Tensor

from ..amt.timeline import Span
from ..amt.timeline.curve import SpeedCurve
from .audio import Sound, track_of_samples
from .colour import BT709, Colour
from .decode import Frame
from .hdr import BrightnessMetadata
from .timing import Timing


class VideoInMemory:
    """Images at a rate, with or without sound. They are read directly, and not encoded first."""

    pixel_aspect = Fraction(1)
    brightness: BrightnessMetadata | None = None

    def __init__(
        self,
        images: Tensor,
        rate: Fraction,
        bits: int = 8,
        *,
        colour: Colour = BT709,
        samples: np.ndarray | None = None,
        sample_rate: int = 48000,
        notes: Sequence[str] = (),
    ) -> None:
        """images: [frames, h, w, c], float 0..1. samples: the sound, float32 [channels, samples].

        notes: sentences for the user on what is not taken over.
        """
        frames = len(images)
        self._images = images
        self.bits = bits
        self.colour = colour
        self._notes = list(notes)
        self.timing = Timing(frames, 0, frames - 1, 1 / rate, rate, True, True, 1 / rate, pts=np.arange(frames))
        self.size = (images.shape[1], images.shape[2])
        self._samples = samples if samples is None else samples[:, : round(self.timing.end * sample_rate)]
        self._sample_rate = sample_rate

    def without_last(self, frames: int) -> VideoInMemory:
        """The video without its last frames; at least one stays."""
        shorter = copy(self)
        shorter.timing = self.timing.without_last(frames)
        shorter._images = self._images[: shorter.timing.frames]
        if self._samples is not None:
            shorter._samples = self._samples[:, : round(shorter.timing.end * self._sample_rate)]
        return shorter

    def frames(self, first: int = 0) -> Iterator[Frame]:
        for index, image in enumerate(self._images[first:, ..., :3], first):
            yield Frame(Span(self.timing.time(index), self.timing.time(index + 1)), image)

    def notes(self) -> list[str]:
        return list(self._notes)

    def sound(self, curve: SpeedCurve | None) -> Sound:
        """Heard at the speeds of the curve; None is as it is."""
        if self._samples is None:
            return Sound()
        return Sound([track_of_samples(self._samples, self._sample_rate, curve)])
