"""A folder of videos through the API queue, by the script and a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import pytest
from batch.videos import WorkflowError, for_video, read_workflow
from servers import ServerStarter
from setup.install import ROOT
from setup.server import LocalServer
from tiny_video import video_bytes

SLOW = "amt_05_frame_interpolation_slow_motion"


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "batch"), str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos with awkward names, one that is none, and a file that is no business of anybody's."""
    folder = tmp_path / "my videos"
    folder.mkdir()
    (folder / "a b.mp4").write_bytes(video_bytes(3, 96, 96))
    (folder / "Été 100%.MP4").write_bytes(video_bytes(4, 96, 96))
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "notes.txt").write_text("none")
    return folder


def frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_folder_of_videos(comfyui_server: LocalServer, folder: Path, tmp_path: Path) -> None:
    """Each has its result, by its name, and the one that fails stops none and is told."""
    made = run(folder, "--server", comfyui_server.url, "--workflow", SLOW, "--to", str(tmp_path / "results"))
    lines = made.stdout.splitlines()
    assert made.returncode == 1
    assert made.stderr.strip() == "1 of 3 videos failed."
    assert [line.partition(":")[0] for line in lines] == ["a b.mp4", "broken.mp4", "Été 100%.MP4"]
    assert "failed" in lines[1]
    results = sorted((tmp_path / "results").iterdir())
    assert [frames(path) for path in results] == [12, 16]
    assert [path.name.partition("_0")[0] for path in results] == ["a b", "Été 100_"]
    assert all(str(path) in lines[number] for path, number in zip(results, (0, 2), strict=True))


def test_it_says_where_the_results_are(comfyui_server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "one.mp4").write_bytes(video_bytes(2, 96, 96))
    made = run(tmp_path, "--server", comfyui_server.url)
    assert (made.returncode, made.stderr) == (0, "")
    name, _, place = made.stdout.strip().partition(": the server's output folder/")
    assert name == "one.mp4"
    assert frames(comfyui_server.output / place) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--workflow", "no_such_workflow"],
            "there is no workflow no_such_workflow. Expected a file, or one of: amt_01_",
        ),
        (
            ["--workflow", "amt_04_frame_interpolation_two_images_to_2_seconds"],
            "expected a workflow with one node that",
        ),
        (["--server", "http://127.0.0.1:9"], "No answer from ComfyUI at http://127.0.0.1:9"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_uploaded(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "one.mp4").write_bytes(video_bytes(2, 96, 96))
    made = run(tmp_path, *options)
    assert made.returncode == 1
    assert said in made.stderr
    assert "Traceback" not in made.stderr


def test_a_folder_without_videos(tmp_path: Path) -> None:
    assert "has no videos. Expected files that end in .mp4," in run(tmp_path).stderr
    assert "is no folder" in run(tmp_path / "missing").stderr


def test_a_server_that_takes_no_large_files(start_server: ServerStarter, tmp_path: Path) -> None:
    server = start_server(arguments=["--max-upload-size", "0.001"])
    (tmp_path / "one.mp4").write_bytes(video_bytes(24, 256, 256) + bytes(5000))
    made = run(tmp_path, "--server", server.url)
    assert made.returncode == 1
    assert "higher --max-upload-size" in made.stdout


def test_a_workflow_of_the_editor_is_no_workflow_of_the_api(tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    path.write_text((ROOT / "workflows" / f"{SLOW}.json").read_text("utf-8"))
    with pytest.raises(WorkflowError, match="is no workflow in API format"):
        read_workflow(str(path))


def test_the_given_workflow_is_not_changed() -> None:
    workflow = read_workflow(SLOW)
    before = json.dumps(workflow)
    prompt = for_video(workflow, "folder/a.mp4", "a")
    assert json.dumps(workflow) == before
    assert prompt["1"]["inputs"]["file"] == "folder/a.mp4"
    assert prompt["4"]["inputs"]["filename_prefix"] == "video/a"
