"""Takes the pictures of the editor in README.md from what the tests in a browser saw: docs/pictures/editor_*.jpg.

python3 scripts/comfyui.py test tests/browser -k pinned-vue
python scripts/documents screenshots
"""

from __future__ import annotations

import sys

from _pack import ROOT
from PIL import Image

SCREENSHOTS = ROOT / ".ci" / "artifacts" / "screenshots" / "pinned-vue"
PICTURES = {"graph": "editor_two_images.jpg"}
"""Screenshot to picture."""


def main() -> None:
    for name, target in PICTURES.items():
        source = SCREENSHOTS / f"{name}.png"
        if not source.is_file():
            sys.exit(f"{source.relative_to(ROOT)} is not there: run the tests in a browser first")
        with Image.open(source) as picture:
            picture.convert("RGB").save(ROOT / "docs" / "pictures" / target, quality=88, optimize=True)
        print(f"docs/pictures/{target}")
