"""Where ComfyUI keeps frame-interpolation models."""

from __future__ import annotations

from pathlib import Path

import folder_paths


def model_folders() -> list[Path]:
    """The folders for AMT models, of which the first takes downloads, and core's for frame-interpolation models."""
    return [Path(folder) for kind in ("amt", "frame_interpolation") for folder in folder_paths.get_folder_paths(kind)]
