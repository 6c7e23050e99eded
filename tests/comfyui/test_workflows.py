"""Every workflow of workflows/api on a real server: as many frames, at the rate and of the size that they promise."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from setup.client import NodeFailedError, RefusedError
from setup.install import ROOT
from setup.server import LocalServer

API = ROOT / "workflows" / "api"
EXPECTED = {
    "two_images_to_video": (17, 24),
    "image_batch_to_video": (17, 24),
    "image_batch_to_vhs_video_combine": (17, 24),
    "core_frame_interpolate": (9, 24),
}
"""Frames and rate."""


def read(name: str) -> dict:
    return json.loads((API / f"{name}.json").read_text())


def decode(path: Path) -> tuple[list[np.ndarray], Fraction]:
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], Fraction(rate or 0)


@pytest.mark.parametrize("name", EXPECTED)
def test_workflow(name: str, comfyui_server: LocalServer, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server = request.getfixturevalue("vhs_server") if "vhs" in name else comfyui_server
    result = server.queue(read(name), timeout=900)
    path = server.download(next(f for f in result.files if f.filename.endswith(".mp4")), tmp_path)
    frames, rate = decode(path)
    count, fps = EXPECTED[name]
    assert len(frames) == count
    assert rate == fps
    for index, picture in ((0, "amt_demo_a.png"), (-1, "amt_demo_b.png")):
        source = np.asarray(Image.open(ROOT / "media" / picture).convert("RGB"), dtype=float)
        assert frames[index].shape == source.shape
        # Through H.264: over 30 dB is the same picture; its neighbours in the video are well below that.
        assert 10 * np.log10(255**2 / ((frames[index] - source) ** 2).mean()) > 30
    assert np.abs(frames[count // 2].astype(float) - frames[0]).mean() > 1


def test_linked_passes_are_checked(comfyui_server: LocalServer) -> None:
    prompt = read("two_images_to_video")
    prompt["20"] = {"class_type": "PrimitiveInt", "inputs": {"value": 40}}
    prompt["5"]["inputs"]["recursive_interpolation_passes"] = ["20", 0]
    with pytest.raises(NodeFailedError, match="expected a whole number from 0 to 8, got 40"):
        comfyui_server.queue(prompt)


def test_widget_values_are_checked(comfyui_server: LocalServer) -> None:
    prompt = read("two_images_to_video")
    prompt["5"]["inputs"] |= {"recursive_interpolation_passes": 9, "output_fps": 0}
    with pytest.raises(RefusedError, match="recursive_interpolation_passes"):
        comfyui_server.queue(prompt)


def test_another_type_in_the_model_socket_is_refused(comfyui_server: LocalServer) -> None:
    prompt = read("two_images_to_video")
    prompt["5"]["inputs"]["interp_model"] = ["3", 0]
    with pytest.raises(RefusedError, match="interp_model"):
        comfyui_server.queue(prompt)


def test_an_interrupted_run_leaves_no_file_and_the_next_one_runs(comfyui_server: LocalServer, tmp_path: Path) -> None:
    temporary = comfyui_server.base / "temp"
    before = set(temporary.glob("*"))
    prompt = read("two_images_to_video")
    prompt["5"]["inputs"]["recursive_interpolation_passes"] = 8
    prompt_id = comfyui_server.submit(prompt)
    with pytest.raises(Exception, match=r"(?i)interrupted"):
        comfyui_server.wait(
            prompt_id, waiting=lambda _state, seconds: comfyui_server.interrupt() if seconds > 3 else None
        )
    assert set(temporary.glob("*")) == before
    prompt["5"]["inputs"]["recursive_interpolation_passes"] = 0
    assert comfyui_server.queue(prompt).files


def test_the_pack_and_only_its_workflows_are_listed(comfyui_server: LocalServer) -> None:
    (listed,) = (names for pack, names in comfyui_server.get("/api/workflow_templates").items() if "amt" in pack)
    assert set(listed) == {path.stem for path in (ROOT / "workflows").glob("*.json")}


def test_no_workflow_uses_a_deprecated_node(comfyui_server: LocalServer) -> None:
    types = {node["class_type"] for path in API.glob("*.json") for node in read(path.stem).values()}
    assert not [name for name in types if comfyui_server.object_info(name).get("deprecated")]
