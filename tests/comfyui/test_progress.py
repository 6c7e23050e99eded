"""What a node says of its work, on a real server: in the history, where the API's users read it, too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

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
    **inputs: object,
) -> str:
    prompt = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 40, "height": 30, "batch_size": frames, "color": 255},
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
