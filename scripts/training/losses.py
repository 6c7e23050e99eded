"""How far pictures are from the truth, as training sees it; [b, 3, h, w], 0..1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

REACH = 3
"""Pixels from a pixel to the furthest ones that the census transform compares it with: 7 x 7."""


def charbonnier(x: Tensor) -> Tensor:
    return (x * x + 1e-6).sqrt().mean()


def census(image: Tensor, target: Tensor) -> Tensor:
    """Soft Hamming distance of the census transforms over 7 x 7 (after Meister et al., UnFlow, AAAI 2018)."""
    return _Census.apply(_grey(image), _grey(target))


def _grey(image: Tensor) -> Tensor:
    return (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1) * 255


class _Census(torch.autograd.Function):
    """With its gradient, neighbour by neighbour, so that caches hold it: autograd takes 3 to 10 times as long."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor) -> Tensor:
        """image, target: [b, h, w], grey levels. Of two pixels that are each other's neighbours, one difference."""
        height, width = image.shape[1] - REACH, image.shape[2] - 2 * REACH
        here = (slice(None), slice(0, height), slice(REACH, REACH + width))
        neighbours = [(y, x) for y in range(REACH + 1) for x in range(-REACH, REACH + 1) if y > 0 or x > 0]
        total, gradient = image.new_zeros(()), torch.zeros_like(image)
        for y, x in neighbours:
            there = (slice(None), slice(y, y + height), slice(REACH + x, REACH + x + width))
            difference, wanted = image[there] - image[here], target[there] - target[here]
            # The transform, d / sqrt(0.81 + d^2), is a soft sign with the derivative 0.81 (0.81 + d^2)^(-3/2).
            scale = (difference * difference + 0.81).rsqrt_()
            error = difference.mul_(scale) - wanted * (wanted * wanted + 0.81).rsqrt_()
            squared = error * error
            share = (squared + 0.1).reciprocal_()
            total += (squared * share).sum()
            slope = error.mul_(share).mul_(share).mul_(0.2 * 0.81).mul_(scale).mul_(scale).mul_(scale)
            gradient[there] += slope
            gradient[here] -= slope
        count = len(neighbours) * len(image) * height * width
        ctx.save_for_backward(gradient / count)
        return total / count

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return outputs[0] * gradient, None
