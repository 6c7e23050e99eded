"""The pictures that the templates start with, where Load Image finds them."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import folder_paths

MEDIA = Path(__file__).parent.parent / "media"


def place_examples() -> None:
    """Copies the templates' pictures and clips into ComfyUI's input folder; what is there already stays."""
    folder = Path(folder_paths.get_input_directory())
    for source in MEDIA.glob("amt_demo_*"):
        target = folder / source.name
        try:
            if not target.exists():
                shutil.copyfile(source, target)
        except OSError as error:  # without the pictures only the templates are incomplete
            logging.getLogger(__name__).info(
                "the templates' %s was not placed in the input folder: %s", source.name, error
            )
            return
