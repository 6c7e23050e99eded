"""What commands write into documents: text between marks, which people leave alone."""

from __future__ import annotations

import re
from pathlib import Path


def insert(path: Path, mark: str, text: str) -> bool:
    """Puts a text between <!-- mark --> and <!-- /mark --> of a file, in the place of what was there.

    False where there is no such file, or no such marks in it.
    """
    if not path.exists():
        return False
    marks = rf"(<!-- {re.escape(mark)} -->\n).*?(<!-- /{re.escape(mark)} -->)"
    before = path.read_text("utf-8")
    after, count = re.subn(marks, lambda match: f"{match[1]}{text}\n{match[2]}", before, flags=re.DOTALL)
    if count:
        path.write_text(after, "utf-8")
    return count > 0
