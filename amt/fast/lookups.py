"""Which lookups a GPU gets.

- `triton_lookup`, a kernel: with CUDA or ROCm, where Triton is installed and can compile it.
- `half_volume`: elsewhere, where there is room for the volume.
- `sorted_tiles`: elsewhere.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache, lru_cache

import torch
from torch import Tensor

from ..network.correlation import Correlation
from ..out_of_memory import is_out_of_memory
from .half_volume import HalfVolumeCorrelation
from .sorted_tiles import SortedTileCorrelation

logger = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 2**20
"""Of target pixels that tiles gather at once: enough to keep a GPU busy."""


def gpu_correlation(fmap0: Tensor, fmap1: Tensor) -> Correlation:
    """The lookups of a pair; fmap0, fmap1: feature maps of the two frames, [b, c, h, w]."""
    if kernel_works(fmap0.device, fmap0.dtype, fmap0.shape[1]):
        from .triton_lookup import TritonCorrelation

        return TritonCorrelation(fmap0, fmap1)
    if volume_fits(fmap0.device, HalfVolumeCorrelation.memory(fmap0.shape, fmap0.dtype)):
        try:
            return HalfVolumeCorrelation(fmap0, fmap1)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            volume_fits.cache_clear()  # something else has taken the memory since
    return SortedTileCorrelation(fmap0, fmap1, chunk_bytes=CHUNK_BYTES)


broken: set[torch.device] = set()
"""Devices that the kernel could not be compiled for."""


@cache
def kernel_works(device: torch.device, dtype: torch.dtype, channels: int) -> bool:
    """Whether there is a kernel for maps of so many channels; it is compiled. A failure is logged once a device."""
    if not _expects_kernel(device):
        return False
    try:
        try_kernel(device, dtype, channels)
    except Exception as error:  # what compilers lack and say is without end
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        broken.add(device)
        reason = next(iter(str(error).strip().splitlines()), "")
        logger.warning("AMT looks correlations up without Triton: %s: %s", type(error).__name__, reason)
        return False
    return True


def try_kernel(device: torch.device, dtype: torch.dtype, channels: int) -> None:
    """Runs the kernel on the smallest maps; raises whatever there is to raise."""
    from .triton_lookup import TritonCorrelation

    maps = torch.zeros(1, channels, 8, 8, device=device, dtype=dtype)
    flow = torch.zeros(1, 2, 8, 8, device=device)
    TritonCorrelation(maps, maps).lookup(flow, flow, torch.full((1, 1, 1, 1), 0.5, device=device))


def extra_memory(maps: torch.Size, dtype: torch.dtype, device: torch.device) -> int:
    """How many bytes a pair's lookups may take beside their maps [b, c, h, w]: those of the volume, or nothing."""
    if device.type == "cpu" or _expects_kernel(device):
        return 0
    volume = HalfVolumeCorrelation.memory(maps, dtype)
    return volume if volume <= total_memory(device) // 4 else 0


def _expects_kernel(device: torch.device) -> bool:
    return device.type == "cuda" and device not in broken and importlib.util.find_spec("triton") is not None


@lru_cache(maxsize=16)
def volume_fits(device: torch.device, size: int) -> bool:
    """Whether so many bytes leave a third of the memory that is free when it is first asked."""
    return size <= free_memory(device) * 2 // 3


def free_memory(device: torch.device) -> int:
    """Bytes that PyTorch can still get, or has got and does not use; 0 where it can't tell."""
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    backend = torch.get_device_module(device)
    if not hasattr(backend, "mem_get_info"):
        return 0
    return backend.mem_get_info(device)[0] + backend.memory_reserved(device) - backend.memory_allocated(device)


def total_memory(device: torch.device) -> int:
    """Bytes that the device has; 0 where that can't be told."""
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    backend = torch.get_device_module(device)
    if not backend.is_available() or not hasattr(backend, "get_device_properties"):
        return 0
    return backend.get_device_properties(device).total_memory
