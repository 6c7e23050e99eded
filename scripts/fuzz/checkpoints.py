"""Loads damaged files of weights, each of which must give the network or a CheckpointError.

    python scripts/fuzz checkpoints --files 2000 --seed 0

A file that takes the process down, takes longer than a minute, or raises anything else is a fault: it is kept, and
the exit code is 1. The files are those of `torch.save` in both formats and of safetensors, some with training state.
"""

from __future__ import annotations

import argparse
import collections
import logging
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import _pack  # noqa: F401
import torch
from amt_frame_interpolation.amt.network import AMT, S
from amt_frame_interpolation.models.errors import CheckpointError
from amt_frame_interpolation.models.loading import load_checkpoint
from safetensors.torch import save_file

SECONDS = 60
EDGE = 1 << 16
"""Bytes at both ends of a file, where what describes it lies: most damage is done there."""


def originals(folder: Path) -> list[bytes]:
    torch.manual_seed(0)
    weights = {name: value.half() for name, value in AMT(S).state_dict().items()}
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))])
    content = {"state_dict": weights, "optimiser": optimiser.state_dict(), "note": collections.deque([1, "é", None])}
    path = folder / "original"
    files = []
    for save in (
        lambda: torch.save(weights, path),
        lambda: torch.save(content, path),
        lambda: torch.save(content, path, pickle_protocol=4),
        lambda: torch.save(weights, path, _use_new_zipfile_serialization=False),
        lambda: torch.save(content, path, _use_new_zipfile_serialization=False, pickle_protocol=4),
        lambda: save_file(weights, path, {"made_by": "amt-frame-interpolation", "times": "any"}),
        lambda: save_file(weights, path),
    ):
        save()
        files.append(path.read_bytes())
    return files


def damaged(files: list[bytes], chance: random.Random) -> bytes:
    """One of the files with one to four changes."""
    content = bytearray(chance.choice(files))
    for _ in range(chance.randint(1, 4)):
        place, other = _place(len(content), chance), _place(len(content), chance)
        count = chance.choice((1, 2, 4, 8, 64, 4096))
        part = bytes(content[place : place + count])
        content[place : place + count] = chance.choice(
            (
                bytes(byte ^ (1 << chance.randrange(8)) for byte in part),
                chance.randbytes(len(part)),
                chance.choice((b"\x00", b"\x7f", b"\xff")) * len(part),
                b"",
                part * chance.randint(2, 200),
                part + chance.choice(files)[place : place + 4096],
                bytes(content[other : other + count]),
            )
        )
        if chance.random() < 0.1:
            del content[_place(len(content), chance) :]
    return bytes(content)


def _place(length: int, chance: random.Random) -> int:
    edge = min(EDGE, length)
    return chance.choice((chance.randrange(edge), length - 1 - chance.randrange(edge), chance.randrange(length)))


def _load_all(connection: Connection) -> None:
    """In a process of its own: for each path that comes, what became of it."""
    torch.set_num_threads(1)
    logging.disable()
    connection.send("ready")  # importing torch takes longer than any file may
    while path := connection.recv():
        try:
            load_checkpoint(path)
            outcome = "loaded"
        except CheckpointError as error:
            str(error).encode()
            outcome = type(error).__name__
        except BaseException as error:
            outcome = f"FAULT: {type(error).__name__}: {error}"
        connection.send((outcome, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10))


def _start() -> tuple[SpawnProcess, Any]:
    connection, other = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_load_all, args=(other,), daemon=True)
    process.start()
    other.close()
    connection.recv()
    return process, connection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes: collections.Counter[str] = collections.Counter()
    longest, memory = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        files = originals(Path(folder))
        path = Path(folder, "damaged.pth")
        process, connection = _start()
        for number in range(arguments.files):
            path.write_bytes(damaged(files, random.Random(f"{arguments.seed} {number}")))
            start = time.monotonic()
            connection.send(path)
            try:
                outcome, memory = connection.recv() if connection.poll(SECONDS) else ("FAULT: too long", memory)
            except EOFError:
                process.join()
                outcome = f"FAULT: the process died ({process.exitcode})"
            longest = max(longest, time.monotonic() - start)
            outcomes[outcome] += 1
            if outcome.startswith("FAULT"):
                kept = Path(f"fault-{arguments.seed}-{number}.pth")
                kept.write_bytes(path.read_bytes())
                print(f"{kept}: {outcome}", flush=True)
                process.kill()
                process, connection = _start()
        connection.send(None)
    for outcome, count in outcomes.most_common():
        print(f"{count:6}  {outcome}")
    print(f"longest {longest:.1f} s, memory at most {memory} MiB")
    sys.exit(any(outcome.startswith("FAULT") for outcome in outcomes))
