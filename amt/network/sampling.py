"""Reading images at other positions: grids, warps and resizing. Flows and coordinates are in pixels, x first."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def pixel_grid(height: int, width: int, device: torch.device) -> Tensor:
    """The position (x, y) of every pixel, float32, [1, 2, height, width]."""
    y = torch.arange(height, device=device, dtype=torch.float32)
    x = torch.arange(width, device=device, dtype=torch.float32)
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)))[None]


def positions(flow: Tensor) -> Tensor:
    """Where flows [b, 2, h, w] point to, as `grid_sample` takes it: [b, h, w, 2], -1 to 1 from border to border."""
    height, width = flow.shape[-2:]
    x, y = (pixel_grid(height, width, flow.device) + flow).unbind(dim=1)
    return torch.stack((2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1), dim=-1)


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Reads `image` at pixel + flow, bilinearly; positions outside are clamped to the border.

    image [b, c, h, w], flow [b, 2, h, w] float32 -> [b, c, h, w] in image's dtype.
    """
    # Clamped here, because `grid_sample` on Apple's GPUs has no padding by the border.
    inside = positions(flow).clamp(-1, 1)
    # float32 whatever the image is: at 1080p half precision would place samples a whole pixel off.
    return functional.grid_sample(image.float(), inside, align_corners=True).to(image.dtype)


def resize(image: Tensor, scale: float) -> Tensor:
    """Bilinear resizing by `scale`, pixel areas aligned, no antialiasing (docs/network.md: resize(x, s))."""
    if scale == 1:
        return image
    return functional.interpolate(
        image, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=False
    )


def resize_flow(flow: Tensor, scale: float) -> Tensor:
    """Resizes a flow and its vectors with it: they stay in pixels of the grid they live on."""
    return resize(flow, scale) * scale
