"""What a node says of its work, on a real server: in the history, where the API's users read it, too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from amt_frame_interpolation.amt.network import AMT, S
from golden import golden_state_dict
from safetensors.torch import save_file
from setup.server import LocalServer

NUMBER = r"[\d.]+"


@pytest.fixture(scope="module")
def model_name(comfyui_server: LocalServer) -> str:
    path = Path(comfyui_server.models, "amt", "golden.safetensors")
    path.parent.mkdir(exist_ok=True)
    save_file(golden_state_dict(AMT(S)), path)
    return path.name


def said(
    server: LocalServer,
    model_name: str,
    node: str,
    frames: int = 3,
    loader: Mapping[str, object] = MappingProxyType({"precision": "fp32"}),
    size: tuple[int, int] = (40, 30),
    **inputs: object,
) -> str:
    prompt = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": size[0], "height": size[1], "batch_size": frames, "color": 255},
        },
        "2": {"class_type": "AMTModelLoader", "inputs": {"model_name": model_name, **loader}},
        "3": {"class_type": node, "inputs": {"interp_model": ["2", 0], "images": ["1", 0], **inputs}},
        "4": {"class_type": "SaveVideo", "inputs": {"video": ["3", 0], "filename_prefix": "x", "format": "auto"}},
    }
    prompt["4"]["inputs"]["codec"] = "auto"
    if node == "AMTInterpolate":
        prompt["4"] = {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
    else:
        prompt["3"]["inputs"].setdefault("output_fps", 24)
    (text,) = server.queue(prompt).outputs["3"]["text"]
    return text


def test_images(comfyui_server: LocalServer, model_name: str) -> None:
    text = said(comfyui_server, model_name, "AMTInterpolate", recursive_interpolation_passes=1)
    assert re.fullmatch(rf"5 frames in {NUMBER} s: 40 x 30\.\ngolden\.safetensors on cpu, fp32\.", text)


def test_video(comfyui_server: LocalServer, model_name: str) -> None:
    text = said(comfyui_server, model_name, "AMTImagesToVideo", recursive_interpolation_passes=1, output_fps=23.976)
    assert re.fullmatch(
        rf"5 frames in {NUMBER} s: 40 x 30, 23\.976 fps, 0\.2 s long\.\ngolden\.safetensors on cpu, fp32\.", text
    )


def test_the_size_is_that_of_the_file(comfyui_server: LocalServer, model_name: str) -> None:
    """H.264 has even sides."""
    text = said(comfyui_server, model_name, "AMTImagesToVideo", size=(41, 31), recursive_interpolation_passes=1)
    assert "42 x 32" in text


def test_a_cached_run_tells_the_same(comfyui_server: LocalServer, model_name: str) -> None:
    inputs: dict[str, Any] = {"recursive_interpolation_passes": 1, "output_fps": 17}
    first = said(comfyui_server, model_name, "AMTImagesToVideo", **inputs)
    assert said(comfyui_server, model_name, "AMTImagesToVideo", **inputs) == first


def test_a_video_of_one_frame(comfyui_server: LocalServer, model_name: str) -> None:
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 40, "height": 30, "batch_size": 1, "color": 255}},
        "2": {"class_type": "AMTModelLoader", "inputs": {"model_name": model_name, "precision": "fp32"}},
        "3": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 16}},
        "4": {"class_type": "AMTInterpolateVideo", "inputs": {"interp_model": ["2", 0], "video": ["3", 0]}},
        "5": {"class_type": "SaveVideo", "inputs": {"video": ["4", 0], "filename_prefix": "x", "format": "auto"}},
    }
    prompt["4"]["inputs"] |= {"recursive_interpolation_passes": 1, "time": "smooth", "output_fps": 60}
    prompt["4"]["inputs"]["slow_motion_sound"] = "stretch"
    prompt["5"]["inputs"]["codec"] = "auto"
    (text,) = comfyui_server.queue(prompt).outputs["4"]["text"]
    assert "The video has only one frame" in text


def test_what_became_of_compiling(comfyui_server: LocalServer, model_name: str) -> None:
    loader = {"torch_compile": True}
    text = said(comfyui_server, model_name, "AMTInterpolate", loader=loader, recursive_interpolation_passes=1)
    assert text.endswith("on cpu, fp32, not compiled (on a CPU it takes minutes and gains nothing).")


@pytest.mark.parametrize(
    ("node", "frames", "passes", "expected"),
    [
        ("AMTInterpolate", 1, 2, "There is only one frame"),
        ("AMTImagesToVideo", 1, 2, "There is only one frame"),
        ("AMTInterpolate", 3, 0, "1x: there are no frames to make"),
    ],
)
def test_nothing_to_do(
    comfyui_server: LocalServer, model_name: str, node: str, frames: int, passes: int, expected: str
) -> None:
    text = said(comfyui_server, model_name, node, frames, recursive_interpolation_passes=passes)
    assert text.startswith(expected)


def test_times(comfy: object) -> None:
    from amt_frame_interpolation.nodes.progress import _time

    assert [_time(seconds) for seconds in (0.04, 9.94, 9.96, 59.4, 59.6, 3599, 7290)] == [
        "0.0 s",
        "9.9 s",
        "10 s",
        "59 s",
        "1 min 0 s",
        "59 min 59 s",
        "2 h 1 min",
    ]
