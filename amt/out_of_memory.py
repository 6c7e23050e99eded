"""How PyTorch says that memory ran out, and how this pack does."""

from __future__ import annotations

import re

import torch

SAYINGS = re.compile(
    r"can't allocate memory|not enough memory|out of (?:host |device )?memory|alloc(?:ation)? failed|failed to allocate"
    r"|UR_RESULT_ERROR_OUT_OF|PI_ERROR_OUT_OF|ERROR_OUT_OF_(?:HOST|DEVICE)_MEMORY|ALLOC_FAILED|_OUT_OF_RESOURCES",
    re.IGNORECASE,
)
"""The host's allocator on Linux and on Windows, Apple's MPS, HIP, cuBLAS, cuDNN and Intel's XPU."""


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether it says that memory ran out, the device's or the host's."""
    # PyTorch has no class of its own for host memory, nor for what CUDA reports late.
    late = getattr(error, "error_code", None) == 2  # cudaErrorMemoryAllocation
    return isinstance(error, torch.OutOfMemoryError) or late or SAYINGS.search(str(error)) is not None


class PairTooLargeError(RuntimeError):
    """Not even one pair of frames fits into memory."""

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        super().__init__(
            f"a pair of frames of {width} x {height} pixels does not fit into the memory of {device}. "
            "Make the frames smaller, close what else uses that memory, use AMT-S or half precision, "
            "or start ComfyUI with --cpu."
        )
