"""What a pair with large motion costs: found in full, as `auto` finds it, and with core's RIFE 4.26.

    python scripts/benchmark motion                  1280 x 720
    python scripts/benchmark motion --write-docs     1280 x 720 and 3840 x 2160, into docs/performance.md

All in one process, in turns, after one turn that is not counted, unless a pair takes longer than 10 seconds. RIFE needs
a ComfyUI, as in `benchmark speed`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping

import _pack  # noqa: F401  (makes the pack importable)
import torch
from amt_frame_interpolation.amt.motion_scale import ScaledAMT
from documents.marks import insert
from torch import Tensor

from benchmark.speed import PAGE, SIZES, SLOW, comfyui_folder, machine
from benchmark.worker import Pair, amt, core, make_amt, make_frames

CPU = torch.device("cpu")
WAY = 20
"""The part of the width that things move: 64 pixels at 1280."""
TURNS = 3
FULL, AUTO, RIFE = "AMT-S in full", "AMT-S, auto", "RIFE"


def panned(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A smooth random texture, and the same one moved to the left."""
    height, width = size
    way = width // WAY
    wide, _ = make_frames((height, width + way), CPU)
    return wide[..., :width].contiguous(), wide[..., way:].contiguous()


def networks() -> dict[str, Pair]:
    network = make_amt("AMT-S", CPU, torch.float32)
    found = {FULL: amt(network, CPU), AUTO: amt(ScaledAMT(network, carried=True), CPU)}  # pyright: ignore[reportArgumentType]
    if comfyui := comfyui_folder():
        sys.path.insert(0, str(comfyui))
        found[RIFE] = core(RIFE, CPU, torch.float32)
    return found


def measure(pairs: Mapping[str, Pair], size: tuple[int, int]) -> dict[str, float]:
    """Median seconds."""
    frames = panned(size)
    seconds: dict[str, list[float]] = {name: [] for name in pairs}
    for _ in range(TURNS + 1):
        for name, pair in pairs.items():
            if seconds[name] and seconds[name][0] > SLOW:
                continue
            started = time.perf_counter()
            pair(*frames)
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(taken[1:] or taken) for name, taken in seconds.items()}


def row(size: tuple[int, int], took: Mapping[str, float]) -> str:
    cells = [f"{size[1]}x{size[0]}", f"{size[1] // WAY}"]
    cells += [f"{took[name]:.2f}" if name in took else "not measured" for name in (FULL, AUTO, RIFE)]
    cells += [f"{took[name] / took[AUTO]:.2f}" if name in took else "not measured" for name in (FULL, RIFE)]
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| frames | motion, pixels | AMT-S in full, s | AMT-S, `auto`, s | RIFE 4.26, s | `auto`: times as fast as in full "
    "| as RIFE |",
    "|---|---:|---:|---:|---:|---:|---:|",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        "benchmark motion", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write-docs", action="store_true")
    arguments = parser.parse_args()
    lines = [machine("cpu"), "", *HEAD]
    print("\n".join(lines), flush=True)
    pairs = networks()
    with torch.inference_mode():
        for name in ("720p", "4k") if arguments.write_docs else ("720p",):
            lines.append(row(SIZES[name], measure(pairs, SIZES[name])))
            print(lines[-1], flush=True)
    if arguments.write_docs:
        insert(PAGE, "performance: motion", "\n".join(lines))


if __name__ == "__main__":
    main()
