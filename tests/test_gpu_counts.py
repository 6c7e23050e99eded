"""What a pair costs a GPU, counted without one: the host never waits, and launches stay few."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from amt_frame_interpolation.amt.fast import FastAMT, lookups
from amt_frame_interpolation.amt.fast.half_volume import HalfVolumeCorrelation
from amt_frame_interpolation.amt.fast.sorted_tiles import SortedTileCorrelation
from amt_frame_interpolation.amt.network import AMT, Config, G, L, S
from golden import golden_state_dict
from torch import Tensor
from torch.nn import functional

if sys.platform != "linux":
    pytest.skip("the pretence of a GPU is made for PyTorch on Linux", allow_module_level=True)
from benchmark.counts import CARDS, Lookups, counted, estimate, with_kernel
from benchmark.posing import Posing


def run(
    config: Config,
    dtype: torch.dtype,
    batch: int,
    size: tuple[int, int],
    choose: Callable[[Posing], Lookups] = with_kernel,
) -> tuple[Posing, Tensor, Tensor]:
    """The counts of a call, what it made, and what the paper's network makes in float32 on a CPU."""
    plain = AMT(config)
    plain.load_state_dict(golden_state_dict(plain))
    texture = torch.rand(batch, 3, size[0] // 8, size[1] // 8, generator=torch.Generator().manual_seed(0))
    frame0 = functional.interpolate(texture, size, mode="bilinear")
    frames = frame0, frame0.roll((2, 5), (2, 3))
    with torch.inference_mode():
        expected = plain(*frames, torch.full((batch,), 0.5))
    return *counted(plain.to(dtype), frames, choose), expected


@pytest.mark.parametrize(
    ("config", "dtype", "batch", "launches"),
    [
        (S, torch.float32, 1, 520),
        (S, torch.float16, 3, 520),
        (L, torch.float16, 1, 560),
        (G, torch.float32, 1, 700),
        (G, torch.float16, 3, 700),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_pair_never_waits_and_launches_little(config: Config, dtype: torch.dtype, batch: int, launches: int):
    count, made, expected = run(config, dtype, batch, (128, 144))
    assert not count.waits
    assert count.launches <= launches
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize(
    ("choose", "waits"),
    [(HalfVolumeCorrelation, 0), (partial(SortedTileCorrelation, chunk_bytes=lookups.CHUNK_BYTES), 3)],
    ids=["half volume", "sorted tiles"],
)
def test_without_the_kernel_a_pair_waits_at_most_once_a_lookup(choose: Lookups, waits: int):
    count, made, expected = run(S, torch.float32, 1, (128, 160), lambda _: choose)
    assert sum(count.waits.values()) == waits
    assert count.launches <= 1000
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)


def test_more_pairs_at_once_take_hardly_more_launches():
    one, four = (run(S, torch.float32, batch, (128, 128))[0].launches for batch in (1, 4))
    assert four <= 1.05 * one


def test_a_wait_is_counted():
    """So that the tests above can fail."""
    with Posing() as count, torch.inference_mode():
        x = count.pose(torch.rand(8))
        assert bool((x > 2).any()) is False
        assert (x > 0.5).nonzero().shape[1] == 1
        x.cpu()
    assert sum(count.waits.values()) == 3


def test_the_peak_of_a_pair_is_near_the_estimate():
    count, *_ = run(S, torch.float16, 1, (256, 448))
    network = FastAMT(AMT(S).half())
    told = network.memory_used((256, 448), device=torch.device("cuda", 0))
    assert told == pytest.approx(count.peak, rel=0.25)


def test_an_estimate_is_no_less_than_what_the_bytes_the_arithmetic_and_the_launches_take():
    count, *_ = run(S, torch.float16, 1, (256, 448))
    for card in CARDS:
        least = max(count.bytes / card.bandwidth, count.flops / card.half, count.launches * 8e-6)
        assert least <= estimate(count, card) <= 3 * least
