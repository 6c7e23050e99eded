"""Takes the pictures of the editor in README.md from what the tests in a browser saw: docs/pictures/editor_*.jpg.

  NEWEST_FRONTEND=1 python3 scripts/comfyui.py test tests/browser -k newest-vue
  python scripts/documents screenshots

Needs Pillow, and the folder .ci/artifacts/screenshots that these tests fill.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
SCREENSHOTS = ROOT / ".ci" / "artifacts" / "screenshots" / "newest-vue"
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


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(__doc__)
    main()
