"""Opens files of weights.

Three kinds: safetensors, and the two that `torch.save` writes (a zip archive since PyTorch 1.6, before that a row of
pickles followed by the tensors' memory). What a file is, is read from its content, not from its suffix.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
from torch import Tensor

from .errors import CheckpointError, DamagedCheckpointError, NotACheckpointError
from .stored import Stored, StoredTensor
from .torch_files import open_legacy, open_zip


@contextmanager
def open_stored(path: Path) -> Iterator[Stored]:
    """Opens a file of weights; its tensors can be read until the context ends.

    Raises:
        NotACheckpointError, DamagedCheckpointError: also where its tensors are read.
        OSError: the file can't be opened or read.
    """
    with _open_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(1024)
        stream.seek(0)
        try:
            if start.startswith(b"PK\x03\x04"):
                yield open_zip(stream, size)
            elif start[8:9] == b"{" and (not start.startswith(b"\x80") or _header_length(start) < size):
                yield _open_safetensors(stream, size)
            elif start.startswith(b"\x80"):
                yield open_legacy(stream, size)
            else:
                raise NotACheckpointError(_what_it_is(start))
        except (CheckpointError, MemoryError):
            raise
        except Exception as error:  # a damaged file may provoke any of a dozen kinds
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that one is a place before the file
                raise
            reason = str(error) or type(error).__name__
            raise DamagedCheckpointError(f"it is damaged or cut short ({reason})") from None


def _open_file(path: Path) -> BinaryIO:
    # Without the flag the system waits at a pipe until somebody writes into it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    raise NotACheckpointError("it is not a file but a folder, a pipe or a device")


def _what_it_is(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "it is empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        return "it is a web page that was saved under this name (the page about the file, an error or a login)"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: a note that stands for the file, which itself was not fetched"
    return f"it is no file of weights (it begins with {start[:16]!r}; expected safetensors or a file by torch.save)"


# Safetensors

MAX_HEADER = 4 << 20
"""Bytes. The names and shapes of 30,000 tensors fit in."""
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


def _header_length(start: bytes) -> int:
    return int.from_bytes(start[:8], "little")


def _open_safetensors(stream: BinaryIO, size: int) -> Stored:
    """The header is read here, and the rest by the library once it is known to be wanted.

    The library looks into a file by mapping it, and the process dies where a mapped file is cut short meanwhile.
    """
    length = _header_length(stream.read(8))
    if length > min(size, MAX_HEADER):
        raise DamagedCheckpointError(f"it is damaged or cut short: its header claims {length} bytes")
    header = json.loads(stream.read(length))
    metadata = header.pop("__metadata__", {})

    @cache
    def load() -> dict[str, Tensor]:
        stream.seek(0)
        return safetensors.torch.load(stream.read(size))

    tensors = {
        name: StoredTensor(tuple(about["shape"]), about["dtype"] in _FLOATS, partial(lambda name: load()[name], name))
        for name, about in header.items()
    }
    return Stored(tensors, tensors.keys(), metadata)
