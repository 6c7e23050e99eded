"""Text from outside, made fit to show.

Names, headers, metadata and messages come from files and servers that may be anybody's. A lone surrogate in one of
them can't be written to ComfyUI's log, and that ends the thread that runs workflows; control characters rule a
terminal; bidi controls make a name read as another one. So text passes through here where it enters.
"""

from __future__ import annotations

import unicodedata

LIMIT = 300


def printable(text: object, limit: int = LIMIT) -> str:
    """The text as one line of at most `limit` characters that every log, terminal and page can show.

    White space of every kind becomes a space and invisible format characters are left out. What else can't be shown
    (lone surrogates, control characters, characters without a meaning) becomes U+FFFD, so that a person sees that
    there was something. The result is for people: it is not the name by which anything is found.

    Args:
        text: a string, bytes that should be UTF-8, or any object, which is shown as `str` shows it.
    """
    line = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    # Cut before and after: a text of megabytes takes no time, and format characters do not count.
    line = "".join(map(_shown, line[: 4 * limit])) + ("…" if len(line) > 4 * limit else "")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) == "Cf" else "\ufffd"
