"""The two methods that the engine asks an any-time network for, for stand-ins that are one function of a pair."""

from __future__ import annotations

from torch import Tensor


class OpenedPairs:
    """Opens pairs by remembering them; `opened` counts how many."""

    opened = 0

    def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        raise NotImplementedError

    def open_pair(self, frame0: Tensor, frame1: Tensor) -> tuple[Tensor, Tensor]:
        self.opened += len(frame0)
        return frame0, frame1

    def frame_at(self, pair: tuple[Tensor, Tensor], timestep: Tensor) -> Tensor:
        return self(*pair, timestep)
