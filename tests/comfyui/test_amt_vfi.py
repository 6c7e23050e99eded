"""Workflows made with ComfyUI-Frame-Interpolation's `AMT VFI` run with this pack alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from amt_frame_interpolation.amt.network import AMT, S
from golden import golden_state_dict
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from setup.client import NodeFailedError, RefusedError
from setup.server import LocalServer


@pytest.fixture(scope="module")
def model_name(comfyui_server: LocalServer) -> str:
    path = Path(comfyui_server.models, "amt", "golden.safetensors")
    path.parent.mkdir(exist_ok=True)
    save_file(golden_state_dict(AMT(S)), path)
    return path.name


def old_workflow(model_name: str, multiplier: object) -> dict[str, Any]:
    """As the editor of that time queued it."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 40, "height": 30, "batch_size": 3, "color": 255},
            "_meta": {"title": "EmptyImage"},
        },
        "2": {
            "class_type": "AMT VFI",
            "inputs": {
                "ckpt_name": model_name,
                "clear_cache_after_n_frames": 1,
                "multiplier": multiplier,
                "frames": ["1", 0],
            },
            "_meta": {"title": "AMT VFI"},
        },
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}, "_meta": {"title": "Preview Image"}},
    }


def test_the_editor_is_told(comfyui_server: LocalServer) -> None:
    """What it needs to offer the replacement: where each widget's value goes, and the node's order of widgets."""
    (entry,) = comfyui_server.get("/node_replacements")["AMT VFI"]
    assert entry["new_node_id"] == "AMTReplacedVFI"
    assert entry["old_widget_ids"] == ["ckpt_name", "clear_cache_after_n_frames", "multiplier"]
    assert {given["new_id"]: given["old_id"] for given in entry["input_mapping"]} == {
        "model_name": "ckpt_name",
        "images": "frames",
        "multiplier": "multiplier",
    }
    inputs = comfyui_server.object_info("AMTReplacedVFI")["input"]["required"]
    assert set(inputs) == {given["new_id"] for given in entry["input_mapping"]}
    assert {"amt-s.pth", "amt-l.pth", "amt-g.pth", "gopro_amt-s.pth"} <= set(inputs["model_name"][1]["options"])


@pytest.mark.parametrize(("multiplier", "frames"), [(2, 5), (4, 9)])
def test_a_queued_workflow_runs(comfyui_server: LocalServer, model_name: str, multiplier: int, frames: int) -> None:
    result = comfyui_server.queue(old_workflow(model_name, multiplier))
    assert len(result.files) == frames


def test_three_times_as_many_is_refused_before_anything_runs(comfyui_server: LocalServer, model_name: str) -> None:
    with pytest.raises(RefusedError, match=r"multiplier: expected 2, 4, 8, .* got 3\. Use 2\. .*target_fps"):
        comfyui_server.queue(old_workflow(model_name, 3))


def test_a_linked_multiplier_is_checked(comfyui_server: LocalServer, model_name: str) -> None:
    prompt = old_workflow(model_name, ["4", 0])
    prompt["4"] = {"class_type": "PrimitiveInt", "inputs": {"value": 6}, "_meta": {"title": "Int"}}
    with pytest.raises(NodeFailedError, match=r"multiplier: expected 2, 4, 8, .* got 6"):
        comfyui_server.queue(prompt)


@pytest.fixture(scope="module")
def passes_of(comfy: ModuleType) -> Callable[[int], int]:
    from amt_frame_interpolation.nodes.amt_vfi import passes_of

    return passes_of


@given(multiplier=st.integers(-10, 2000))
def test_passes(passes_of: Callable[[int], int], multiplier: int) -> None:
    try:
        passes = passes_of(multiplier)
    except ValueError:
        assert multiplier not in (2, 4, 8, 16, 32, 64, 128, 256)
    else:
        assert multiplier == 2**passes
