"""Frames with alpha: what a person cannot see must not matter.

Under transparent pixels files have any colours: black, white, or the rest of a larger picture. Motion is found on what
is seen, so the frames are laid over a plain backdrop, and taken off it again when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_ALPHA = 1 / 512
"""Half of the least that 8 bits can show. Colours of pixels below it are not seen."""


def is_transparent(frame: Tensor) -> bool:
    """Whether a frame [h, w, c], float 0..1 or uint8, has alpha and is not opaque everywhere."""
    return frame.shape[2] == 4 and bool((frame[..., 3] < (1 if frame.is_floating_point() else 255)).any())


@dataclass(frozen=True)
class Backdrop:
    """What frames [b, 4, h, w] are laid over: one brightness, so that things stand out from it."""

    brightness: float

    @staticmethod
    def for_frame(frame: Tensor) -> Backdrop:
        """Black behind a bright thing, white behind a dark one. frame: [h, w, 4], float 0..1 or uint8."""
        frame = frame.float() / (1 if frame.is_floating_point() else 255)
        alpha = frame[..., 3]
        seen = float((frame[..., :3].mean(dim=-1) * alpha).sum() / (alpha.sum() + 1e-6))
        return Backdrop(1.0 if seen < 0.5 else 0.0)

    def put_behind(self, frame: Tensor) -> Tensor:
        """The frame with its colours over the backdrop; alpha stays."""
        colours, alpha = frame[:, :3], frame[:, 3:]
        return torch.cat((torch.lerp(torch.full_like(colours, self.brightness), colours, alpha), alpha), dim=1)

    def take_away(self, frame: Tensor) -> Tensor:
        """The colours without the backdrop again. Those of pixels that are not seen become those of the backdrop."""
        colours, alpha = frame[:, :3], frame[:, 3:]
        without = (colours - (1 - alpha) * self.brightness) / alpha.clamp(min=LEAST_ALPHA)
        # Where all is opaque nothing is changed, not even by rounding.
        colours = torch.where(alpha < 1, torch.where(alpha > LEAST_ALPHA, without, self.brightness), colours)
        return torch.cat((colours.clamp(0, 1), alpha), dim=1)
