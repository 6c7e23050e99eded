"""Fetches published checkpoints, so that a file under its own name is always whole and the right one."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

from filelock import FileLock

from ..printable import printable
from ..waiting import Background
from . import hub
from .catalogue import Record
from .digests import sha256
from .errors import CheckpointError, DownloadError, WrongDigestError
from .hub import Report, disk_full, how_by_hand
from .loading import load_checkpoint

logger = logging.getLogger(__name__)

STALL_SECONDS = 600.0
"""Longer than huggingface_hub's own timeouts with all their repetitions; a person can interrupt earlier."""

_WORKPLACE = ".amt-download-"


def download(
    record: Record, folder: Path, *, progress: Report | None = None, stall_seconds: float = STALL_SECONDS
) -> Path:
    """Downloads a checkpoint into the folder, which is made if need be, and returns its path; a file of that name
    that is there already is left alone.

    On any failure nothing stays behind; what a killed process left is removed by the next download into the folder.

    Args:
        progress: called at once and then many times a second even while nothing arrives; whatever it raises ends the
            download.

    Raises:
        DownloadError: see `errors` for its kinds.
        WrongDigestError: it is another file than the published one.
    """
    if record.repo is None:
        raise DownloadError(f"{record.name} comes with the pack and is missing: install the pack anew.")
    target = folder / record.name
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if record.bytes is not None and free < record.bytes:
            raise disk_full(record, folder, f"{free} bytes are free")
        with _workplace(folder) as work:
            file = _transfer(record, work, progress or (lambda done, total: None), stall_seconds)
            _verify(record, file, folder)
            _move(file, target)
    except OSError as error:
        if error.errno in hub.NO_ROOM:
            raise disk_full(record, folder, str(error)) from None
        raise DownloadError(
            f"{record.name} could not be put into {folder}: {error}. Check that the folder can be written to, "
            f"or {how_by_hand(record, folder)}."
        ) from None
    return target


def _transfer(record: Record, work: Path, progress: Report, stall_seconds: float) -> Path:
    """Fetches the file while it reports progress, and raises where nothing arrives for too long."""
    arrived: tuple[int, int | None] = (0, record.bytes)
    since = time.monotonic()

    def report(done: int, total: int | None) -> None:
        nonlocal arrived, since
        total = record.bytes or total
        arrived, since = (min(done, total or done), total), time.monotonic()

    def check() -> None:
        progress(*arrived)
        if time.monotonic() - since > stall_seconds:
            raise DownloadError(
                f"The download of {record.name} stalled: {arrived[0]} bytes came, then none for {stall_seconds:.0f} "
                "seconds. Nothing was kept. Run again, set HF_ENDPOINT to a mirror, or "
                f"{how_by_hand(record, work.parent)}."
            )

    def fetch(stop: Event) -> Path:
        try:
            return hub.fetch(record, work, stop, report)
        except Exception as error:
            raise hub.failure(record, work.parent, error) from None
        finally:
            if stop.is_set():  # what came since nobody waits
                shutil.rmtree(work, ignore_errors=True)

    logger.info("Downloading %s from %s to %s", record.name, record.repo, printable(work.parent))
    check()
    return Background(fetch, "amt-download").result(check)


# Where files are while they come


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A folder in the destination folder (renaming works within one file system only), gone afterwards.

    Its lock tells downloads that run at the same time, in this process or another, from leftovers of killed ones.
    """
    _sweep(folder)
    while True:
        work = Path(tempfile.mkdtemp(prefix=_WORKPLACE, dir=folder))
        lock = FileLock(work / "lock")
        # Another process may sweep the folder before it is locked: then this one takes another. A network drive may
        # have no locks: leftovers stay there.
        with suppress(FileNotFoundError, FileExistsError):
            with suppress(NotImplementedError):
                lock.acquire()
            if (work / "lock").exists() or not lock.is_locked:
                break
        lock.release()
    try:
        yield work
    finally:
        lock.release()
        shutil.rmtree(work, ignore_errors=True)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{_WORKPLACE}*"):
        lock = FileLock(path / "lock")
        try:
            lock.acquire(timeout=0)
        except (OSError, NotImplementedError):  # in use
            continue
        logger.info("Removing what an interrupted download left: %s", printable(path))
        shutil.rmtree(path, ignore_errors=True)  # while the lock is held: who waits for it finds the folder gone
        lock.release()
        if os.name == "nt":  # where an open file can't be removed, which now goes for those of others
            shutil.rmtree(path, ignore_errors=True)


# The file


def _verify(record: Record, file: Path, folder: Path) -> None:
    """Raises unless it is the published file, or, where no digest of that is known, at least a sound checkpoint."""
    digest, size = sha256(file), file.stat().st_size
    by_hand = how_by_hand(record, folder)
    if record.sha256 is None:
        try:
            load_checkpoint(file, (record,))
        except CheckpointError as error:
            raise DownloadError(
                f"What {hub.endpoint()} sent as {record.name} is not usable and was not kept. Check HF_ENDPOINT, or "
                f"{by_hand}. ({error})"
            ) from None
        logger.info("%s: SHA-256 %s, %d bytes (no published digest to compare with)", record.name, digest, size)
        return
    if digest == record.sha256:
        return
    difference = (
        f"What {hub.endpoint()} sent as {record.name} is not the file that the catalogue knows: SHA-256 {digest} "
        f"({size} bytes), expected {record.sha256} ({record.bytes} bytes)."
    )
    if record.pinned:
        raise WrongDigestError(
            f"{difference} Nothing was kept. Run again, check HF_ENDPOINT and proxies, or {by_hand}."
        )
    raise WrongDigestError(
        f"{difference} Nothing was kept. The expected digest has a single source, so it may be the one that is wrong: "
        f"if you trust where the file comes from, {by_hand}; there it is used, with a warning."
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
