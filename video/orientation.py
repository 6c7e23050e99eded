"""Turns and mirrors decoded frames so that they are upright."""

from __future__ import annotations

import math
from typing import NamedTuple

import av
import numpy as np
import torch
from torch import Tensor


class Orientation(NamedTuple):
    """What makes a frame upright: first mirrored, then turned."""

    mirrored: bool
    """Left and right change places."""
    quarter_turns: int
    """Quarter turns, 0 to 3, against the clock."""

    @property
    def swaps_sides(self) -> bool:
        return self.quarter_turns % 2 == 1

    def upright(self, picture: Tensor) -> Tensor:
        """picture: [h, w, c]."""
        if self.mirrored:
            picture = picture.flip(1)
        return torch.rot90(picture, self.quarter_turns).contiguous() if self.quarter_turns else picture


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """From the frame's display matrix, whose rows say where its x and y axes point (ISO/IEC 14496-12, 8.3.2)."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation(False, round(frame.rotation / 90) % 4)
    matrix = np.frombuffer(bytes(data), np.int32)[:9].reshape(3, 3).astype(float)
    (right_x, right_y), (down_x, down_y) = matrix[0, :2], matrix[1, :2]
    mirrored = right_x * down_y - right_y * down_x < 0
    if mirrored:
        right_x, right_y = -right_x, -right_y
    return Orientation(mirrored, round(-math.degrees(math.atan2(right_y, right_x)) / 90) % 4)
