"""How PyTorch says that memory ran out."""

from __future__ import annotations

import torch


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether it says that memory ran out, the device's or the host's."""
    # PyTorch has no class of its own for host memory, nor for what CUDA reports late.
    late = getattr(error, "error_code", None) == 2  # cudaErrorMemoryAllocation
    return isinstance(error, torch.OutOfMemoryError) or late or "can't allocate memory" in str(error)
