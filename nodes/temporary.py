"""Temporary files. ComfyUI empties their folder when it starts and when it ends."""

from __future__ import annotations

import uuid
from pathlib import Path

import folder_paths


def new_video() -> Path:
    """A path for a new video, where no file is yet."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"amt_{uuid.uuid4().hex}.mp4"
