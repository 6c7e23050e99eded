"""AMT Frame Interpolation: smooth video from choppy clips and keyframes, for ComfyUI."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import AMTExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> AMTExtension:
    """Called by ComfyUI. The nodes are imported here, so that the rest of the pack imports without ComfyUI."""
    from .nodes import AMTExtension

    return AMTExtension()
