"""Training AMT on clips of video models: `python scripts/training --help`."""
