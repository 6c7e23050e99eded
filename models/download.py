"""Fetches published checkpoints, so that a file under its own name is always whole and the right one.

The transfer itself is huggingface_hub's: HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN, proxies and mirrors work as everywhere.
It runs as a process of its own, because a thread that waits for a silent network can't be stopped, and a person who
presses "Cancel" should not wait for its timeouts.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from .catalogue import Record
from .digests import sha256
from .errors import CheckpointError, DiskFullError, DownloadError, NotPublishedError, OfflineError, WrongDigestError
from .loading import load_checkpoint

logger = logging.getLogger(__name__)

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes that are here and the bytes there will be (None: unknown), several times a second even while
nothing arrives. Whatever it raises ends the download."""

STALL_SECONDS = 600.0
"""Longer than huggingface_hub's own timeouts with all their repetitions; a person can interrupt earlier."""

_POLL_SECONDS = 0.1
_WORKPLACE = ".amt-download-"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def download(
    record: Record, folder: Path, *, progress: Progress | None = None, stall_seconds: float = STALL_SECONDS
) -> Path:
    """Downloads a checkpoint into the folder, which is made if need be, and returns its path; a file of that name
    that is there already is left alone.

    On any failure nothing stays behind; what a killed process left is removed by the next download into the folder.
    Raises DownloadError (see `errors` for its kinds), WrongDigestError, and whatever `progress` raises.
    """
    if record.repo is None:
        raise DownloadError(f"{record.name} comes with the pack and is missing: install the pack anew.")
    target = folder / record.name
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_room(record, folder)
        with _workplace(folder) as work:
            file = _transfer(record, work, progress or _silent, stall_seconds)
            _verify(record, file, target)
            _move(file, target)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _disk_full(record, folder, str(error)) from error
        raise DownloadError(
            f"{record.name} could not be put into {folder}: {error}. Check that the folder can be written to, "
            f"or {_by_hand(record, target)}."
        ) from error
    return target


def _silent(done: int, total: int | None) -> None:
    pass


def _by_hand(record: Record, target: Path) -> str:
    return f"download {record.url} by hand and put it at {target}"


# Where files are while they come


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A folder in the destination folder (renaming works within one file system only), gone afterwards.

    Its lock tells downloads that run at the same time from leftovers of killed ones.
    """
    _sweep(folder)
    work = Path(tempfile.mkdtemp(prefix=_WORKPLACE, dir=folder))
    lock = FileLock(work / "lock")
    try:
        with suppress(NotImplementedError):  # network drives without locks: leftovers stay there
            lock.acquire()
        yield work
    finally:
        lock.release()
        shutil.rmtree(work, ignore_errors=True)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{_WORKPLACE}*/lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except (OSError, NotImplementedError):  # in use
            continue
        lock.release()
        logger.info("Removing what an interrupted download left: %s", path.parent)
        shutil.rmtree(path.parent, ignore_errors=True)


def _check_room(record: Record, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if record.bytes is not None and free < record.bytes:
        raise _disk_full(record, folder, f"{free} bytes are free")


def _disk_full(record: Record, folder: Path, reason: str) -> DiskFullError:
    size = f"{record.bytes} bytes" if record.bytes else "its size is unknown, about 12 MB"
    return DiskFullError(
        f"No room for {record.name} ({size}) in {folder}: {reason}. Nothing was kept. Free some space, or name another "
        "folder for models in ComfyUI's extra_model_paths.yaml."
    )


# The transfer


def _transfer(record: Record, work: Path, progress: Progress, stall_seconds: float) -> Path:
    """Runs `transfer.py` and returns the file that it fetched."""
    script = Path(__file__).with_name("transfer.py")
    assert record.repo is not None
    environment = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_SYMLINKS_WARNING": "1"}
    logger.info("Downloading %s from %s to %s", record.name, record.repo, work.parent)
    # Not into the folder: its disk may be full.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, str(script), record.repo, record.name, record.revision, record.sha256 or "", str(work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        try:
            _watch(record, process, work, progress, stall_seconds)
        finally:
            process.kill()
            output, _ = process.communicate()
        log.seek(0)
        result = _result(output, log.read(), process.returncode)
    if "file" not in result:
        raise _failure(record, work.parent, result["errors"])
    return Path(result["file"]).rename(work / record.name)


def _result(output: bytes, log: bytes, code: int) -> dict[str, Any]:
    try:
        return json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):  # it died before it could say
        message = log.decode("utf-8", "replace").strip()[-500:] or f"it ended with code {code}"
        return {"errors": [{"kinds": [], "errno": None, "message": message}]}


def _watch(
    record: Record, process: subprocess.Popen[bytes], work: Path, progress: Progress, stall_seconds: float
) -> None:
    """Reports progress until the process ends by itself; raises where nothing arrives for too long."""
    done, since = 0, time.monotonic()
    while process.poll() is None:
        size = _size(work)
        if size != done:
            done, since = size, time.monotonic()
        elif time.monotonic() - since > stall_seconds:
            raise DownloadError(
                f"The download of {record.name} stalled: {done} bytes came, then none for {stall_seconds:.0f} seconds. "
                "Nothing was kept. Run again, set HF_ENDPOINT to a mirror, or "
                f"{_by_hand(record, work.parent / record.name)}."
            )
        progress(min(done, record.bytes or done), record.bytes)
        time.sleep(_POLL_SECONDS)


def _size(work: Path) -> int:
    """Bytes that have arrived. Measured on the disk: so it is the same for every version and transport of the hub."""
    total = 0
    for place, _, files in os.walk(work):
        for file in files:
            try:
                status = os.lstat(os.path.join(place, file))
            except OSError:  # renamed meanwhile
                continue
            if stat.S_ISREG(status.st_mode):  # not links: what they lead to is counted
                total += status.st_size
    return total


def _failure(record: Record, folder: Path, errors: list[dict[str, Any]]) -> DownloadError:
    """The error for what huggingface_hub said, which differs between its versions in words and in nesting."""
    kinds = {kind for error in errors for kind in error["kinds"]}
    reason = " ".join(str(errors[-1]["message"] or errors[-1]["kinds"]).split())[:500]
    by_hand = _by_hand(record, folder / record.name)
    if any(error["errno"] in _NO_ROOM for error in errors):
        return _disk_full(record, folder, reason)
    if "OfflineModeIsEnabled" in kinds or _offline():
        return OfflineError(
            f"{record.name} is not here, and huggingface_hub is in offline mode (HF_HUB_OFFLINE). "
            f"Unset that, or {by_hand}."
        )
    if kinds & {"ImportError"}:
        return DownloadError(f"{record.name} could not be downloaded without huggingface_hub ({reason}): {by_hand}.")
    if kinds & {"RepositoryNotFoundError", "RevisionNotFoundError", "RemoteEntryNotFoundError"} or (
        "EntryNotFoundError" in kinds and "LocalEntryNotFoundError" not in kinds
    ):
        return NotPublishedError(
            f"{_endpoint()} does not give out {record.name} of {record.repo} ({reason}). The file may have moved, or "
            f"the mirror lacks it: check HF_ENDPOINT and HF_TOKEN, or {by_hand}."
        )
    return DownloadError(
        f"{record.name} could not be downloaded from {_endpoint()}: {reason}. Nothing was kept. Check the connection "
        f"and run again, set HF_ENDPOINT to a mirror, or {by_hand}."
    )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def _offline() -> bool:
    return any(
        os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


# The file


def _verify(record: Record, file: Path, target: Path) -> None:
    """Raises unless it is the published file, or, where no digest of that is known, at least a sound checkpoint."""
    digest, size = sha256(file), file.stat().st_size
    if record.sha256 is None:
        try:
            load_checkpoint(file, (record,))
        except CheckpointError as error:
            raise DownloadError(
                f"What {_endpoint()} sent as {record.name} is not usable and was not kept. Check HF_ENDPOINT, or "
                f"{_by_hand(record, target)}. ({error})"
            ) from error
        logger.info("%s: SHA-256 %s, %d bytes (no published digest to compare with)", record.name, digest, size)
        return
    if digest == record.sha256:
        return
    difference = (
        f"What {_endpoint()} sent as {record.name} is not the file that the catalogue knows: SHA-256 {digest} "
        f"({size} bytes), expected {record.sha256} ({record.bytes} bytes)."
    )
    if record.pinned:
        raise WrongDigestError(
            f"{difference} Nothing was kept. Run again, check HF_ENDPOINT and proxies, or {_by_hand(record, target)}."
        )
    raise WrongDigestError(
        f"{difference} Nothing was kept. The expected digest has a single source, so it may be the one that is wrong: "
        f"if you trust where the file comes from, {_by_hand(record, target)}; there it is used, with a warning."
    )


def _move(file: Path, target: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
    try:
        os.replace(file, target)
    except OSError:
        # Windows does not replace a file that is open: another process was first, with the same verified file.
        if not (target.is_file() and sha256(target) == sha256(file)):
            raise
