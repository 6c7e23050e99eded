"""The fal.ai key: from the machine's environment or a file that it names, and from nowhere else."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from .errors import RemoteError

_PACK = Path(__file__).resolve().parent.parent
_KEY = re.compile(r"[\x21-\x39\x3b-\x7e]+:[\x21-\x7e]+")
_HOW = (
    "Set the environment variable FAL_KEY, or FAL_KEY_FILE to the path of a file that holds the key, where ComfyUI is "
    "started. Keys are made at fal.ai under Dashboard, Keys; the scope API is enough. The local AMT nodes need no key"
)

log = logging.getLogger(__name__)


def read_key(environment: Mapping[str, str] = os.environ) -> str:
    """The key, `id:secret`. It is read at each run, so that a changed key file counts at once.

    Raises:
        RemoteError: there is no key, or it has not the form of one. The message never shows what was found.
    """
    if key := environment.get("FAL_KEY", "").strip():
        source = "FAL_KEY"
    elif name := environment.get("FAL_KEY_FILE", "").strip():
        source = "the file named by FAL_KEY_FILE"
        key = _read_file(Path(name).expanduser())
    else:
        raise RemoteError(f"no fal.ai key, so nothing was sent. {_HOW}")
    if not _KEY.fullmatch(key):
        raise RemoteError(f"{source} holds no fal.ai key: expected id:secret on one line. {_HOW}")
    return key


def _read_file(path: Path) -> str:
    if path.resolve().is_relative_to(_PACK):
        raise RemoteError(
            "FAL_KEY_FILE names a file inside this node pack, where it may be published or deleted by an update. "
            "Keep it elsewhere, such as in your home folder"
        )
    try:
        with path.open(encoding="utf-8") as file:
            key = file.read(4096).strip()
            mode = os.fstat(file.fileno()).st_mode
    except (OSError, ValueError) as error:
        raise RemoteError(
            f"the file named by FAL_KEY_FILE could not be read ({type(error).__name__}). Check the path"
        ) from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning("The file named by FAL_KEY_FILE can be read by other users of this machine: chmod 600 helps")
    return key
