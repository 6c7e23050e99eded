"""Motion as pictures: the colour wheel by which optical flow is shown, and the pictures of a network's motion.

The wheel is that of Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 92, 2011: the
direction is the hue, the length the saturation. 55 hues run through the six pure colours, with more steps where the eye
tells more of them apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .network import Motion

WHEEL = (
    ((255, 0, 0), 15),  # red
    ((255, 255, 0), 6),  # yellow
    ((0, 255, 0), 4),  # green
    ((0, 255, 255), 11),  # cyan
    ((0, 0, 255), 13),  # blue
    ((255, 0, 255), 6),  # magenta
)
"""The pure colours and the number of steps from each to the next; the last one leads back to the first."""


def colour_wheel() -> Tensor:
    """The hues in 255ths, rounded as the paper's code rounds them: [55, 3]."""
    hues = []
    for (start, steps), (end, _) in zip(WHEEL, WHEEL[1:] + WHEEL[:1], strict=True):
        for step in range(steps):
            share = 255 * step // steps
            hues.append([a if a == b else share if b > a else 255 - share for a, b in zip(start, end, strict=True)])
    return torch.tensor(hues, dtype=torch.float32)


def flow_to_colours(flow: Tensor, longest: float) -> Tensor:
    """Paints flow: [..., 2, h, w] pixels (x to the right, y down) -> [..., 3, h, w], 0..1.

    No motion is white, a flow of `longest` pixels has its hue in full, a longer one is darker. Flow to the right is
    red, down yellow, left light blue, up violet. Flow that is not finite is black.
    """
    if longest <= 0:
        raise ValueError(f"longest: expected a length in pixels above 0, got {longest}")
    flow = flow.float() / longest
    valid = flow.isfinite().all(dim=-3, keepdim=True)
    x, y = flow.where(valid, torch.zeros_like(flow)).unbind(dim=-3)
    length = torch.hypot(x, y)
    wheel = colour_wheel().to(flow.device) / 255
    # -pi..pi to a place on the wheel; rightwards is its beginning.
    place = (torch.atan2(-y, -x) / math.pi + 1) / 2 * (len(wheel) - 1)
    before = place.floor().long()
    part = (place - before)[..., None]
    hue = (1 - part) * wheel[before] + part * wheel[(before + 1) % len(wheel)]
    length = length[..., None]
    colours = torch.where(length <= 1, 1 - length * (1 - hue), hue * 0.75)
    return colours.movedim(-1, -3) * valid


@dataclass(frozen=True)
class MotionPictures:
    """Pictures [n, h, w, 3], 0..1."""

    flow0: Tensor
    flow1: Tensor
    mask: Tensor
    """White where the wanted frame is taken from frame 0, black where it is taken from frame 1."""
    residual: Tensor
    """What is added to the warped colours, around grey: 0.5 + residual."""
    longest: float
    """Length in pixels of the flow that is painted in full colour."""


def motion_pictures(motion: Motion, longest: float | None = None) -> MotionPictures:
    """Paints the motion of one pair of frames, with one picture for every flow field.

    longest: see `flow_to_colours`; by default what 99% of the flows stay below, so that a few wild ones do not turn the
    rest pale. Both flows are on one scale.
    """
    flows = torch.stack((motion.flow0[0], motion.flow1[0]))  # [2, F, 2, h, w]
    if longest is None:
        lengths = torch.linalg.vector_norm(flows, dim=2).nan_to_num(0, 0, 0).flatten()
        longest = max(lengths.kthvalue(math.ceil(0.99 * lengths.numel())).values.item(), 1e-3)
    flow0, flow1 = flow_to_colours(flows, longest).movedim(2, -1)
    return MotionPictures(
        flow0=flow0,
        flow1=flow1,
        mask=motion.mask[0].float().movedim(1, -1).expand(-1, -1, -1, 3),
        residual=(0.5 + motion.residual[0].float()).clamp(0, 1).movedim(1, -1),
        longest=longest,
    )
