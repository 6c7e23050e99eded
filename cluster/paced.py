"""A network that takes a fixed time a frame, to measure what a cluster costs beside it."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..amt.network.padding import Padding


@dataclass
class Paced:
    """Blends the two frames, and sleeps for some seconds at each call."""

    seconds: float
    calls: str | None = None
    """A folder that gets an empty file for each call."""
    any_time = True
    padding = Padding(multiple_of=1, centred=False, mode="replicate")
    used: Counter[int] = field(default_factory=Counter)

    def open(self, device: torch.device) -> Paced:
        return self

    def begin_part(self) -> None:
        pass

    def memory_used(self, size: tuple[int, int], device: torch.device) -> int:
        return 1

    def open_pair(self, frame0: Tensor, frame1: Tensor) -> tuple[Tensor, Tensor]:
        return frame0, frame1

    def frame_at(self, pair: tuple[Tensor, Tensor], timestep: Tensor) -> Tensor:
        time.sleep(self.seconds)
        if self.calls:
            os.close(tempfile.mkstemp(dir=self.calls)[0])
        return torch.lerp(*pair, timestep[:, None, None, None])
