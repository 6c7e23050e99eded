"""Guides the coarse flows in training by an optical flow, that from the true middle frame to its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from amt_frame_interpolation.amt.network.sampling import resize_flow, warp
from torch import Tensor
from torch.nn import functional

from training.optical_flow import dis_flow

MISMATCH = 8 / 255
"""Where the warped neighbours differ by so much from the middle frame, the optical flow is trusted by 1/e."""


def guide_loss(coarse_flows: Sequence[Tensor], frames: Tensor) -> Tensor:
    """How far the flows of the three coarse levels are from the guide's, in pixels, added up.

    coarse_flows: as in `Motion`. frames: [b, 3 frames, 3, h, w], the middle one being what the network was asked for.
    The guide is the flow that the weights are judged against, OpenCV's DIS: no network, no weights.
    """
    target = guide_flows(frames)
    middle = frames[:, 1]
    with torch.no_grad():
        trust = torch.cat(
            [
                torch.exp((warp(frame, flow) - middle).abs().mean(dim=1, keepdim=True) / -MISMATCH)
                for frame, flow in ((frames[:, 0], target[:, :2]), (frames[:, 2], target[:, 2:]))
            ],
            dim=1,
        ).repeat_interleave(2, dim=1)
    total = target.new_zeros(())
    for flow in coarse_flows:
        scale = target.shape[3] // flow.shape[3]
        error = scale * (flow.float() - resize_flow(target, 1 / scale))
        # Below a quarter of a pixel the pictures know better.
        distance = (error * error + 0.25**2).sqrt() - 0.25
        total = total + (functional.avg_pool2d(trust, scale) * distance).mean()
    return total


def guide_flows(frames: Tensor) -> Tensor:
    """[b, 4, h, w]: from the middle frame back to the first and on to the last, pixels."""
    weights = frames.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    grey = ((frames * weights).sum(dim=2) * 255).round().byte().cpu().numpy()
    flows = [[dis_flow(one[1], one[i]) for i in (0, 2)] for one in grey]
    return torch.from_numpy(np.array(flows)).permute(0, 1, 4, 2, 3).flatten(1, 2).to(frames.device)
