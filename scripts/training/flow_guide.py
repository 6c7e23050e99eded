"""Guides the coarse flows in training by a flow that needs no network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from amt_frame_interpolation.amt.network.sampling import resize_flow, warp
from torch import Tensor
from torch.nn import functional

from training.samples import Batch

MISMATCH = 8 / 255
"""Where the frames that the guide's flow leads to differ by so much, it is trusted by 1/e."""


def guide_loss(coarse_flows: Sequence[Tensor], batch: Batch) -> Tensor:
    """How far the flows of the three coarse levels are from the guide's, pixels of the full size, added up.

    coarse_flows: as in `Motion`. The guide is exact in scenes that were made, and OpenCV's DIS in clips.
    """
    trust = trusted(batch)
    total = trust.new_zeros(())
    for flow in coarse_flows:
        scale = batch.flows.shape[3] // flow.shape[3]
        error = scale * (flow.float() - resize_flow(batch.flows, 1 / scale))
        # Below a quarter of a pixel the pictures know better.
        distance = (error * error + 0.25**2).sqrt() - 0.25
        total = total + (functional.avg_pool2d(trust, scale) * distance).mean()
    return total


@torch.no_grad()
def trusted(batch: Batch) -> Tensor:
    """How far the guide is believed, [b, 1, h, w] of 0..1: where it leads to the same in both frames."""
    warped0, warped1 = warp(batch.frames[:, 0], batch.flows[:, :2]), warp(batch.frames[:, 2], batch.flows[:, 2:])
    return torch.exp((warped0 - warped1).abs().mean(dim=1, keepdim=True) / -MISMATCH)
