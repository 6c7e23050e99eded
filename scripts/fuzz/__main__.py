import importlib
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import fuzz

if __name__ == "__main__":  # and not again in the processes that it starts
    if sys.argv[1:2] not in (["checkpoints"], ["clips"]):
        sys.exit(fuzz.__doc__)
    importlib.import_module(f"fuzz.{sys.argv.pop(1)}").main()
