import sys
from importlib import import_module
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import documents

if sys.argv[1:2] not in ([command] for command in documents.COMMANDS):
    sys.exit(documents.__doc__)
sys.argv[:2] = [f"documents {sys.argv[1]}"]  # what the command calls itself
import_module(sys.argv[0].replace(" ", ".")).main()
