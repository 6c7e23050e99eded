"""Gives files to a process of its own, one after the other, and counts what becomes of them."""

from __future__ import annotations

import collections
import logging
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

SECONDS = 60
"""Longest for a file."""
FAULT = "FAULT"

Judge = Callable[[Path, int, int], str]
"""The file, the seed and its number -> what became of it. An exception is a fault."""


def run(make: Callable[[random.Random, Path], object], judge: Judge, name: str, files: int, seed: int) -> None:
    """Makes the files, has them judged, and prints how often which outcome came. Ends the program, with 1 after faults.

    make: writes a file to a path. name: that of the files. What ends in a fault is kept in the working folder.
    """
    outcomes: collections.Counter[str] = collections.Counter()
    longest, memory = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        process, connection = _start(judge)
        for number in range(files):
            make(random.Random(f"{seed} {number}"), path)
            start = time.monotonic()
            connection.send((path, seed, number))
            try:
                outcome, memory = connection.recv() if connection.poll(SECONDS) else (f"{FAULT}: too long", memory)
            except EOFError:
                process.join()
                outcome = f"{FAULT}: the process died ({process.exitcode})"
            longest = max(longest, time.monotonic() - start)
            outcomes[outcome] += 1
            if outcome.startswith(FAULT):
                kept = Path(f"fault-{seed}-{number}{path.suffix}")
                kept.write_bytes(path.read_bytes())
                print(f"{kept}: {outcome}", flush=True)
                process.kill()
                process, connection = _start(judge)
        connection.send(None)
    for outcome, count in outcomes.most_common():
        print(f"{count:6}  {outcome}")
    print(f"longest {longest:.1f} s, memory at most {memory} MiB")
    sys.exit(any(outcome.startswith(FAULT) for outcome in outcomes))


def _start(judge: Judge) -> tuple[SpawnProcess, Any]:
    connection, other = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_judge_all, args=(judge, other), daemon=True)
    process.start()
    other.close()
    connection.recv()
    return process, connection


def _judge_all(judge: Judge, connection: Connection) -> None:
    torch.set_num_threads(1)
    logging.disable()
    connection.send("ready")  # importing torch takes longer than any file may
    while given := connection.recv():
        try:
            outcome = judge(*given)
        except BaseException as error:
            outcome = f"{FAULT}: {type(error).__name__}: {error}"
        connection.send((outcome, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10))
