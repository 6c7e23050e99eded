"""SHA-256 of files, remembered as long as a file stays the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

_known: dict[str, tuple[tuple[int, int], str]] = {}


def sha256(path: Path) -> str:
    """The file's digest in hexadecimal; read again only when its size or time of change differs."""
    status = path.stat()
    version = (status.st_size, status.st_mtime_ns)
    known = _known.get(str(path))
    if known is None or known[0] != version:
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        _known[str(path)] = known = (version, digest.hexdigest())
    return known[1]
