"""Memory that ran out is known in the words of every backend of PyTorch."""

from __future__ import annotations

import pytest
import torch
from amt_frame_interpolation.amt.out_of_memory import is_out_of_memory


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)",
        "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8.",
        "MPS backend out of memory (MPS allocated: 5.05 GB, other allocations: 2.29 GB, max allowed: 6.77 GB).",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "HIP out of memory. Tried to allocate 1.21 GiB (GPU 0; 15.98 GiB total capacity)",
        "HIP error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "XPU out of memory. Tried to allocate 12.00 GiB.",
        "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
        "Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES)",
    ],
)
def test_memory_that_ran_out(text: str):
    assert is_out_of_memory(RuntimeError(text))


def test_the_class_that_has_no_words():
    assert is_out_of_memory(torch.OutOfMemoryError())


@pytest.mark.parametrize(
    "text",
    ["CUDA error: an illegal memory access was encountered", "expected scalar type Half but found Float", "", "NaN"],
)
def test_other_errors(text: str):
    assert not is_out_of_memory(RuntimeError(text))
