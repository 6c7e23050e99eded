"""How the fast network works on which device.

- On a CPU: `cpu`, which works in place, in parts that caches hold and in small bands. Lookups: `tiles`.
- On other devices: `gpu`, which launches few operations, in large bands. Which lookups: see `lookups`.
- On any device with compiled parts: `operations`, because a compiler finds its own order of work. Lookups: the same.
"""

from __future__ import annotations

import torch

from .cpu import CPUOperations
from .gpu import GPUOperations
from .operations import Operations


def choose_operations(device: torch.device, *, compiled: bool = False) -> Operations:
    """The operations for a network on this device. compiled: whether its parts are compiled."""
    if device.type == "cpu":
        return Operations(device, band_bytes=CPUOperations.BAND_BYTES) if compiled else CPUOperations(device)
    return Operations(device) if compiled else GPUOperations(device)
