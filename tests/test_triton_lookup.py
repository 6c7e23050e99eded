"""The kernel of the lookups, without a GPU: in Triton's interpreter, and compiled for GPUs that are not there."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is for Linux, or installed by hand")

INTERPRETED = """
import contextlib
import _pack
import torch
from amt_frame_interpolation.amt.fast import triton_lookup
from amt_frame_interpolation.amt.network.correlation import CorrelationVolume

torch.cuda.device = lambda _: contextlib.nullcontext()
triton_lookup.PIXELS = 128  # the interpreter's time goes by programs
cases = [  # batch, channels, height, width, pixels of motion, shift, precision
    (2, 40, 9, 13, 4, 0.5, "float32"),
    (1, 5, 19, 8, 2, -7.25, "float32"),
    (1, 33, 8, 8, 1, -1e6, "float16"),
]
for batch, channels, height, width, motion, shift, precision in cases:
    random = torch.Generator().manual_seed(height)
    fmap0, fmap1 = torch.randn(2, batch, channels, height, width, generator=random).to(getattr(torch, precision))
    flow = torch.randn(batch, 4, height, width, generator=random) * motion + shift
    timestep = torch.rand(batch, 1, 1, 1, generator=random) * 0.8 + 0.1
    expected = CorrelationVolume(fmap0, fmap1).lookup(flow[:, :2], flow[:, 2:], timestep)
    found = triton_lookup.TritonCorrelation(fmap0, fmap1).lookup(flow[:, :2], flow[:, 2:], timestep)
    assert found.dtype == fmap0.dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=1e-4 if precision == "float32" else 6e-3)

# A flow that is no number spoils its own pixel at most.
flow = torch.randn(1, 4, 8, 8)
kernel = triton_lookup.TritonCorrelation(fmap0, fmap1)
good = kernel.lookup(flow[:, :2], flow[:, 2:], timestep)
flow[:, :, 3, 5:] = torch.tensor([float("nan"), float("inf"), -float("inf")])
found = kernel.lookup(flow[:, :2], flow[:, 2:], timestep)
found[:, :, 3, 5:] = good[:, :, 3, 5:] = 0
torch.testing.assert_close(found, good)
"""


def test_the_kernel_gives_what_the_volume_gives():
    """Odd sizes, batches with their own times, motion far out of the frame, flows that are no numbers."""
    root = Path(__file__).parent.parent
    # Triton reads this when it is imported.
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root / "scripts")}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=env, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("architecture", "channels", "precision"), [(80, 84, "fp32"), (89, 84, "fp16"), (90, 128, "fp16")]
)
def test_the_kernel_compiles_for_gpus_that_are_not_there(
    architecture: int, channels: int, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Down to machine code: Triton brings NVIDIA's assembler."""
    import triton
    from amt_frame_interpolation.amt.fast import triton_lookup
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = triton_lookup.look_up
    constants = {"CHANNELS": channels, "SCALE": 1 / math.sqrt(channels)}
    constants |= {"PIXELS": triton_lookup.PIXELS, "CHUNK": triton_lookup.CHUNK}

    def kind(name: str) -> str:
        if name in constants:
            return "constexpr"
        if name in triton_lookup.SIZES:
            return "i32"
        return f"*{precision}" if name == "found" or name.startswith("level") else "*fp32"

    signature = {name: kind(name) for name in kernel.arg_names}
    compiled = triton.compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", architecture, 32))
    assert f".target sm_{architecture}" in compiled.asm["ptx"]
    assert "st.local" not in compiled.asm["ptx"]
    assert len(compiled.asm["cubin"]) > 1000
