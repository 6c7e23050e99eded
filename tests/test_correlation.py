"""The volume, built whole as the paper describes it, is the oracle for the lookup that never builds it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from amt_frame_interpolation.amt.fast import lookups as gpu_lookups
from amt_frame_interpolation.amt.fast import sorted_tiles, tiles
from amt_frame_interpolation.amt.fast.half_volume import HalfVolumeCorrelation
from amt_frame_interpolation.amt.network.correlation import (
    Correlation,
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
SortedTileCorrelation = partial(sorted_tiles.SortedTileCorrelation, chunk_bytes=2**18)
LOOKUPS = (TiledCorrelation, SortedTileCorrelation, HalfVolumeCorrelation)


def assert_same(fmap0: Tensor, fmap1: Tensor, flow0: Tensor, flow1: Tensor, timestep: Tensor) -> None:
    expected = CorrelationVolume(fmap0, fmap1).lookup(flow0, flow1, timestep)
    for lookups in LOOKUPS:
        found = lookups(fmap0, fmap1).lookup(flow0, flow1, timestep)
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
    half = torch.full((1, 1, 1, 1), 0.5)
    expected = CorrelationVolume(fmap0, fmap1).lookup(flow, flow, half)
    torch.testing.assert_close(TiledCorrelation(fmap0, fmap1).lookup(flow, flow, half), expected, rtol=0, atol=1e-4)
    # A GPU's lookups give the maps' precision, which is what is read.
    for lookups in (SortedTileCorrelation, HalfVolumeCorrelation):
        found = lookups(fmap0, fmap1).lookup(flow, flow, half)
        assert found.dtype == torch.float16
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("size", [(136, 240), (270, 480)], ids=["1080p", "4K"])
@pytest.mark.parametrize("lookups", [TiledCorrelation, SortedTileCorrelation], ids=["tiles", "sorted tiles"])
def test_large_grids_equal_the_volume_of_a_crop(
    size: tuple[int, int], lookups: Callable[[Tensor, Tensor], Correlation]
):
    """The volume of all pixels would be 4 GB, or 67; a few pixels' rows of it, with all targets, are small."""
    height, width = size
    fmap0, fmap1 = torch.randn(2, 1, 12, height, width)
    flow = functional.interpolate(torch.randn(1, 4, 6, 8) * 12, size=size, mode="bilinear") + torch.randn(1, 4, *size)
    half = torch.full((1, 1, 1, 1), 0.5)
    found = lookups(fmap0, fmap1).lookup(flow[:, :2], flow[:, 2:], half)
    sides = zip((fmap0, fmap1), (fmap1, fmap0), bilateral_centres(flow[:, :2], flow[:, 2:], half), strict=True)
    for (source, target, centres), side in zip(sides, found.chunk(2, dim=1), strict=True):
        for y, x in ((0, 0), (height // 2, width // 2), (height - 8, width - 12)):
            crop = (..., slice(y, y + 8), slice(x, x + 12))
            rows = torch.einsum("cp,cyx->pyx", source[0][crop].flatten(1), target[0]) / math.sqrt(12)
            # In float64: the volume's own sampling positions are not exact enough on grids of this size.
            expected = look_up(pooled_levels(rows[:, None].double()), centres[crop].double()).float()
            torch.testing.assert_close(side[crop], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("lookups", LOOKUPS, ids=["tiles", "sorted tiles", "half volume"])
def test_broken_flows_stay_where_they_are(bad: float, lookups: Callable[[Tensor, Tensor], Correlation]):
    """A flow that is no number spoils its own pixel at most."""
    fmap0, fmap1 = torch.randn(2, 1, 8, 16, 16)
    flow = torch.randn(1, 2, 16, 16)
    half = torch.full((1, 1, 1, 1), 0.5)
    good = lookups(fmap0, fmap1).lookup(flow, flow, half)
    flow[:, :, 3, 5] = bad
    found = lookups(fmap0, fmap1).lookup(flow, flow, half)
    found[:, :, 3, 5] = good[:, :, 3, 5] = 0
    torch.testing.assert_close(found, good)


def test_training_gets_gradients():
    fmap0, fmap1 = torch.randn(2, 1, 8, 16, 16, requires_grad=True)
    flow = torch.randn(1, 2, 16, 16, requires_grad=True)
    CorrelationVolume(fmap0, fmap1).lookup(flow, flow, torch.full((1, 1, 1, 1), 0.5)).sum().backward()
    assert flow.grad is not None
    assert flow.grad.abs().sum() > 0


@pytest.fixture
def _asked_anew():
    """What is remembered of devices is forgotten."""

    def forget() -> None:
        gpu_lookups.kernel_works.cache_clear()
        gpu_lookups.volume_fits.cache_clear()
        gpu_lookups.broken.clear()

    forget()
    yield
    forget()


@pytest.mark.usefixtures("_asked_anew")
def test_a_gpu_without_the_kernel_gets_the_volume_where_it_fits(monkeypatch: pytest.MonkeyPatch):
    """Tensors of a CPU stand in: neither choice looks at the device."""
    fmap0, fmap1 = torch.randn(2, 1, 8, 16, 16)
    volume = HalfVolumeCorrelation.memory(fmap0.shape, fmap0.dtype)
    for free, expected in ((volume, sorted_tiles.SortedTileCorrelation), (2 * volume, HalfVolumeCorrelation)):
        gpu_lookups.volume_fits.cache_clear()
        monkeypatch.setattr(gpu_lookups, "free_memory", lambda _, free=free: free)
        assert isinstance(gpu_lookups.gpu_correlation(fmap0, fmap1), expected)


@pytest.mark.usefixtures("_asked_anew")
def test_where_the_volume_fits_no_longer_there_are_tiles(monkeypatch: pytest.MonkeyPatch):
    class Crowded(HalfVolumeCorrelation):
        def __init__(self, *_: object) -> None:
            raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(gpu_lookups, "free_memory", lambda _: 2**40)
    monkeypatch.setattr(gpu_lookups, "HalfVolumeCorrelation", Crowded)
    fmaps = torch.randn(2, 1, 8, 16, 16)
    assert isinstance(gpu_lookups.gpu_correlation(*fmaps), sorted_tiles.SortedTileCorrelation)


@pytest.mark.usefixtures("_asked_anew")
def test_where_the_kernel_can_not_be_compiled_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nwith much advice")

    monkeypatch.setattr(gpu_lookups, "try_kernel", fail)
    monkeypatch.setattr(gpu_lookups.importlib.util, "find_spec", lambda _: True)
    with caplog.at_level(logging.WARNING):
        for channels in (84, 84, 128):
            assert not gpu_lookups.kernel_works(torch.device("cuda", 0), torch.float16, channels)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["AMT looks correlations up without Triton: RuntimeError: Failed to find C compiler."]
