"""Files on their way to fal.ai: inside the request if they are small, else as uploads that expire."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from threading import Event
from urllib.parse import urlsplit

from fal_client import StorageSettings

from .errors import RemoteError, StoppedError
from .fal_errors import failure
from .fal_session import GuardedClient
from .fetch import MIB
from .request import File

EXPIRY = 24 * 3600
"""Seconds that fal keeps uploads and results, which anybody who knows their address can read."""
INLINE_BYTES = 64 * 1024
"""Files of up to this size in all are sent as data URIs inside the request, and are never public."""
MAX_BYTES = 512 * MIB
MAX_FILE_BYTES = 100 * MIB
"""Larger files are refused: the library would split them and send the parts, with the token, to a host that an answer
names."""


def deliver(
    client: GuardedClient,
    files: Sequence[File],
    secrets: tuple[str, ...],
    report: Callable[[str, float], None],
    stop: Event,
) -> list[str]:
    """Where the endpoint finds each file: a data URI, or the address of an upload.

    Raises:
        RemoteError: the files are too large, or an upload failed.
        StoppedError: `stop` was set between two uploads.
    """
    sizes = [len(file.data) for file in files]
    if sum(sizes) <= INLINE_BYTES:
        return [f"data:{file.content_type};base64,{base64.b64encode(file.data).decode()}" for file in files]
    for size, most in ((max(sizes), MAX_FILE_BYTES), (sum(sizes), MAX_BYTES)):
        if size > most:
            raise RemoteError(
                f"{size / MIB:.0f} MiB to upload: expected at most {most // MIB}. Nothing was sent. "
                "Use fewer or smaller frames, or a shorter video"
            )
    urls: list[str] = []
    for number, file in enumerate(files):
        report(f"uploading {number + 1} of {len(files)}", 0.3 * number / len(files))
        if stop.is_set():
            raise StoppedError
        try:
            url = client.upload(
                file.data,
                file.content_type,
                file.name,
                fallback_repository=[],  # the fallback would send the key to a storage host
                lifecycle=StorageSettings(expires_in=EXPIRY),
            )
        except Exception as error:
            raise failure("uploading to fal.ai", error, secrets) from None
        if not isinstance(url, str) or urlsplit(url).scheme != "https":
            raise RemoteError("fal.ai took an upload but did not say where it is. Run the workflow again")
        urls.append(url)
    return urls
