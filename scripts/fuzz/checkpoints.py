"""Loads damaged files of weights, each of which must give the network or a CheckpointError.

    python scripts/fuzz checkpoints --files 2000 --seed 0

A file that takes the process down, takes longer than a minute, or raises anything else is a fault: it is kept, and
the exit code is 1. The files are those of `torch.save` in both formats and of safetensors, some with training state.
"""

from __future__ import annotations

import argparse
import collections
import random
import tempfile
from pathlib import Path

import _pack  # noqa: F401
import torch
from amt_frame_interpolation.amt.network import AMT, S
from amt_frame_interpolation.models.errors import CheckpointError
from amt_frame_interpolation.models.loading import load_checkpoint
from safetensors.torch import save_file

from fuzz.harness import run

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


def judge(path: Path, _seed: int, _number: int) -> str:
    try:
        load_checkpoint(path)
    except CheckpointError as error:
        str(error).encode()
        return type(error).__name__
    return "loaded"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = originals(Path(folder))
    run(
        lambda chance, path: path.write_bytes(damaged(files, chance)),
        judge,
        "damaged.pth",
        arguments.files,
        arguments.seed,
    )
