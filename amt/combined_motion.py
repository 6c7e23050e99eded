"""Motion of several scales as one: at each place they count by how well the frames agree there along their motion.

A network finds small motion best on large frames and large motion best on small ones, and one picture has both. Where
the scales find the same, their mean is better than each of them: their errors differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional

from .network.model import Motion
from .network.sampling import positions, resize_flow, warp

COMPARED_AT = 4
"""Warped frames are compared at a quarter of the size: details are made by the frames, not by their motion."""
WINDOW = 17
"""Pixels of the compared frames around a place that speak for it."""
LEVEL = 1 / 255
"""Where one scale's frames differ by a level more than another's, it counts e times less."""


def reduced(frame: Tensor) -> Tensor:
    """A frame's colours at the size at which frames are compared, [b, 3, h/4, w/4]."""
    return functional.avg_pool2d(frame[:, :3], COMPARED_AT)


def disagreement(reduced0: Tensor, reduced1: Tensor, motion: Motion, scale: int) -> Tensor:
    """How much the two `reduced` frames differ when both are warped to the middle, [b, 1, h/4, w/4].

    scale: the motion is that of frames of 1/scale of the size.
    """

    def warped(frame: Tensor, flow: Tensor) -> Tensor:
        mean = flow.mean(dim=1)
        if scale > COMPARED_AT:
            mean = resize_flow(mean, scale / COMPARED_AT)
        elif scale < COMPARED_AT:
            mean = functional.avg_pool2d(mean, COMPARED_AT // scale) * (scale / COMPARED_AT)
        return warp(frame, mean)

    warped0, warped1 = warped(reduced0, motion.flow0), warped(reduced1, motion.flow1)
    return (warped0 - warped1).abs().mean(dim=1, keepdim=True)


def shares(disagreements: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """How much each scale counts at each place, [b, 1, h/4, w/4]; together they are 1.

    A place is judged by its surroundings and by the whole picture: where motion is out of a scale's reach, its frames
    may agree here and there by chance.
    """
    judged = torch.stack([_around(found) + found.mean(dim=(2, 3), keepdim=True) for found in disagreements.values()])
    return dict(zip(disagreements, (-judged / LEVEL).softmax(dim=0), strict=True))


def _around(image: Tensor) -> Tensor:
    padded = functional.pad(image, (WINDOW // 2,) * 4, mode="replicate")
    return functional.avg_pool2d(functional.avg_pool2d(padded, (WINDOW, 1), stride=1), (1, WINDOW), stride=1)


def combined(motions: Mapping[int, Motion], counted: Mapping[int, Tensor]) -> Motion:
    """The mean of the scales' motion, at the size of the largest. counted: `shares`."""
    finest = min(motions)
    size = motions[finest].flow0.shape[-2:]

    def part(scale: int) -> Motion:
        share = functional.interpolate(counted[scale], size, mode="bilinear", align_corners=False)[:, None]
        return motions[scale].enlarged(scale // finest).map(lambda field: field * share)

    return reduce(_add, map(part, motions))


def _add(total: Motion, part: Motion) -> Motion:
    for name in ("flow0", "flow1", "mask", "residual"):
        getattr(total, name).add_(getattr(part, name))
    return total


def warped_picture(frame0: Tensor, frame1: Tensor, motion: Motion) -> Tensor:
    """What the mean of the flow fields makes of the frames, without the network's own colours; [b, c, h, w].

    It is sharper than the network's picture, because it is sampled cubically and once. The network's picture is better
    where the fields differ. Their mean is better than both.
    """
    mean = motion.map(lambda field: field.mean(dim=1, keepdim=True))
    mean = mean.enlarged(frame0.shape[-1] // motion.flow0.shape[-1])
    warped0, warped1 = (
        _warp_cubically(frame, flow[:, 0]) for frame, flow in ((frame0, mean.flow0), (frame1, mean.flow1))
    )
    return torch.lerp(warped1, warped0, mean.mask[:, 0])


def _warp_cubically(image: Tensor, flow: Tensor) -> Tensor:
    if image.device.type == "mps":  # Apple's GPUs sample bilinearly alone
        return warp(image, flow)
    return functional.grid_sample(image, positions(flow), "bicubic", padding_mode="border", align_corners=True)
