"""The result of a finished fal.ai job: its file is found in the answer, and fetched from fal's hosts only."""

from __future__ import annotations

from threading import Event
from typing import Any

from yarl import URL

from .errors import RemoteError
from .fetch import MIB, Rules, fetch_all

_HOSTS = ("fal.media", "fal.ai", "fal.run")


def is_fal_file(url: URL) -> bool:
    """Addresses with https and the usual port, on fal's own hosts or in fal's folder at Google's storage."""
    host = url.raw_host or ""
    ours = any(host == known or host.endswith("." + known) for known in _HOSTS)
    bucket = host == "storage.googleapis.com" and url.path.startswith("/falserverless/")
    return url.scheme == "https" and url.port == 443 and (ours or bucket)


RULES = Rules(allowed=is_fal_file, max_bytes=512 * MIB, seconds=900, stall=20)


def video_url(answer: Any) -> str:
    """The `video.url` of the endpoint's answer. Its content type and its file name are not reliable.

    Raises:
        RemoteError: the answer has another form.
    """
    video = answer.get("video") if isinstance(answer, dict) else None
    url = video.get("url") if isinstance(video, dict) else None
    if not isinstance(url, str) or not url:
        raise RemoteError(
            'fal.ai finished the job, but its answer names no video (expected {"video": {"url": ...}}). The result '
            "may be on your dashboard on fal.ai; update this pack before you run it again"
        )
    return url


def download(answer: Any, *, stop: Event, rules: Rules = RULES) -> bytes:
    """Fetches the video that the answer names, without key or token. Raises RemoteError."""
    [data] = fetch_all({"the result": video_url(answer)}, rules, stop=stop)
    return data
