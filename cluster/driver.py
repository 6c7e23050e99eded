"""The process that has Ray: gives segments to the workers, and writes their files.

It tells what it does in lines of JSON on its standard output, and ends when its standard input does.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import platform
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..amt.timeline.segments import Segment
from ..printable import printable
from ..video.pipeline import borders_of
from .request import Failed, Machine, Made, Request, load
from .worker import machine, make_segment

SEGMENTS_A_WORKER = 4
"""At least, where there are so many parts: the faster ones then take more of them, and little is lost with a worker."""
LONGEST_SEGMENT = 2400
"""Frames of the output. A segment is held in memory where it is made, and where it arrives."""
MOST_CORES = 4
"""Of a worker without a GPU."""
ALL_GONE = "all machines of the Ray cluster have gone"
RETRIES = 5
"""How often a segment is made anew after its worker died."""
PROBE_SECONDS = 120
REPORT_SECONDS = 0.5
BOARD_SECONDS = 5
PATIENCE = 30
"""Seconds without any machine after which the work ends."""


class ClusterError(RuntimeError):
    """The cluster cannot do the work. The message says why."""


class Workers(NamedTuple):
    """How many workers there are, and what each of them takes."""

    count: int
    gpus: int
    cores: int

    @staticmethod
    def of(nodes: list[dict[str, Any]]) -> Workers:
        gpus = sum(int(node["Resources"].get("GPU", 0)) for node in nodes)
        if gpus:
            return Workers(gpus, 1, 1)
        cores = [int(node["Resources"].get("CPU", 0)) for node in nodes]
        least = min((count for count in cores if count), default=0)
        if not least:
            raise ClusterError("the Ray cluster has neither GPUs nor CPUs to work with. Add workers to it.")
        each = min(MOST_CORES, least)
        return Workers(sum(count // each for count in cores), 0, each)


@ray.remote(num_cpus=0)
class Board:
    """Where workers write how many frames of which segment they have made."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[str, int]] = {}

    def write(self, segment: int, node: str, frames: int) -> None:
        self._made[segment] = node, frames

    def read(self) -> dict[int, tuple[str, int]]:
        return self._made


@ray.remote(num_cpus=0)
def look(path: str | None) -> Machine:
    return machine(path)


@ray.remote(max_retries=RETRIES)
def make(request: Request, segment: Segment, threads: int, board: Any) -> tuple[str, int, Made | Failed]:
    node = f"{platform.node()} ({ray.get_runtime_context().get_node_id()[:6]})"
    frames, reported = 0, 0.0

    def shown() -> None:
        nonlocal frames, reported
        frames += 1
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            board.write.remote(segment.number, node, frames)

    made = make_segment(request, segment, threads, shown)
    return node, frames, made


def main() -> None:
    """The folder has the request, and gets the segments: 1.mp4, 2.mp4 ..."""
    folder, package = Path(sys.argv[1]), sys.argv[2]
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray and its workers print too
    threading.Thread(target=_end_with_input, daemon=True).start()

    def say(**values: Any) -> None:
        lines.write(json.dumps(values) + "\n")
        lines.flush()

    address = os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {}
    if address == "local":
        options = {"include_dashboard": False, "_temp_dir": os.environ["AMT_RAY_FOLDER"]}
    try:
        ray.init(
            address, runtime_env={"py_modules": [package]}, log_to_driver=False, logging_level=logging.ERROR, **options
        )
        request: Request = load((folder / "request").read_bytes())
        for progress in run(request, folder):
            say(**progress)
    except (ClusterError, RayError, ConnectionError, OSError, ValueError) as error:
        say(error=printable(str(error) or type(error).__name__, 1000))
    finally:
        ray.shutdown()


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def run(request: Request, folder: Path) -> Iterator[dict[str, Any]]:
    """Makes all segments, and yields what there is to tell: how far it is, and at the end what was made."""
    notes = []
    request = _with_bytes(request, notes, list(_alive().values()))
    workers = Workers.of(list(_alive().values()))  # without those that left while they were asked
    timing = request.video.timing
    frames = request.task.plan.count(timing.frames, timing.rate)
    parts = len(borders_of(timing, request.task.plan, request.part, request.task.analysis.bad)) + 1
    count = min(parts, max(SEGMENTS_A_WORKER * workers.count, math.ceil(frames / LONGEST_SEGMENT)))
    shared, board = ray.put(request), _new_board()
    task = make.options(num_gpus=workers.gpus, num_cpus=workers.cores)
    waiting = iter(range(1, count + 1))
    running: dict[Any, int] = {}
    finished: dict[int, tuple[str, int]] = {}
    length, used, seen = Fraction(0), Counter[int](), time.monotonic()
    while True:
        while len(running) < workers.count + 2 and (number := next(waiting, None)):
            running[task.remote(shared, Segment(number, count), workers.cores, board)] = number
        if not running:
            break
        ready, _ = ray.wait(list(running), timeout=REPORT_SECONDS)
        for done in ready:
            number = running.pop(done)
            node, made_frames, made = ray.get(done)
            if isinstance(made, Failed):
                raise ClusterError(f"segment {number} of {count} failed on {node}: {made.reason}")
            (folder / f"{number}.mp4").write_bytes(made.file)
            finished[number] = node, made_frames
            length += made.length
            used += made.used
            notes += [note for note in made.notes if note not in notes]
        if _alive():
            seen = time.monotonic()
        elif time.monotonic() - seen > PATIENCE:
            raise ClusterError(ALL_GONE)
        board, unfinished = _read(board)
        by_node: Counter[str] = Counter()
        for node, made_frames in (unfinished | finished).values():
            by_node[node] += made_frames
        if len(finished) == count:  # of a video whose frames take different times, the number before was an estimate
            frames = by_node.total()
        yield {"done": by_node.total(), "total": frames, "by_node": by_node}
    yield {"segments": count, "length": str(length), "notes": notes, "used": used, "workers": workers.count}


def _read(board: Any) -> tuple[Any, dict[int, tuple[str, int]]]:
    """The board to go on with, and for each segment where it is made and how many frames of it there are."""
    try:
        return board, ray.get(board.read.remote(), timeout=BOARD_SECONDS)
    except GetTimeoutError:  # it has not started yet, on a machine that has much to do
        return board, {}
    except RayError:  # its machine has gone
        return _new_board(), {}


def _new_board() -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return Board.options(scheduling_strategy=here).remote()  # pyright: ignore[reportAttributeAccessIssue]


def _alive() -> dict[str, dict[str, Any]]:
    """What Ray tells of the cluster's machines, by their ids."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _with_bytes(request: Request, notes: list[str], nodes: list[dict[str, Any]]) -> Request:
    """The request with the video's bytes in it, where not every machine can open the file by its path."""
    source = getattr(request.video, "source", None)
    path = source if isinstance(source, str) else None
    machines: list[Machine] = []
    for node in nodes:
        on_it = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        name = f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})"
        try:
            found = ray.get(look.options(scheduling_strategy=on_it).remote(path), timeout=PROBE_SECONDS)
        except RayError as error:
            if node["NodeID"] not in _alive():  # it has left the cluster meanwhile: the others do its work
                continue
            reason = printable(str(error).strip().rpartition("\n")[2], 300)
            raise ClusterError(
                f"the machine {name} of the Ray cluster cannot work: {reason}. It needs torch, numpy, einops, "
                "safetensors and av, in the versions of this machine."
            ) from error
        machines.append(found)
        if found.torch != torch.__version__:
            notes.append(f"{name} has torch {found.torch}, this machine has {torch.__version__}.")
    if not machines:
        raise ClusterError(ALL_GONE)
    if path is None or all(found.sees_file for found in machines):
        return request
    request.video.source = io.BytesIO(Path(path).read_bytes())  # pyright: ignore[reportAttributeAccessIssue]
    return request
