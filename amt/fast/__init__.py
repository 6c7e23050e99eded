"""The network of `amt.network` with less time and memory: the same parameters, the same numbers within rounding.

When each is used:

- Training, and tests that need an oracle: `network.AMT`. It alone has gradients.
- Everything that makes frames (nodes, evaluation, benchmark): `FastAMT(network)`.

How it works on which device is decided in `choose.py` alone.
"""

from .compiling import Compilation, compile_parts
from .model import FastAMT

__all__ = ["Compilation", "FastAMT", "compile_parts"]
