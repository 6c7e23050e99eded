"""Files of weights in a real server: what is wrong with one is said, and the queue goes on."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from amt_frame_interpolation.amt.network import AMT, S
from golden import golden_state_dict
from setup.client import NodeFailedError
from setup.server import LocalServer


@pytest.fixture(scope="module")
def folder(comfyui_server: LocalServer) -> Path:
    folder = Path(comfyui_server.models, "amt")
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def run(comfyui_server: LocalServer) -> Callable[[str], int]:
    def run(model_name: str) -> int:
        """Returns the number of frames that were made with it."""
        picture = {"width": 16, "height": 16, "batch_size": 2, "color": os.getpid()}
        prompt: dict[str, Any] = {
            "1": {"class_type": "EmptyImage", "inputs": picture},
            "2": {"class_type": "AMTModelLoader", "inputs": {"model_name": model_name}},
            "3": {
                "class_type": "AMTInterpolate",
                "inputs": {"interp_model": ["2", 0], "images": ["1", 0], "recursive_interpolation_passes": 1},
            },
            "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
        }
        return len(comfyui_server.queue(prompt).files)

    return run


def test_a_tensor_whose_name_no_log_can_take(folder: Path, run: Callable[[str], int]) -> None:
    weights = golden_state_dict(AMT(S))
    torch.save(weights | {"lone \udcff": torch.ones(1)}, folder / "surrogate.pth")
    torch.save(weights, folder / "good.pth")
    for _ in range(2):
        with pytest.raises(NodeFailedError, match=re.escape("1 left over (lone \ufffd)")) as caught:
            run("surrogate.pth")
        assert caught.value.exception_type == "WrongTensorsError"  # short: it stands before the message
    assert run("good.pth") == 3


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are always Unicode there")
def test_a_file_whose_name_no_log_can_take(folder: Path, run: Callable[[str], int]) -> None:
    name = os.fsdecode(b"caf\xe9.pth")
    torch.save(golden_state_dict(AMT(S)), folder / name)
    assert run(name) == 3
    Path(folder, name).write_bytes(b"")
    with pytest.raises(NodeFailedError, match=re.escape("caf\ufffd.pth: it is empty")):
        run(name)
    torch.save(golden_state_dict(AMT(S)), folder / "good.pth")
    assert run("good.pth") == 3
