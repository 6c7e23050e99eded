"""scripts/comfyui.py as its user runs it: in a copy of the pack, with a real ComfyUI."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from setup.client import Client, ServerError
from setup.install import ROOT, ComfyUI
from setup.server import LocalServer, free_port

TWO_PICTURES = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "amt_demo_a.png"}},
    "2": {"class_type": "LoadImage", "inputs": {"image": "amt_demo_b.png"}},
    "3": {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["2", 0]}},
    "4": {"class_type": "CreateVideo", "inputs": {"images": ["3", 0], "fps": 2}},
    "5": {
        "class_type": "SaveVideo",
        "inputs": {"video": ["4", 0], "filename_prefix": "two", "format": "auto", "codec": "auto"},
    },
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, comfyui: ComfyUI) -> Path:
    """The pack's own files in a new place, with an API workflow of ComfyUI's own nodes among its workflows."""
    target = tmp_path_factory.mktemp("clone") / "amt"
    mine = {path.name for path in ROOT.iterdir()} & {".git", ".comfyui", ".venv", "runs", "tests"}
    shutil.copytree(ROOT, target, ignore=lambda folder, _: mine if Path(folder) == ROOT else {"__pycache__"})
    workflows = target / "workflows" / "api"
    workflows.mkdir(parents=True, exist_ok=True)
    (workflows / "two_pictures.json").write_text(json.dumps(TWO_PICTURES), "utf-8")
    return target


def command(clone: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(clone / "scripts" / "comfyui.py"), *arguments]


def check_demo(said: str) -> None:
    video = re.search(r"^Video: +(.+\.mp4)  \(2 frames, 350 x 350, 2 fps, 1.00 s\)$", said, re.MULTILINE)
    sheet = re.search(r"^Contact sheet: +(.+\.png)$", said, re.MULTILINE)
    assert video, said
    assert sheet, said
    assert Path(video[1]).stat().st_size > 10_000
    with Image.open(sheet[1]) as picture:
        assert picture.width > 2 * 350


def test_demo_with_a_server_of_its_own(clone: Path, comfyui: ComfyUI) -> None:
    env = {**os.environ, "COMFYUI_PATH": str(comfyui.folder)}
    done = subprocess.run(
        command(clone, "demo", "two_pictures"), capture_output=True, text=True, env=env, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr
    check_demo(done.stdout)


def test_demo_on_a_running_server(clone: Path, comfyui: ComfyUI, comfyui_server: LocalServer) -> None:
    env = {**os.environ, "COMFYUI_PATH": str(comfyui.folder)}
    arguments = command(clone, "demo", "two_pictures", "--server", comfyui_server.url)
    done = subprocess.run(arguments, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    check_demo(done.stdout)


def test_a_demo_that_fails_prints_what_the_node_says(clone: Path, comfyui_server: LocalServer, tmp_path: Path) -> None:
    (comfyui_server.input / "no_picture.png").write_bytes(b"no picture")
    broken = {**TWO_PICTURES, "2": {"class_type": "LoadImage", "inputs": {"image": "no_picture.png"}}}
    (tmp_path / "broken.json").write_text(json.dumps(broken), "utf-8")
    arguments = command(clone, "demo", str(tmp_path / "broken.json"), "--server", comfyui_server.url)
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(r"Node 2 \(LoadImage\) failed: \S+: .*no_picture\.png", done.stderr), done.stderr
    assert "Video:" not in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to a single process there")
def test_serve_and_ctrl_c(clone: Path, comfyui: ComfyUI, tmp_path: Path) -> None:
    env = {**os.environ, "COMFYUI_PATH": str(comfyui.folder), "PYTHONUNBUFFERED": "1"}
    port = free_port()
    arguments = command(clone, "serve", "--no-browser", "--port", str(port), "--disable-api-nodes")
    client = Client(f"http://127.0.0.1:{port}")
    with (tmp_path / "said").open("wb") as file:
        process = subprocess.Popen(arguments, env=env, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 300
        while f"The editor is at {client.url}" not in (tmp_path / "said").read_text("utf-8", "replace"):
            assert process.poll() is None, (tmp_path / "said").read_text("utf-8", "replace")
            assert time.monotonic() < deadline, "no server within 300 s"
            time.sleep(0.2)
        assert b"<!doctype html>" in client.request("/").lower()
        assert "amt_demo_a.png" in client.object_info("LoadImage")["input"]["required"]["image"][0]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
    said = (tmp_path / "said").read_text("utf-8", "replace").splitlines()
    assert said[-1] == "Stopped."
    assert len(said) < 12  # what ComfyUI writes is in a file
    assert not [line for line in said if "ERROR" in line or "Traceback" in line]
    (saved_in,) = (line.partition(" saved in ")[2] for line in said if " saved in " in line)
    assert Path(saved_in) == clone / ".comfyui" / "base" / "output"
    assert "Starting server" in (clone / ".comfyui" / "serve.log").read_text("utf-8")
    with contextlib.suppress(ServerError):
        client.get("/system_stats")
        pytest.fail("the server still answers")
