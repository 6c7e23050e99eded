"""The volume, built whole as the paper describes it, is the oracle for the lookup that never builds it."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from amt_frame_interpolation.amt.fast import tiles
from amt_frame_interpolation.amt.network.correlation import (
    CorrelationVolume,
    bilateral_centres,
    look_up,
    pooled_levels,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

TiledCorrelation = partial(tiles.TiledCorrelation, chunk_bytes=2**20)


def assert_same(fmap0: Tensor, fmap1: Tensor, flow0: Tensor, flow1: Tensor, timestep: Tensor) -> None:
    expected = CorrelationVolume(fmap0, fmap1).lookup(flow0, flow1, timestep)
    found = TiledCorrelation(fmap0, fmap1).lookup(flow0, flow1, timestep)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 40),
    height=st.integers(8, 41),
    width=st.integers(8, 41),
    roughness=st.sampled_from([0.0, 0.3, 1.0, 3.0, 10.0]),
    coarseness=st.sampled_from([1, 4, 16]),
    shift=st.sampled_from([0.0, 0.5, -7.25, 40.0, -1e6]),
    timestep=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**31),
)
def test_same_as_the_volume(batch, channels, height, width, roughness, coarseness, shift, timestep, seed):
    """Odd sizes, batches, any time; motion from still to chaotic, inside the frame and far outside."""
    random = torch.Generator().manual_seed(seed)
    fmap0, fmap1 = torch.randn(2, batch, channels, height, width, generator=random)
    coarse = torch.randn(batch, 4, -(-height // coarseness), -(-width // coarseness), generator=random)
    flow = functional.interpolate(coarse, size=(height, width), mode="bilinear") * roughness * coarseness + shift
    assert_same(fmap0, fmap1, flow[:, :2], flow[:, 2:], torch.full((batch, 1, 1, 1), timestep))


def test_each_of_a_batch_has_its_own_time():
    fmap0, fmap1 = torch.randn(2, 3, 8, 16, 24)
    flow0, flow1 = torch.randn(2, 3, 2, 16, 24) * 3
    assert_same(fmap0, fmap1, flow0, flow1, torch.tensor([0.25, 0.5, 0.9]).reshape(3, 1, 1, 1))


@pytest.mark.parametrize("x", [-5.0, -4.0, -3.5, -1.0, 0.0, 15.0, 16.0, 18.99, 19.0, 20.0])
@pytest.mark.parametrize("y", [-4.0, 0.0, 23.0, 27.0])
def test_borders(x: float, y: float):
    """Every neighbour outside the grid counts as 0 by itself; all pixels look at the same place here."""
    fmap0, fmap1 = torch.randn(2, 1, 8, 24, 16)
    grid = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="xy"))[None]
    flow = (torch.tensor([x, y]).reshape(1, 2, 1, 1) - grid) / 2
    assert_same(fmap0, fmap1, flow, flow, torch.full((1, 1, 1, 1), 0.5))


def test_half_precision_maps_are_correlated_in_float32():
    fmap0, fmap1 = torch.randn(2, 1, 16, 16, 16).half()
    flow = torch.randn(1, 2, 16, 16)
    assert_same(fmap0, fmap1, flow, flow, torch.full((1, 1, 1, 1), 0.5))


@pytest.mark.parametrize("size", [(136, 240), (270, 480)], ids=["1080p", "4K"])
def test_large_grids_equal_the_volume_of_a_crop(size: tuple[int, int]):
    """The volume of all pixels would be 4 GB, or 67; a few pixels' rows of it, with all targets, are small."""
    height, width = size
    fmap0, fmap1 = torch.randn(2, 1, 12, height, width)
    flow = functional.interpolate(torch.randn(1, 4, 6, 8) * 12, size=size, mode="bilinear") + torch.randn(1, 4, *size)
    half = torch.full((1, 1, 1, 1), 0.5)
    found = TiledCorrelation(fmap0, fmap1).lookup(flow[:, :2], flow[:, 2:], half)
    sides = zip((fmap0, fmap1), (fmap1, fmap0), bilateral_centres(flow[:, :2], flow[:, 2:], half), strict=True)
    for (source, target, centres), side in zip(sides, found.chunk(2, dim=1), strict=True):
        for y, x in ((0, 0), (height // 2, width // 2), (height - 8, width - 12)):
            crop = (..., slice(y, y + 8), slice(x, x + 12))
            rows = torch.einsum("cp,cyx->pyx", source[0][crop].flatten(1), target[0]) / math.sqrt(12)
            # In float64: the volume's own sampling positions are not exact enough on grids of this size.
            expected = look_up(pooled_levels(rows[:, None].double()), centres[crop].double()).float()
            torch.testing.assert_close(side[crop], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_broken_flows_stay_where_they_are(bad: float):
    """A flow that is no number spoils its own pixel at most."""
    fmap0, fmap1 = torch.randn(2, 1, 8, 16, 16)
    flow = torch.randn(1, 2, 16, 16)
    half = torch.full((1, 1, 1, 1), 0.5)
    good = TiledCorrelation(fmap0, fmap1).lookup(flow, flow, half)
    flow[:, :, 3, 5] = bad
    found = TiledCorrelation(fmap0, fmap1).lookup(flow, flow, half)
    found[:, :, 3, 5] = good[:, :, 3, 5] = 0
    torch.testing.assert_close(found, good)


def test_training_gets_gradients():
    fmap0, fmap1 = torch.randn(2, 1, 8, 16, 16, requires_grad=True)
    flow = torch.randn(1, 2, 16, 16, requires_grad=True)
    CorrelationVolume(fmap0, fmap1).lookup(flow, flow, torch.full((1, 1, 1, 1), 0.5)).sum().backward()
    assert flow.grad is not None
    assert flow.grad.abs().sum() > 0
