"""What exact frame rates cost beside whole multiples, and what times of a pair cost together.

    python scripts/benchmark rates                  prints the figures
    python scripts/benchmark rates --write-docs     and writes them into docs/performance.md

All in one process, in turns, after one turn that is not counted: one second of 16 frames a second becomes 64 and 60,
with the motion of the middle carried to any time, as the nodes do it, and by halving gaps again and again; and three
frames are made between two, their motion found once and found anew for each.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from fractions import Fraction

import _pack  # noqa: F401  (makes the pack importable)
import torch
from amt_frame_interpolation.amt.engine import Engine
from amt_frame_interpolation.amt.motion_scale import ScaledAMT
from amt_frame_interpolation.amt.timeline import multiples
from documents.marks import insert
from torch import Tensor

from benchmark.speed import PAGE, machine
from benchmark.worker import make_amt, make_frames

CPU = torch.device("cpu")
SIZE = (256, 448)
TURNS = 1
RATIOS = (
    ("16 to 60, carried", "16 to 64, carried"),
    ("16 to 60, carried", "16 to 60, halved"),
    ("4x of a pair", "4x of a pair, three calls"),
)


def one_second(network: object, rate: int) -> Callable[[], int]:
    """Makes `rate` frames of 16 and one more; returns how many."""
    frame0, frame1 = (frame[0].permute(1, 2, 0).contiguous() for frame in make_frames(SIZE, CPU))
    sources = [(frame0, frame1)[number % 2] for number in range(17)]
    positions = multiples(Fraction(16, rate), len(sources))
    return lambda: sum(1 for _ in Engine(network, CPU).run(sources, positions))  # type: ignore[arg-type]


def four_times(network: ScaledAMT, *, together: bool) -> Callable[[], int]:
    """Makes the three frames at a quarter, a half and three quarters of a pair."""
    frame0, frame1 = (network.padding.pad(frame) for frame in make_frames(SIZE, CPU))
    times = [torch.tensor([quarter / 4]) for quarter in (1, 2, 3)]

    def make() -> int:
        pair = network.open_pair(frame0, frame1) if together else None
        made: list[Tensor] = [network.frame_at(pair or network.open_pair(frame0, frame1), time) for time in times]
        return len(made)

    return make


def main() -> None:
    parser = argparse.ArgumentParser(
        "benchmark rates", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write-docs", action="store_true")
    arguments = parser.parse_args()
    network = make_amt("AMT-S", CPU, torch.float32)
    carried = ScaledAMT(network, 1, carried=True)
    work = {
        "16 to 64, carried": one_second(carried, 64),
        "16 to 60, carried": one_second(carried, 60),
        "16 to 64, halved": one_second(network, 64),
        "16 to 60, halved": one_second(network, 60),
        "4x of a pair": four_times(carried, together=True),
        "4x of a pair, three calls": four_times(carried, together=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    with torch.inference_mode():
        for _ in range(TURNS + 1):
            for name, make in work.items():
                started = time.perf_counter()
                make()
                seconds[name].append(time.perf_counter() - started)
    took = {name: statistics.median(all_of_it[1:]) for name, all_of_it in seconds.items()}
    lines = table(took)
    print("\n".join(lines))
    if arguments.write_docs:
        insert(PAGE, "performance: rates", "\n".join(lines))


def table(took: Mapping[str, float]) -> list[str]:
    rows = []
    for work, seconds in took.items():
        ratios = [f"{seconds / took[beside]:.2f} of *{beside}*" for made, beside in RATIOS if made == work]
        rows.append(f"| {work} | {seconds:.2f} | {', '.join(ratios)} |")
    return [machine("cpu"), "", "| work | seconds | ratios |", "|---|---:|---|", *rows]


if __name__ == "__main__":
    main()
