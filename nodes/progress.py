"""Progress by frame, with a small picture of the newest one."""

from __future__ import annotations

import time

import comfy.utils
import numpy as np
from PIL import Image
from torch import Tensor

PREVIEW_SIDE = 512
SECONDS_BETWEEN_PREVIEWS = 0.5


class Progress:
    """Call `frame` for every frame of the result."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._bar = comfy.utils.ProgressBar(total)
        self._last_preview = 0.0

    def frame(self, frame: Tensor) -> None:
        """frame: [h, w, c], 0..1."""
        self._done += 1
        preview = None
        now = time.monotonic()
        if now - self._last_preview >= SECONDS_BETWEEN_PREVIEWS:
            self._last_preview = now
            preview = ("JPEG", _picture(frame), PREVIEW_SIDE)
        self._bar.update_absolute(self._done, self._total, preview)


def _picture(frame: Tensor) -> Image.Image:
    # Every k-th pixel first: a preview is not worth converting 4K for.
    step = max(1, max(frame.shape[:2]) // PREVIEW_SIDE)
    pixels = (frame[::step, ::step, :3].float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return picture
