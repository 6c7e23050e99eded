"""Counts what a pair costs a GPU, without one, and estimates from that how long named cards take.

    python scripts/benchmark counts                 some minutes on a CPU
    python scripts/benchmark counts --write-docs    into docs/performance.md

The counts are exact, as far as a CPU can tell (see `posing`). The times are estimates, and floors: each kernel takes as
long as its bytes or its arithmetic at the card's highest rates, whichever is longer, and the host takes LAUNCH seconds
for each; a pair takes as long as the longer of the two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import _pack
import torch
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.fast.half_volume import HalfVolumeCorrelation
from amt_frame_interpolation.amt.fast.tiles import TiledCorrelation
from amt_frame_interpolation.amt.motion_scale import ScaledAMT
from amt_frame_interpolation.amt.network import AMT, Config, G, L, S
from amt_frame_interpolation.amt.network.correlation import LEVELS, WINDOW, Correlation
from documents.marks import insert
from torch import Tensor
from torch.nn import functional

from benchmark.posing import Posing
from benchmark.worker import make_frames, weighted_amt

Lookups = Callable[[Tensor, Tensor], Correlation]
PAGE = _pack.ROOT / "docs" / "performance.md"
LAUNCH, WAIT = 8e-6, 30e-6
"""Seconds that the host takes to ask for a kernel, and to wait for an answer. Assumed."""


class Card(NamedTuple):
    """Highest rates by the maker's data sheets: bytes a second, and operations a second in half precision that sum in
    single precision, without sparsity."""

    name: str
    bandwidth: float
    half: float


CARDS = (Card("RTX 3060", 360e9, 25.6e12), Card("RTX 4090", 1008e9, 165e12), Card("H100 SXM", 3350e9, 989e12))


class KernelStandIn:
    """Takes the place of `TritonCorrelation`, whose kernel needs a GPU: its launches and bytes, with equal numbers."""

    def __init__(self, fmap0: Tensor, fmap1: Tensor, *, count: Posing) -> None:
        self._count = count
        maps = torch.cat((fmap0, fmap1))
        self._pyramid = [maps]
        for _ in range(LEVELS - 1):
            self._pyramid.append(functional.avg_pool2d(self._pyramid[-1], 2))

    def lookup(self, flow0: Tensor, flow1: Tensor, timestep: Tensor) -> Tensor:
        def work(maps: Tensor, *rest: Tensor) -> Tensor:
            found = TiledCorrelation(*maps.float().chunk(2), chunk_bytes=2**22).lookup(*rest[LEVELS - 1 :])
            return found.to(maps.dtype, memory_format=torch.channels_last)

        maps = self._pyramid[0]
        products = maps[:, 0].numel() * LEVELS * (WINDOW + 1) ** 2
        return self._count.launch([*self._pyramid, flow0, flow1, timestep], work, flops=2 * products * maps.shape[1])


def with_kernel(count: Posing) -> Lookups:
    return partial(KernelStandIn, count=count)


def counted(
    network: AMT,
    frames: tuple[Tensor, Tensor],
    lookups: Callable[[Posing], Lookups] = with_kernel,
    *,
    auto: bool = False,
) -> tuple[Posing, Tensor]:
    """The counts of a call, and what it made. The network's parameters pose as a GPU's afterwards.

    auto: at the motion scale that suits the frames, not at their full size.
    """
    with torch.inference_mode(), Posing() as count:
        fast = FastAMT(network, correlation=lookups(count))
        count.module(fast)
        posed = [count.pose(frame) for frame in frames]
        count.reset()
        made: Any = (ScaledAMT(fast) if auto else fast)(*posed, torch.full((len(frames[0]),), 0.5))
    return count, made.inner


def estimate(count: Posing, card: Card) -> float:
    """Seconds."""
    on_card = sum(max(size / card.bandwidth, flops / card.half) for size, flops in count.kernels)
    return max(on_card, count.launches * LAUNCH + sum(count.waits.values()) * WAIT)


class Case(NamedTuple):
    config: Config
    size: tuple[int, int]
    batch: int = 1
    lookups: Callable[[Posing], Lookups] = with_kernel
    auto: bool = False

    @property
    def name(self) -> str:
        notes = [f"{self.batch} pairs at once"] * (self.batch > 1)
        notes += ["without Triton"] * (self.lookups is not with_kernel)
        notes += ["motion scale auto"] * self.auto
        return ", ".join([self.config.name, *notes])


def cases() -> Iterator[Case]:
    p480, p720, p1080, p2160 = (480, 848), (720, 1280), (1080, 1920), (2160, 3840)
    yield from (Case(S, size) for size in (p480, p720, p1080, p2160))
    yield from (Case(S, size, auto=True) for size in (p720, p1080, p2160))
    yield Case(S, p480, batch=4)
    yield Case(S, p720, batch=4, auto=True)
    yield Case(S, p480, lookups=lambda _: HalfVolumeCorrelation)
    yield from (Case(config, p720) for config in (L, G))


def row(case: Case) -> str:
    network = weighted_amt(case.config.name)
    frames = [frame.repeat(case.batch, 1, 1, 1) for frame in make_frames(case.size, torch.device("cpu"))]
    padded = tuple(AMT.padding.pad(frame) for frame in frames)
    count, _ = counted(network.half(), (padded[0], padded[1]), case.lookups, auto=case.auto)
    each = case.batch
    cells = [
        f"{case.size[1]}x{case.size[0]}",
        case.name,
        f"{count.launches / each:.0f}",
        f"{sum(count.waits.values()) / each:.0f}",
        f"{count.bytes / each / 1e9:.1f}",
        f"{count.flops / each / 1e9:.0f}",
        f"{count.peak / each / 2**20:.0f}",
        *(f"{1000 * estimate(count, card) / each:.1f}" for card in CARDS),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser("benchmark counts", description=__doc__)
    parser.add_argument("--write-docs", action="store_true", help="the table, into docs/performance.md")
    arguments = parser.parse_args()
    names = [f"{card.name}, ms at best" for card in CARDS]
    columns = ["frames", "network, fp16", "launches", "waits", "GB", "GFLOP", "peak MiB", *names]
    lines = [f"| {' | '.join(columns)} |", "|---|---" + "|---:" * (len(columns) - 2) + "|"]
    print("\n".join(lines), flush=True)
    for case in cases():
        lines.append(row(case))
        print(lines[-1], flush=True)
    if arguments.write_docs:
        insert(PAGE, "performance: counts", "\n".join(lines))
