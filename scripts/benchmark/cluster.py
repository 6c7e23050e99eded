"""What a cluster costs beside its work: one, two and four workers, with a network that takes a fixed time a frame.

python scripts/benchmark cluster --frames 960 --seconds 0.25

Each worker is a machine of Ray's own test cluster, with one core. The network sleeps, so that workers do not share
the cores of this machine. Prints the time with each number of workers, and how many times as fast as one they are; with
and without the time until the first frame, which a video of any length takes once. At the end a run is cancelled.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import _pack  # noqa: F401  (makes the pack importable)
from amt_frame_interpolation.amt.timeline import Plan
from amt_frame_interpolation.amt.timeline.analysis import SourceAnalysis
from amt_frame_interpolation.cluster.head import Progress, interpolate_over_ray
from amt_frame_interpolation.cluster.paced import Paced
from amt_frame_interpolation.cluster.request import Request
from amt_frame_interpolation.video.file import VideoFile
from amt_frame_interpolation.video.task import Task

from benchmark.video import write_clip


class Cancelled(Exception):
    """The person who waits has had enough."""


@contextmanager
def cluster_of(workers: int) -> Iterator[None]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(workers):
        cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = str(cluster.address)
    try:
        yield
    finally:
        cluster.shutdown()


def run(source: Path, seconds: float, check: Callable[[], None], first: list[float]) -> None:
    """Interpolates the source; `first` gets the time of the first frame."""

    def report(progress: Progress) -> None:
        if progress.done and not first:
            first.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        request = Request(VideoFile(str(source)), Task(Plan(1, "hold"), SourceAnalysis("hold")), Paced(seconds))
        interpolate_over_ray(request, Path(folder) / "video.mp4", check, report)


def measure(workers: int, source: Path, seconds: float) -> tuple[float, float]:
    """Seconds in all, and from the first frame on."""
    first: list[float] = []
    with cluster_of(workers):
        start = time.perf_counter()
        run(source, seconds, lambda: None, first)
        end = time.perf_counter()
    return end - start, end - first[0]


def measure_cancel(workers: int, source: Path, seconds: float) -> float:
    """Seconds from the moment when a run with frames is cancelled until it has ended, and the workers are idle."""
    import ray

    first: list[float] = []
    cancelled = 0.0

    def check() -> None:
        nonlocal cancelled
        if first and time.perf_counter() > first[0] + 2:
            cancelled = time.perf_counter()
            raise Cancelled

    with cluster_of(workers):
        with suppress(Cancelled):
            run(source, seconds, check, first)
        returned = time.perf_counter() - cancelled
        print(f"cancelled: ended after {returned:.2f} s", flush=True)
        ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level=logging.ERROR)
        while ray.available_resources().get("CPU", 0) < workers:
            time.sleep(0.05)
        freed = time.perf_counter() - cancelled
        ray.shutdown()
    return freed


def main() -> None:
    parser = argparse.ArgumentParser("benchmark cluster", description=__doc__)
    parser.add_argument("--frames", type=int, default=960, help="of the source; as many are made")
    parser.add_argument("--seconds", type=float, default=0.25, help="that a frame takes")
    parser.add_argument("--workers", type=int, nargs="+", default=(1, 2, 4))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.mp4"
        write_clip(source, arguments.frames, 96, 128)
        base = None
        for workers in arguments.workers:
            whole, working = measure(workers, source, arguments.seconds)
            base = base or (whole, working)
            print(
                f"{workers} workers: {whole:.1f} s, {base[0] / whole:.2f} times as fast as {arguments.workers[0]}; "
                f"from the first frame on {working:.1f} s, {base[1] / working:.2f} times",
                flush=True,
            )
        freed = measure_cancel(max(arguments.workers), source, arguments.seconds)
        print(f"cancelled: all workers idle after {freed:.2f} s")
