"""What the engine works on: frames, and requests for frames between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    padded: Tensor
    """[1, c, h, w] on the network's device."""
    size: tuple[int, int]
    """(height, width) without the padding."""
    source: Tensor | None = None
    """The source frame, where it is one. It is shown as it came."""
    finite: Tensor | None = None
    """Of a made frame: a bool on its device, whether all its pixels are finite numbers."""


@dataclass(frozen=True)
class Request:
    """Frames that are wanted between two frames."""

    frame0: Frame
    frame1: Frame
    times: tuple[Fraction, ...]
    """Ascending, 0 < time < 1."""


def batched(requests: Sequence[Request]) -> tuple[Tensor, Tensor]:
    """The frames of all requests, [b, c, h, w] each."""
    if len(requests) == 1:  # without a copy, so that a network may know a frame again
        return requests[0].frame0.padded, requests[0].frame1.padded
    frame0 = torch.cat([request.frame0.padded for request in requests])
    return frame0, torch.cat([request.frame1.padded for request in requests])


def made_frames(made: Tensor, requests: Sequence[Request]) -> list[Frame]:
    """What the network made for each request, [b, c, h, w], as frames."""
    finite = made.isfinite().all()
    return [
        Frame(frame, request.frame0.size, finite=finite) for frame, request in zip(made.split(1), requests, strict=True)
    ]


def timestep_of(times: Sequence[Fraction]) -> Tensor:
    return torch.tensor([float(time) for time in times])
