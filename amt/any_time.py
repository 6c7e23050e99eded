"""Any time from a network that knows the middle alone: its motion is found once, and carried along simple paths.

The other way to such a time is halving again and again: a call of the network for every halving, a picture that gets
softer with each, and a time that is met to within a 32nd.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from .network.model import Motion
from .network.sampling import warp

MIDDLE = 0.5
STEPS = 3
"""Of the fixed point that finds which point of the middle comes by at a place; exact for a pan after one."""


def carry(motion: Motion, timestep: Tensor) -> Motion:
    """Motion at `timestep` [b] or [1] by that of the middle: each point speeds up or turns evenly all the way.

    What is at place x at time t was at y in the middle, with x = y + (t - 1/2) * velocity(y) + (2t - 1)^2 * bend(y).
    The bend is how far the middle of the straight way lies from y. Flows lead from x to where y's led; y's mask and
    residual come along. The nearer a given frame, the more it is trusted and the less is added to its colours: at the
    times 0 and 1 the frames themselves would come out.
    """
    time = timestep.to(motion.flow0.device, torch.float32, non_blocking=True).reshape(-1, 1, 1, 1)
    # One path for all fields: their differences are details, and one search for y instead of one for each.
    mean0, mean1 = motion.flow0.mean(dim=1), motion.flow1.mean(dim=1)
    velocity, bend = mean1 - mean0, (mean0 + mean1) / 2
    back = (MIDDLE - time) * velocity - (1 - 2 * time) ** 2 * bend
    to_middle = back
    for _ in range(STEPS):
        to_middle = warp(back, to_middle)
    fields = torch.cat((motion.flow0, motion.flow1, motion.mask, motion.residual), dim=2)
    count = fields.shape[1]
    carried = warp(rearrange(fields, "b f c h w -> b (f c) h w"), to_middle)
    flow0, flow1, mask, residual = rearrange(carried, "b (f c) h w -> b f c h w", f=count).split((2, 2, 1, 3), dim=2)
    time, to_middle = time[:, None], to_middle[:, None]
    trust0, trust1 = (1 - time) * mask, time * (1 - mask)
    return Motion(
        flow0 + to_middle,
        flow1 + to_middle,
        trust0 / (trust0 + trust1).clamp(min=1e-6),  # a mask of exactly 0 or 1 has no doubt to share
        2 * (time * (1 - time)).sqrt() * residual,
        motion.coarse_flows,
    )
