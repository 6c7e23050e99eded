"""The pack's nodes: a file for each node or family of nodes, which ends in its list `NODES`.

No node file imports another. So a file that cannot be imported costs its own nodes and no others. What several nodes
share is in the other files of this folder.
"""

from __future__ import annotations

import importlib
import logging
import os

import folder_paths
from comfy_api.latest import ComfyExtension, io

from .example_images import place_examples

FAMILIES = (
    "load_model",
    "interpolate",
    "images_to_video",
    "interpolate_video",
    "interpolate_video_ray",
    "optical_flow",
    "load_frames",
    "fal",
    "amt_vfi",
)


class AMTExtension(ComfyExtension):
    async def on_load(self) -> None:
        folder_paths.add_model_folder_path("amt", os.path.join(folder_paths.models_dir, "amt"))
        place_examples()
        try:
            from .amt_vfi import register_replacements

            await register_replacements()
        except Exception:  # the nodes work without it
            logging.getLogger(__name__).warning("AMT Frame Interpolation: AMT VFI will not be replaced", exc_info=True)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [node for family in FAMILIES for node in _nodes(family)]


def _nodes(family: str) -> list[type[io.ComfyNode]]:
    try:
        return importlib.import_module(f".{family}", __name__).NODES
    except Exception:  # an error in one file must not cost the nodes of the others
        logging.getLogger(__name__).exception("AMT Frame Interpolation: the nodes of nodes/%s.py are missing", family)
        return []
