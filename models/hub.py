"""One file from the Hugging Face hub, by huggingface_hub: HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN, proxies and mirrors
work as everywhere in ComfyUI."""

from __future__ import annotations

import errno
import inspect
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import tqdm

from ..printable import printable
from .catalogue import Record
from .digests import sha256
from .errors import DiskFullError, DownloadError, NotPublishedError, OfflineError

Report = Callable[[int, "int | None"], None]
"""Called with the bytes that are here and the bytes there will be (None: unknown)."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

PIECE = 1 << 18
"""Bytes. The library's own pieces of 10 MB are a whole small checkpoint, of which no progress would be seen."""


def fetch(record: Record, folder: Path, stop: Event, report: Report) -> Path:
    """Puts the file into the folder, and some of the library's own beside it. Returns its path.

    Args:
        stop: ends the transfer when the next piece arrives.
        report: called in this thread.

    Raises:
        Exception: the library's; `failure` says what each means.
    """
    assert record.repo is not None
    # Somebody may have it already, and offline that is the only way.
    cached = try_to_load_from_cache(record.repo, record.name, revision=record.revision)
    if isinstance(cached, str) and record.sha256 in (None, sha256(Path(cached))):
        return Path(shutil.copyfile(cached, folder / record.name))
    constants.DOWNLOAD_CHUNK_SIZE = min(PIECE, constants.DOWNLOAD_CHUNK_SIZE)
    options: dict[str, Any] = {}
    if "tqdm_class" in inspect.signature(hf_hub_download).parameters:  # older versions tell nobody how far they are
        options["tqdm_class"] = _bar(stop, report)
    # A cache of its own: a bad file in the shared one would be taken.
    options |= {"local_dir": folder, "cache_dir": folder}
    return Path(hf_hub_download(record.repo, record.name, revision=record.revision, **options))


def _bar(stop: Event, report: Report) -> type[tqdm]:
    arrived: dict[tqdm, int] = {}

    class Bar(tqdm):
        """The library's progress bar, not shown but told. It may make two: for what was sent, and what was written."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"disable": True})

        def update(self, n: float | None = 1) -> None:
            if stop.is_set():
                raise InterruptedError("nobody waits for this file any more")
            arrived[self] = arrived.get(self, 0) + int(n or 0)
            report(max(arrived.values()), int(self.total) if self.total else None)

    return Bar


def failure(record: Record, folder: Path, error: Exception) -> DownloadError:
    """The error for what the library says, whose versions differ in words and in nesting."""
    chain = list(_chain(error))
    reason = printable(" ".join(str(chain[-1]).split()) or type(chain[-1]).__name__, 500)
    by_hand = how_by_hand(record, folder)

    def has(*kinds: type[Exception]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if any(isinstance(link, OSError) and link.errno in NO_ROOM for link in chain):
        return disk_full(record, folder, reason)
    if has(OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        return OfflineError(
            f"{record.name} is not here, and huggingface_hub is in offline mode (HF_HUB_OFFLINE). "
            f"Unset that, or {by_hand}."
        )
    if has(RepositoryNotFoundError, RevisionNotFoundError) or (
        has(EntryNotFoundError) and not has(LocalEntryNotFoundError)
    ):
        return NotPublishedError(
            f"{endpoint()} does not give out {record.name} of {record.repo} ({reason}). The file may have moved, or "
            f"the mirror lacks it: check HF_ENDPOINT and HF_TOKEN, or {by_hand}."
        )
    return DownloadError(
        f"{record.name} could not be downloaded from {endpoint()}: {reason}. Nothing was kept. Check the connection "
        f"and run again, set HF_ENDPOINT to a mirror, or {by_hand}."
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def endpoint() -> str:
    return constants.ENDPOINT


def how_by_hand(record: Record, folder: Path) -> str:
    return f"download {record.url} by hand and put it at {folder / record.name}"


def disk_full(record: Record, folder: Path, reason: str) -> DiskFullError:
    size = f"{record.bytes} bytes" if record.bytes else "its size is unknown, about 12 MB"
    return DiskFullError(
        f"No room for {record.name} ({size}) in {folder}: {reason}. Nothing was kept. Free some space, or name another "
        "folder for models in ComfyUI's extra_model_paths.yaml."
    )
