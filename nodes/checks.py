"""Checks images before any work is done: their form, their size, and whether the result fits into memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import comfy.model_management as mm
import torch
from torch import Tensor


def check_images(images: object, name: str = "images") -> Tensor:
    """An IMAGE batch [frames, height, width, 3 or 4] of finite numbers. Raises ValueError."""
    if not isinstance(images, Tensor):
        raise ValueError(f"{name}: expected an IMAGE batch, got {type(images).__name__}. Connect an IMAGE.")
    shape = " x ".join(map(str, images.shape))
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(
            f"{name}: expected floats [frames, height, width, channels], got {images.dtype} {shape}. "
            "The node that made them does not give what ComfyUI calls an IMAGE."
        )
    if len(images) < 1:
        raise ValueError(f"{name}: expected at least one frame, got none. Look at the node that chooses the frames.")
    if images.shape[1] < 1 or images.shape[2] < 1:
        raise ValueError(
            f"{name}: expected frames of at least one pixel, got [frames, height, width, channels] {shape}. "
            "Look at the node that crops or resizes them."
        )
    if images.shape[3] not in (3, 4):
        raise ValueError(
            f"{name}: expected 3 (RGB) or 4 (RGBA) channels, got {images.shape[3]}. "
            "Convert the images to RGB first; for masks, use Convert Mask to Image."
        )
    for index, frame in enumerate(images):  # frame by frame: a flag for every value of a long clip would take gigabytes
        if not bool(frame.isfinite().all()):
            raise ValueError(
                f"{name}: frame {index} has pixels that are NaN or infinite. The node that made it failed; "
                "often that is a VAE in half precision (start ComfyUI with --fp32-vae)."
            )
    return images


def join_images(images: object, more: Mapping[str, object] | None, *, alpha: bool = True) -> Tensor:
    """The batch `images` and those of `more_images`, one after the other. Without `alpha`, only their colours.

    Raises:
        ValueError: they are not of one size.
    """
    named = {"images": images}
    in_order = sorted((more or {}).items(), key=lambda item: (len(item[0]), item[0]))  # images10 is behind images9
    named |= {name: batch for name, batch in in_order if batch is not None}
    batches = {name: check_images(batch, name) for name, batch in named.items()}
    if not alpha:
        batches = {name: batch[..., :3] for name, batch in batches.items()}
    if len({batch.shape[1:] for batch in batches.values()}) > 1:
        kinds = {3: "", 4: " with alpha"}
        sizes = ", ".join(f"{name} {b.shape[2]} x {b.shape[1]}{kinds[b.shape[3]]}" for name, b in batches.items())
        raise ValueError(
            f"images: expected frames of one size, got {sizes}. "
            "Resize or crop them first. This node does not, because you might not notice that a frame was stretched."
        )
    return torch.cat(list(batches.values())) if len(batches) > 1 else batches["images"]


def free_memory(device: torch.device) -> int:
    """The bytes of memory that are free on the device."""
    return cast(int, mm.get_free_memory(device))


def check_result_fits(images: Tensor, count: int, device: torch.device) -> None:
    """Raises ValueError where `count` frames like these need more memory than is free on `device`."""
    _, height, width, _ = images.shape
    needed = count * images[0].numel() * images.element_size()
    free = free_memory(device)
    if needed > free:
        raise ValueError(
            f"the result would be {count} frames of {width} x {height}, {needed / 2**30:.1f} GiB, "
            f"and {free / 2**30:.1f} GiB of memory are free. Use AMT Images to Video or AMT Video Interpolation, "
            "which write frames as they are made, or a smaller factor, fewer frames or smaller ones."
        )
