"""The one error of this folder, and how text from the other side is made fit to show."""

from __future__ import annotations

import re

from ..printable import printable

_URL = re.compile(r"(?:https?|wss?)://\S+|data:[\w/+.-]*[;,]\S+", re.IGNORECASE)
# The editor may render progress text as HTML.
_ANGLES = str.maketrans("<>", "‹›")


class RemoteError(RuntimeError):
    """Something far away failed, or a request was refused before it left.

    The message is for the user and ends up in the history and the log: it names no URL, header, key or local path.
    """


class StoppedError(RemoteError):
    """Raised in a working thread when nobody waits for its result any more."""


def plain(text: object, *, secrets: tuple[str, ...] = (), limit: int = 300) -> str:
    """One short printable line of untrusted text, without markup, addresses or secrets."""
    line = str(text)
    for secret in secrets:
        line = line.replace(secret, "(key)")
    line = " ".join(_URL.sub("(address)", line[: 20 * limit]).split())
    return printable(line, limit).translate(_ANGLES)
