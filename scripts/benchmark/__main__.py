import importlib
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import benchmark

if sys.argv[1:2] not in (["speed"], ["video"]):
    sys.exit(benchmark.__doc__)
importlib.import_module(f"benchmark.{sys.argv.pop(1)}").main()
