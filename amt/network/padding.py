"""The sizes a network can work on, as a value (after spandrel's SizeRequirements)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Padding:
    """How frames of any size are brought to one that the network takes, and its results back."""

    multiple_of: int = 1
    minimum: int = 1
    centred: bool = True
    """Split evenly over both sides, the smaller half left and top; otherwise all of it right and bottom."""
    mode: Literal["replicate", "reflect"] = "replicate"

    def _sides(self, size: int) -> tuple[int, int]:
        wanted = max(size, self.minimum)
        missing = wanted + -wanted % self.multiple_of - size
        before = missing // 2 if self.centred else 0
        return before, missing - before

    def pad(self, frames: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, c, H, W] of a size that the network takes."""
        left, right = self._sides(frames.shape[-1])
        top, bottom = self._sides(frames.shape[-2])
        if not (left or right or top or bottom):
            return frames
        # Reflection has no more pixels to give than the frame has; replication always has.
        reflects = (
            self.mode == "reflect" and max(left, right) < frames.shape[-1] and max(top, bottom) < frames.shape[-2]
        )
        return functional.pad(frames, (left, right, top, bottom), mode="reflect" if reflects else "replicate")

    def crop(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        """Undoes `pad` for frames that were (height, width) = `size`."""
        height, width = size
        top, left = self._sides(height)[0], self._sides(width)[0]
        return frames[..., top : top + height, left : left + width]

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that frames of this size are padded to."""
        height, width = size
        return height + sum(self._sides(height)), width + sum(self._sides(width))


PADDING = Padding(multiple_of=16, minimum=128)
"""What AMT needs. Below 128 pixels the coarsest correlation level (1/64) is a single pixel or none."""
