import importlib
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import documents

if sys.argv[1:2] not in (["templates"], ["blueprint"], ["pictures"], ["screenshots"]):
    sys.exit(documents.__doc__)
importlib.import_module(f"documents.{sys.argv.pop(1)}").main()
