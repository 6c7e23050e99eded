"""Fetches one file with huggingface_hub; run as a program of its own by `download`, never imported.

Arguments: repository, file, revision, SHA-256 or nothing, folder. Files are written below the folder only. The last
line of standard output is JSON with either the "file" or the "errors", outermost first. Ends when standard input does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any


def main(repo: str, name: str, revision: str, sha256: str, folder: Path) -> None:
    # The program that waits for the file holds the other end: no transfer outlives it, however it dies.
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
    try:
        result = {"file": str(fetch(repo, name, revision, sha256, folder))}
    except Exception as error:
        result = {"errors": list(islice(describe(error), 10))}
    # Not into the folder: its disk may be full.
    sys.stdout.write(f"\n{json.dumps(result)}\n")


def fetch(repo: str, name: str, revision: str, sha256: str, folder: Path) -> Path:
    from huggingface_hub import constants

    # Before anything else of it is imported: it writes a file in pieces of 10 MB, which is all of a small checkpoint at
    # once, and progress is measured by what is written.
    constants.DOWNLOAD_CHUNK_SIZE = 1 << 18
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    # Somebody may have it already, and offline that is the only way.
    cached = try_to_load_from_cache(repo, name, revision=revision)
    if isinstance(cached, str) and sha256 in ("", digest(cached)):
        return Path(shutil.copyfile(cached, folder / name))
    return Path(hf_hub_download(repo, name, revision=revision, cache_dir=folder)).resolve()


def digest(path: str) -> str:
    sha256 = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            sha256.update(block)
    return sha256.hexdigest()


def describe(error: BaseException | None) -> Iterator[dict[str, Any]]:
    while error is not None:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        yield {"kinds": kinds, "errno": getattr(error, "errno", None), "message": str(error)[:1000]}
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    # Python puts the script's folder first, where our modules would hide installed packages of the same name.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], Path(sys.argv[5]))
