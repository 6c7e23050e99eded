"""Temporary videos. ComfyUI empties their folder when it starts and when it ends."""

from __future__ import annotations

import os
import uuid
import weakref
from pathlib import Path

import folder_paths
from comfy_api.latest import InputImpl


class _TemporaryPath(str):
    """The path of a video that is removed as soon as nothing holds this very string any more.

    ComfyUI's VIDEO holds it, and so do trimmed copies of that. A plain copy of the string does not.
    """

    def __init__(self, _path: str) -> None:
        weakref.finalize(self, _remove, str(self))


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


_videos: weakref.WeakSet[_TemporaryPath] = weakref.WeakSet()
_lost = 0


def new_video() -> Path:
    """A path for a new video, where no file is yet."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"amt_{uuid.uuid4().hex}.mp4"


def as_video(path: Path) -> InputImpl.VideoFromFile:
    """The file as ComfyUI's VIDEO. It is removed when nobody has the VIDEO any more."""
    kept = _TemporaryPath(str(path))
    _videos.add(kept)
    return InputImpl.VideoFromFile(kept)


def lost_videos() -> int:
    """How many videos were removed by others while somebody still had them, since the start.

    A second ComfyUI that starts with the same folders does that. Nodes give this number as their fingerprint, so that
    they run again: what ComfyUI remembers of them names files that are gone.
    """
    global _lost
    gone = [path for path in _videos if not os.path.exists(path)]
    for path in gone:
        _videos.discard(path)
    _lost += len(gone)
    return _lost
