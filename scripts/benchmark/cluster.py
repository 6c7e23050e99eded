"""What a cluster costs beside its work: one, two and four workers, with a network that takes a fixed time a frame.

python scripts/benchmark cluster --frames 960 --seconds 0.25

Each worker is a machine of Ray's own test cluster, with one core. The network sleeps, so that workers do not share
the cores of this machine. Prints the time with each number of workers, and how many times as fast as one they are; with
and without the time until the first frame, which a video of any length takes once.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
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


def measure(workers: int, source: Path, seconds: float) -> tuple[float, float]:
    """Seconds in all, and from the first frame on."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(workers):
        cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = str(cluster.address)
    first: list[float] = []

    def report(progress: Progress) -> None:
        if progress.done and not first:
            first.append(time.perf_counter())

    try:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            request = Request(VideoFile(str(source)), Task(Plan(1, "hold"), SourceAnalysis("hold")), Paced(seconds))
            interpolate_over_ray(request, Path(folder) / "video.mp4", lambda: None, report)
        end = time.perf_counter()
    finally:
        cluster.shutdown()
    return end - start, end - first[0]


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
                f"from the first frame on {working:.1f} s, {base[1] / working:.2f} times"
            )
