"""What the benchmarks measure with: a process of its own, its memory, and the time that a network works."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch


def own_process() -> ProcessPoolExecutor:
    """A process that starts empty, so that its memory is that of what it is given to do."""
    return ProcessPoolExecutor(1, get_context("spawn"))


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    import resource  # not on Windows

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024


def limit_memory() -> None:
    """So that what is too large for this machine fails by itself, and ends no other process. On Linux."""
    try:
        import resource

        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        Path("/proc/self/oom_score_adj").write_text("1000")  # the first to go, should others want memory meanwhile
    except (ImportError, OSError):
        return
    limit = int(lines["MemAvailable"].split()[0]) * 1024 * 9 // 10
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


class Clock:
    """A network as the engine sees it, and how long it has worked."""

    def __init__(self, network: Any, stand_in: Callable[..., Any] | None = None) -> None:
        """stand_in: makes the middle frame in the network's place."""
        self.padding, self.any_time = network.padding, network.any_time and stand_in is None
        self.calls, self.seconds = 0, 0.0
        self._network, self._middle = network, stand_in or network

    def __call__(self, *arguments: Any) -> Any:
        return self._timed(self._middle, arguments)

    def open_pair(self, *arguments: Any) -> Any:
        return self._timed(self._network.open_pair, arguments)

    def frame_at(self, *arguments: Any) -> Any:
        return self._timed(self._network.frame_at, arguments)

    def _timed(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        started = time.perf_counter()
        made = work(*arguments)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.calls += 1
        self.seconds += time.perf_counter() - started
        return made
