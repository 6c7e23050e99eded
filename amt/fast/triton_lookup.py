"""The lookup as one kernel: what a GPU runs wherever Triton is installed (CUDA and ROCm).

A program of the kernel looks up one pixel in one of the two directions: at each level it multiplies the pixel's
feature with those at the 8 x 8 whole positions of its window, and interpolates. Nothing between features and result
is ever in the GPU's memory, and the host learns nothing of the flows, so it waits for nothing.
"""

# Kernels are Triton's language, which a type checker takes for Python.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

LEVELS = 4
ENTRIES = 49
"""Of a window, 7 x 7."""
PIXELS, CHUNK = 1, 32
"""Pixels that a program looks up, and channels that it multiplies, at once."""
# What changes from size to size would otherwise be compiled anew where it happens to be a multiple of 16.
SIZES = ("height", "width", "batch", "flow_batch", "flow_channel", "flow_row", "flow_column", "time_batch")


class TritonCorrelation:
    """Exact lookups without the volume; two maps' pyramids of features are all that it keeps."""

    def __init__(self, fmap0: Tensor, fmap1: Tensor) -> None:
        """fmap0, fmap1: feature maps of the two frames, [b, c, h, w]; products are summed in float32."""
        maps = torch.cat((fmap0, fmap1)).contiguous(memory_format=torch.channels_last)
        # Pooling is linear, so level k of the volume is the correlation with the k times pooled target.
        self._pyramid = [maps]
        for _ in range(1, LEVELS):
            pooled = functional.avg_pool2d(self._pyramid[-1], 2)
            self._pyramid.append(pooled.contiguous(memory_format=torch.channels_last))

    def lookup(self, flow0: Tensor, flow1: Tensor, timestep: Tensor) -> Tensor:
        """[b, 392, h, w], channels last in memory, in the maps' precision."""
        maps = self._pyramid[0]
        channels, height, width = maps.shape[1:]
        batch = len(flow0)
        if flow0.stride() != flow1.stride():
            flow0, flow1 = flow0.contiguous(), flow1.contiguous()
        found = maps.new_empty(batch, height, width, 2 * LEVELS * ENTRIES)
        with torch.cuda.device(maps.device):
            look_up[(triton.cdiv(height * width, PIXELS), 2 * batch)](
                found,
                *self._pyramid,
                flow0,
                flow1,
                timestep,
                height,
                width,
                batch,
                *flow0.stride(),
                timestep.stride(0),
                CHANNELS=channels,
                SCALE=1 / math.sqrt(channels),
                PIXELS=PIXELS,
                CHUNK=CHUNK,
            )
        return found.permute(0, 3, 1, 2)


@triton.jit(do_not_specialize=SIZES)
def look_up(
    found,
    level0,
    level1,
    level2,
    level3,
    flow0,
    flow1,
    timestep,
    height,
    width,
    batch,
    flow_batch,
    flow_channel,
    flow_row,
    flow_column,
    time_batch,
    CHANNELS: tl.constexpr,
    SCALE: tl.constexpr,
    PIXELS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """found [b, h, w, side, level, 49]; levels [side * b, h >> k, w >> k, c], frame 0's maps before frame 1's."""
    pixel, map_index = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS), tl.program_id(1)
    exists = pixel < height * width
    row, column = pixel // width, pixel % width
    side, sample = map_index // batch, map_index % batch
    other = ((1 - side) * batch + sample).to(tl.int64)

    # Frame 0's pixels lie in frame 1 at flow1 / t from here, and frame 1's in frame 0 at flow0 / (1 - t).
    time = tl.load(timestep + sample * time_batch)
    place = sample.to(tl.int64) * flow_batch + row * flow_row + column * flow_column
    if side == 0:
        x = tl.load(flow1 + place, mask=exists) / time
        y = tl.load(flow1 + place + flow_channel, mask=exists) / time
    else:
        x = tl.load(flow0 + place, mask=exists) / (1 - time)
        y = tl.load(flow0 + place + flow_channel, mask=exists) / (1 - time)
    x, y = column + x, row + y

    source = level0 + (map_index.to(tl.int64) * height * width + pixel) * CHANNELS
    entries = found + ((sample.to(tl.int64) * height * width + pixel) * 2 + side) * (4 * 49)
    for level in tl.static_range(4):
        target = level0 if level == 0 else level1 if level == 1 else level2 if level == 2 else level3
        target += other * height * width * CHANNELS
        # Not beyond where every entry lies outside of the grid, wherever that is; what is no number counts as 0.
        near_x = tl.minimum(tl.maximum(tl.where(x == x, x, 0.0), -4.0), width + 3.0)
        near_y = tl.minimum(tl.maximum(tl.where(y == y, y, 0.0), -4.0), height + 3.0)
        left, top = tl.floor(near_x), tl.floor(near_y)
        products = _products(
            source, target, exists, left.to(tl.int32), top.to(tl.int32), height, width, CHANNELS, PIXELS, CHUNK
        )
        whole = tl.reshape(products * SCALE, (PIXELS, 8, 8))
        _interpolate(entries + level * 49, exists, whole, near_x - left, near_y - top)
        x, y = x / 2, y / 2
        height, width = height // 2, width // 2


@triton.jit
def _products(
    source,
    target,
    exists,
    left,
    top,
    height,
    width,
    CHANNELS: tl.constexpr,
    PIXELS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """With the 64 whole positions from 3 left of and above (left, top) on, column after column: [pixels, 64]."""
    position = tl.arange(0, 64)
    column, row = left[:, None] - 3 + position // 8, top[:, None] - 3 + position % 8
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & exists[:, None]
    offset = (row * width + column) * CHANNELS
    products = tl.zeros((PIXELS, 64, CHUNK), tl.float32)
    for start in tl.static_range(0, CHANNELS, CHUNK):
        channel = start + tl.arange(0, CHUNK)
        of_map = channel < CHANNELS
        here = tl.load(source[:, None] + channel, mask=exists[:, None] & of_map, other=0.0)
        there = tl.load(target + offset[:, :, None] + channel, mask=inside[:, :, None] & of_map, other=0.0)
        products += here.to(tl.float32)[:, None, :] * there.to(tl.float32)
    return tl.sum(products, axis=2)


@triton.jit
def _interpolate(found, exists, whole, x, y):
    """Writes the 7 x 7 values that lie x and y behind the first 7 x 7 of the whole positions [pixels, 8, 8]."""
    # As products with 8 x 8 matrices: row n takes 1 - f of entry n and f of entry n + 1.
    new, old = tl.arange(0, 8)[:, None], tl.arange(0, 8)[None, :]
    x, y = x[:, None, None], y[:, None, None]
    by_x = tl.where(old == new, 1 - x, tl.where(old == new + 1, x, 0.0))
    by_y = tl.where(old == new, 1 - y, tl.where(old == new + 1, y, 0.0))
    whole = tl.sum(by_x[:, :, :, None] * whole[:, None, :, :], axis=2)
    whole = tl.sum(whole[:, :, None, :] * by_y[:, None, :, :], axis=3)
    of_window = (new < 7) & (old < 7)
    tl.store(found[:, None, None] + new * 7 + old, whole, mask=exists[:, None, None] & of_window)
