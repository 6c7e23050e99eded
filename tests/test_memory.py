"""Memory stays bounded, and what is said of it beforehand is true."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from amt_frame_interpolation.amt import motion_scale
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.fast import model as fast_model
from amt_frame_interpolation.amt.fast.choose import choose_operations
from amt_frame_interpolation.amt.fast.tiles import TiledCorrelation
from amt_frame_interpolation.amt.motion_scale import ScaledAMT
from amt_frame_interpolation.amt.network import AMT, Config, G, L, S
from amt_frame_interpolation.amt.network.correlation import CHANNELS, Correlation, CorrelationVolume
from peak import measured_peak, shapes_peak
from torch import Tensor

GIB = 2**30


class UnreadCorrelation(TiledCorrelation):
    """Takes the memory of a tiled correlation, but looks nothing up: what is gathered depends on numbers."""

    def lookup(self, flow0: Tensor, flow1: Tensor, timestep: Tensor) -> Tensor:
        b, _, h, w = flow0.shape
        levels = flow0.new_empty(2 * b * h * w, CHANNELS // 2)
        return torch.empty_like(levels).view(b, h, w, CHANNELS).permute(0, 3, 1, 2)


def unread(fmap0: Tensor, fmap1: Tensor) -> Correlation:
    return UnreadCorrelation(fmap0, fmap1, chunk_bytes=2**20)


@pytest.mark.parametrize(
    ("config", "size", "batch", "dtype"),
    [
        (S, (128, 128), 1, torch.float32),
        (S, (200, 300), 2, torch.float32),
        (S, (400, 720), 1, torch.float32),
        (S, (256, 448), 1, torch.bfloat16),
        (L, (128, 256), 1, torch.float32),
        (G, (256, 128), 1, torch.float32),
    ],
)
def test_the_estimate_is_near_the_measured_peak(config: Config, size: tuple[int, int], batch: int, dtype: torch.dtype):
    network = FastAMT(AMT(config).to(dtype))
    frames = network.padding.pad(torch.rand(batch, 3, *size))
    # Half precision is for GPUs. A CPU without bfloat16 makes copies for its convolutions that no GPU makes.
    peak = measured_peak if dtype == torch.float32 else shapes_peak
    with torch.inference_mode():
        measured = peak(lambda: network(frames, frames.flip(3), torch.full((batch,), 0.5)))
    assert network.memory_used(size, batch=batch) == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize("any_time", [False, True])
def test_the_estimate_of_combined_motion_is_near_the_measured_peak(any_time: bool, monkeypatch: pytest.MonkeyPatch):
    """Of motion that is looked for at all scales."""
    monkeypatch.setitem(motion_scale.REACH, 1, float("inf"))
    size = (480, 848)
    network = ScaledAMT(FastAMT(AMT(L, any_time=any_time)), carried=not any_time)
    frames, time = torch.rand(1, 3, *size), torch.tensor([0.3])
    with torch.inference_mode():
        measured = measured_peak(lambda: network(frames, frames.flip(3), time))
    assert network.used == {1: 1, 2: 1, 4: 1}
    assert network.memory_used(size, torch.device("cpu")) == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize(
    ("config", "size", "dtype", "device"),
    [
        (S, (2160, 3840), torch.float32, "cuda"),
        (L, (2160, 3840), torch.float32, "cuda"),
        (G, (2160, 3840), torch.float32, "cpu"),
        (G, (2160, 3840), torch.float16, "cuda"),
    ],
)
def test_a_4k_pair_takes_less_than_8_gib_and_as_much_as_estimated(
    config: Config, size: tuple[int, int], dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch
):
    operations = choose_operations(torch.device(device))
    monkeypatch.setattr(fast_model, "choose_operations", lambda _device, **_: operations)
    with torch.device("meta"):
        network = FastAMT(AMT(config).to(dtype), correlation=unread)
        monkeypatch.setattr(network, "check_timestep", lambda timestep: timestep)  # it reads the timestep
        frames, timestep = torch.empty(1, 3, *network.padding.padded(size)), torch.empty(1)
    peak = shapes_peak(lambda: network(frames, frames, timestep))
    assert peak < 8 * GIB
    assert network.memory_used(size, device=torch.device(device)) == pytest.approx(peak, rel=0.25)


@pytest.mark.parametrize("roughness", [0.0, 1.0, 100.0])
def test_lookups_take_a_small_part_of_the_volume(roughness: float):
    fmap0, fmap1 = torch.randn(2, 1, 32, 72, 96)
    flow0, flow1 = torch.randn(2, 1, 2, 72, 96) * roughness
    half = torch.full((1, 1, 1, 1), 0.5)

    def peak(correlation: Callable[[Tensor, Tensor], Correlation]) -> int:
        return measured_peak(lambda: correlation(fmap0, fmap1).lookup(flow0, flow1, half))

    assert peak(choose_operations(torch.device("cpu")).correlation) < 0.15 * peak(CorrelationVolume)
