"""Makes the pack importable as `amt_frame_interpolation`, whatever its folder is called.

ComfyUI imports the pack under the name of its folder; scripts and tests need one name of their own.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "amt_frame_interpolation"

if NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[NAME])
