import sys
from importlib import import_module
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

command = "evaluate"
if sys.argv[1:2] == ["scenes"]:
    command = sys.argv.pop(1)
import_module(f"evaluation.{command}").main()
