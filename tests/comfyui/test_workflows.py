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
from tiny_video import video_bytes

API = ROOT / "workflows" / "api"
TWO_IMAGES = "amt_04_frame_interpolation_two_images_to_2_seconds"


def read(name: str) -> dict:
    return json.loads((API / f"{name}.json").read_text())


def decode(path: Path) -> tuple[list[np.ndarray], Fraction]:
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], Fraction(rate or 0)


def test_two_images_last_two_seconds(comfyui_server: LocalServer, tmp_path: Path) -> None:
    result = comfyui_server.queue(read(TWO_IMAGES), timeout=900)
    frames, rate = decode(comfyui_server.download(result.files[0], tmp_path))
    assert len(frames) == 48
    assert rate == 24
    for index, picture in ((0, "amt_demo_first.png"), (-1, "amt_demo_last.png")):
        source = np.asarray(Image.open(ROOT / "media" / picture).convert("RGB"), dtype=float)
        assert frames[index].shape == source.shape
        # Through H.264: over 30 dB is the same picture; its neighbours in the video are well below that.
        assert 10 * np.log10(255**2 / ((frames[index] - source) ** 2).mean()) > 30
    assert np.abs(frames[24].astype(float) - frames[0]).mean() > 1


def test_core_node(comfyui_server: LocalServer, tmp_path: Path) -> None:
    prompt = read("amt_09_frame_interpolation_in_the_core_node")
    prompt["5"]["inputs"].pop("audio")
    prompt["2"] = {"class_type": "EmptyImage", "inputs": {"width": 96, "height": 64, "batch_size": 3, "color": 0}}
    result = comfyui_server.queue(prompt, timeout=900)
    frames, rate = decode(comfyui_server.download(result.files[0], tmp_path))
    assert (len(frames), rate) == (5, 30)


def test_an_animated_picture_keeps_its_duration(comfyui_server: LocalServer, tmp_path: Path) -> None:
    name = "amt_08_frame_interpolation_gif_and_animated_webp"
    (file,) = comfyui_server.queue(read(name), timeout=900).files
    durations: list[list[int]] = []
    for path in (ROOT / "media" / "amt_demo_car.webp", comfyui_server.download(file, tmp_path)):
        with Image.open(path) as animation:
            durations.append([])
            for number in range(animation.n_frames):  # pyright: ignore[reportAttributeAccessIssue]
                animation.seek(number)
                animation.load()
                durations[-1].append(animation.info["duration"])
    before, after = durations
    assert len(after) == 2 * len(before)
    assert sum(after) == pytest.approx(sum(before), abs=50)  # milliseconds


def test_a_speed_curve_makes_the_clip_longer(comfyui_server: LocalServer, tmp_path: Path) -> None:
    prompt = read("amt_06_frame_interpolation_speed_curve")
    prompt["1"]["inputs"]["file"] = "curve.mp4"
    (comfyui_server.input / "curve.mp4").write_bytes(video_bytes(48, 96, 64))  # two seconds
    result = comfyui_server.queue(prompt, timeout=900)
    frames, rate = decode(comfyui_server.download(result.files[0], tmp_path))
    assert rate == 30
    assert 3 < len(frames) / rate < 6


def test_several_workers_make_what_one_machine_makes(comfyui_server: LocalServer, tmp_path: Path) -> None:
    """A Ray of this machine, for the run alone."""
    pytest.importorskip("ray")
    (comfyui_server.input / "ray.mp4").write_bytes(video_bytes(70, 96, 64))
    made = []
    for name in ("amt_15_frame_interpolation_on_several_gpus", "amt_02_frame_interpolation_to_60_fps_with_sound"):
        prompt = read(name)
        prompt["1"]["inputs"]["file"] = "ray.mp4"
        result = comfyui_server.queue(prompt, timeout=900)
        made.append(decode(comfyui_server.download(result.files[0], tmp_path)))
    assert len(made[0][0]) == len(made[1][0]) > 120
    assert made[0][1] == made[1][1] == 60
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(made[0][0], made[1][0], strict=True))


def test_linked_passes_are_checked(comfyui_server: LocalServer) -> None:
    prompt = read(TWO_IMAGES)
    prompt["20"] = {"class_type": "PrimitiveInt", "inputs": {"value": 40}}
    prompt["4"]["inputs"]["recursive_interpolation_passes"] = ["20", 0]
    with pytest.raises(NodeFailedError, match="expected a whole number from 0 to 8, got 40"):
        comfyui_server.queue(prompt)


def test_widget_values_are_checked(comfyui_server: LocalServer) -> None:
    prompt = read(TWO_IMAGES)
    prompt["4"]["inputs"] |= {"recursive_interpolation_passes": 9, "output_fps": 0}
    with pytest.raises(RefusedError, match="recursive_interpolation_passes"):
        comfyui_server.queue(prompt)


def test_another_type_in_the_model_socket_is_refused(comfyui_server: LocalServer) -> None:
    prompt = read(TWO_IMAGES)
    prompt["4"]["inputs"]["interp_model"] = ["1", 0]
    with pytest.raises(RefusedError, match="interp_model"):
        comfyui_server.queue(prompt)


def test_an_interrupted_run_leaves_no_file_and_the_next_one_runs(comfyui_server: LocalServer, tmp_path: Path) -> None:
    temporary = comfyui_server.base / "temp"
    before = set(temporary.glob("*"))
    prompt = read(TWO_IMAGES)
    prompt["4"]["inputs"] |= {"recursive_interpolation_passes": 8, "seconds": 0}
    prompt_id = comfyui_server.submit(prompt)
    with pytest.raises(Exception, match=r"(?i)interrupted"):
        comfyui_server.wait(
            prompt_id, waiting=lambda _state, seconds: comfyui_server.interrupt() if seconds > 3 else None
        )
    assert set(temporary.glob("*")) == before
    prompt["4"]["inputs"]["recursive_interpolation_passes"] = 0
    assert comfyui_server.queue(prompt).files


def test_the_pack_and_only_its_workflows_are_listed(comfyui_server: LocalServer) -> None:
    (listed,) = (names for pack, names in comfyui_server.get("/api/workflow_templates").items() if "amt" in pack)
    assert set(listed) == {path.stem for path in (ROOT / "workflows").glob("*.json")}


def test_no_workflow_uses_a_deprecated_node(comfyui_server: LocalServer) -> None:
    types = {node["class_type"] for path in API.glob("*.json") for node in read(path.stem).values()}
    assert not [name for name in types if comfyui_server.object_info(name).get("deprecated")]
