"""The client that scripts and tests queue workflows with, against a real server and ComfyUI's own nodes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from setup.client import Client, NodeFailedError, RefusedError, ServerError
from setup.server import LocalServer, free_port

PICTURE = {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 8, "batch_size": 2, "color": 255}}


def save(prefix: str, **more: object) -> dict[str, object]:
    return {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix, **more}}


def test_a_run_gives_its_files(comfyui_server: LocalServer, tmp_path: Path) -> None:
    result = comfyui_server.queue({"1": PICTURE, "2": save("some/blue")})
    assert [(file.subfolder, file.type) for file in result.files] == [("some", "output")] * 2
    path = comfyui_server.download(result.files[1], tmp_path / "new")
    assert path.read_bytes() == (comfyui_server.output / "some" / result.files[1].filename).read_bytes()
    with Image.open(path) as picture:
        assert (picture.size, picture.getpixel((0, 0))) == ((16, 8), (0, 0, 255))


def test_uploading_never_replaces_another_file(comfyui_server: LocalServer, tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "frame one.png", tmp_path / "b" / "frame one.png"
    for path, colour in ((first, "red"), (second, "green")):
        path.parent.mkdir()
        Image.new("RGB", (4, 4), colour).save(path)
    names = [comfyui_server.upload(path) for path in (first, second, first)]
    assert names[0] == names[2] != names[1]
    for name, path in zip(names, (first, second, first), strict=True):
        assert (comfyui_server.input / name).read_bytes() == path.read_bytes()
    load = {"class_type": "LoadImage", "inputs": {"image": names[1]}}
    (file,) = comfyui_server.queue({"1": load, "2": save("green")}).files
    with Image.open(comfyui_server.download(file, tmp_path)) as picture:
        assert picture.getpixel((0, 0)) == (0, 128, 0)


def test_a_refused_workflow_says_which_input(comfyui_server: LocalServer) -> None:
    picture = {"class_type": "EmptyImage", "inputs": {**PICTURE["inputs"], "width": -1}}
    with pytest.raises(RefusedError, match=r"Node 1 \(EmptyImage\).*width"):
        comfyui_server.queue({"1": picture, "2": save("x")})


def test_a_workflow_refused_in_part_does_not_run(comfyui_server: LocalServer) -> None:
    bad = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
    with pytest.raises(RefusedError, match=r"Node 3 \(SaveImage\).*filename_prefix"):
        comfyui_server.queue({"1": PICTURE, "2": save("x"), "3": bad})


def test_an_unknown_node_is_named(comfyui_server: LocalServer) -> None:
    with pytest.raises(RefusedError, match="NoSuchNode"):
        comfyui_server.queue({"1": {"class_type": "NoSuchNode", "inputs": {}}, "2": save("x")})
    assert comfyui_server.object_info("NoSuchNode") == {}
    assert comfyui_server.object_info("EmptyImage")["name"] == "EmptyImage"


def test_a_failing_node_says_why(comfyui_server: LocalServer) -> None:
    (comfyui_server.input / "broken.png").write_bytes(b"no picture")
    load = {"class_type": "LoadImage", "inputs": {"image": "broken.png"}}
    with pytest.raises(NodeFailedError, match="LoadImage") as caught:
        comfyui_server.queue({"1": load, "2": save("x")})
    assert caught.value.node_id == "1"
    assert caught.value.exception_message
    assert caught.value.exception_message in str(caught.value)


def test_a_run_that_takes_too_long_is_interrupted(comfyui_server: LocalServer) -> None:
    slow = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 4096, "height": 4096, "batch_size": 4, "color": 0}},
        "2": {"class_type": "ImageBlur", "inputs": {"image": ["1", 0], "blur_radius": 31, "sigma": 10.0}},
        "3": {"class_type": "ImageBlur", "inputs": {"image": ["2", 0], "blur_radius": 31, "sigma": 9.0}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }
    states: list[str] = []
    with pytest.raises(ServerError, match="did not end within"):
        comfyui_server.queue(slow, timeout=1, waiting=lambda state, _: states.append(state))
    assert "running" in states
    comfyui_server.queue({"1": PICTURE, "2": save("after")}, timeout=300)  # the next one has its turn


def test_no_server() -> None:
    with pytest.raises(ServerError, match="No answer"):
        Client(f"http://127.0.0.1:{free_port()}").queue({"1": PICTURE, "2": save("x")})


def test_what_is_no_address() -> None:
    for url in ("ftp://127.0.0.1", "http://", ""):
        with pytest.raises(ServerError, match="not the address of a server"):
            Client(url)


def test_a_server_that_does_not_start_shows_its_log(start_server) -> None:
    with pytest.raises(ServerError, match="no-such-option"):
        start_server({}, arguments=["--no-such-option"])


def test_video_helper_suite_runs(vhs_server: LocalServer) -> None:
    combine = {
        "class_type": "VHS_VideoCombine",
        "inputs": {
            "images": ["1", 0],
            "frame_rate": 8,
            "loop_count": 0,
            "filename_prefix": "vhs",
            "format": "video/h264-mp4",
            "pingpong": False,
            "save_output": True,
        },
    }
    picture = {"class_type": "EmptyImage", "inputs": {**PICTURE["inputs"], "width": 64, "height": 64}}
    (file,) = vhs_server.queue({"1": picture, "2": combine}).files
    assert file.filename.endswith(".mp4")


def test_comfyui_can_be_imported_here(comfy: ModuleType) -> None:
    import comfy.model_management as mm
    import folder_paths

    assert mm.get_torch_device().type == "cpu"
    assert Path(folder_paths.get_output_directory()).parent.name.startswith("comfy")
