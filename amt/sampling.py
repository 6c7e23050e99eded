"""Reading images at other positions: grids, warps and resizing. Flows and coordinates are in pixels, x first."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def pixel_grid(height: int, width: int, device: torch.device) -> Tensor:
    """The position (x, y) of every pixel, float32, [1, 2, height, width]."""
    y = torch.arange(height, device=device, dtype=torch.float32)
    x = torch.arange(width, device=device, dtype=torch.float32)
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)))[None]


def warp(image: Tensor, flow: Tensor, top: int = 0) -> Tensor:
    """Reads `image` at pixel + flow, bilinearly; positions outside are clamped to the border.

    image [b, c, h, w], flow [b, 2, rows, w] float32 for the image's rows from `top` on -> [b, c, rows, w] in
    image's dtype.
    """
    height, width = image.shape[-2:]
    scale_x, scale_y = 2 / max(width - 1, 1), 2 / max(height - 1, 1)
    x = torch.arange(flow.shape[3], device=flow.device, dtype=torch.float32) * scale_x - 1
    y = torch.arange(top, top + flow.shape[2], device=flow.device, dtype=torch.float32)[:, None] * scale_y - 1
    position = torch.stack((torch.add(x, flow[:, 0], alpha=scale_x), torch.add(y, flow[:, 1], alpha=scale_y)), dim=-1)
    # Positions are clamped here, not by padding_mode="border", which Apple's MPS backend does not have.
    position = position.clamp_(-1, 1)
    # float32 whatever the image is: at 1080p half precision would place samples a whole pixel off.
    return _sample(image.float(), position).to(image.dtype)


def _sample(image: Tensor, position: Tensor) -> Tensor:
    if image.device.type != "cpu" or len(image) > 1 or torch.is_grad_enabled():
        return functional.grid_sample(image, position, align_corners=True)
    # On CPUs, PyTorch samples every image of a batch with one thread: make a batch of it.
    _, height, width, _ = position.shape
    pieces = math.gcd(height * width, 16)
    sampled = functional.grid_sample(
        image.expand(pieces, -1, -1, -1), position.reshape(pieces, 1, -1, 2), align_corners=True
    )
    return sampled.transpose(0, 1).reshape(1, -1, height, width)


def resize(image: Tensor, scale: float) -> Tensor:
    """Bilinear resizing by `scale`, pixel areas aligned, no antialiasing (specification: up(x, s))."""
    if scale == 1:
        return image
    return functional.interpolate(
        image, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=False
    )


def resize_flow(flow: Tensor, scale: float) -> Tensor:
    """Resizes a flow and its vectors with it: they stay in pixels of the grid they live on."""
    return resize(flow, scale) * scale
