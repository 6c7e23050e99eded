"""Faults while a video is made, on a real server: a clear error, no file left behind, and the next run goes."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numbered
import pytest
import torch
from amt_frame_interpolation.video.encode import VideoWriter
from servers import ServerStarter
from setup.client import NodeFailedError, RunInterruptedError
from setup.server import LocalServer

LONG = 1200
"""Frames of a clip that takes a while."""
SHORT = 3

numbers = itertools.count(1)


def prompt(file: str) -> dict[str, Any]:
    """Twice the frames of a file of the input folder; never the same as before, so that no result is reused."""
    video = {"interp_model": ["2", 0], "video": ["1", 0], "time": "smooth", "output_fps": next(numbers)}
    save = {"video": ["3", 0], "filename_prefix": "fault", "format": "auto", "codec": "auto"}
    return {
        "1": {"class_type": "LoadVideo", "inputs": {"file": file}},
        "2": {"class_type": "AMTModelLoader", "inputs": {"model_name": "amt-s-open.safetensors", "precision": "auto"}},
        "3": {
            "class_type": "AMTInterpolateVideo",
            "inputs": video | {"recursive_interpolation_passes": 1, "slow_motion_sound": "stretch"},
        },
        "4": {"class_type": "SaveVideo", "inputs": save},
    }


def place_clips(base: Path) -> None:
    folder = base / "input"
    sound = numbered.tones(LONG / 24, 8000)
    numbered.write(folder / "long.mp4", range(LONG), sound=sound, sound_rate=8000)
    numbered.write(folder / "short.mp4", range(SHORT))
    with VideoWriter(folder / "large.mp4", rate=Fraction(24)) as writer:
        for _ in range(60):
            writer.write(torch.rand(128, 128, 3))
    whole = numbered.write(folder / "whole.mkv", range(96))
    (folder / "half.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    damaged = numbered.write(folder / "damaged.avi", range(48), codec="mpeg4", b_frames=0)
    numbered.damage(damaged, 24)


def files(server: LocalServer) -> set[Path]:
    return {path for path in (server.base / "temp").rglob("*") if path.is_file()}


def until_a_file_is_begun(server: LocalServer, before: set[Path], seconds: float = 120) -> Path:
    """The file that is being made, some frames after its beginning."""
    deadline = time.monotonic() + seconds
    while not (new := files(server) - before):
        assert time.monotonic() < deadline, f"no file was begun:\n{server.log_text()}"
        time.sleep(0.1)
    time.sleep(2)
    return new.pop()


def goes_on(server: LocalServer, tmp_path: Path) -> None:
    """The next run gives what it should."""
    (file,) = server.queue(prompt("short.mp4")).files
    made = [number for _, number in numbered.read(server.download(file, tmp_path))]
    assert made[::2] == list(range(SHORT))
    assert len(made) == 2 * SHORT


@pytest.fixture(scope="module")
def server(start_server: ServerStarter) -> LocalServer:
    return start_server(prepare=place_clips)


def test_an_interruption(server: LocalServer, tmp_path: Path) -> None:
    before = files(server)
    run = server.submit(prompt("long.mp4"))
    until_a_file_is_begun(server, before)
    server.interrupt()
    with pytest.raises(RunInterruptedError, match="AMTInterpolateVideo"):
        server.wait(run)
    assert files(server) <= before  # those of runs before go when nothing refers to them any more
    goes_on(server, tmp_path)


def test_temporary_videos_do_not_pile_up(server: LocalServer) -> None:
    for _ in range(4):
        server.queue(prompt("short.mp4"))
    assert len({path for path in files(server) if path.name.startswith("amt_")}) <= 1


def test_a_video_that_another_comfyui_removed_is_made_again(server: LocalServer, tmp_path: Path) -> None:
    """A second ComfyUI on the same folders empties the folder of temporary files when it starts."""
    wanted = prompt("short.mp4")
    server.queue(wanted)
    for path in files(server):
        path.unlink()
    wanted["4"]["inputs"]["filename_prefix"] = "again"
    (file,) = server.queue(wanted).files
    assert len(numbered.read(server.download(file, tmp_path))) == 2 * SHORT


def test_a_file_that_is_cut_off(server: LocalServer, tmp_path: Path) -> None:
    before = files(server)
    message = r"video: the video is incomplete: it says that it lasts 4\.00 s, but its frames end at"
    with pytest.raises(NodeFailedError, match=message) as caught:
        server.queue(prompt("half.mkv"))
    assert caught.value.node_id == "3"
    assert files(server) <= before  # those of runs before go when nothing refers to them any more
    goes_on(server, tmp_path)


def test_a_damaged_packet_costs_its_own_frame_alone(server: LocalServer, tmp_path: Path) -> None:
    result = server.queue(prompt("damaged.avi"))
    (file,) = result.files
    assert len(numbered.read(server.download(file, tmp_path))) == 96
    assert "1 damaged frame was concealed or replaced" in result.outputs["3"]["text"][0]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_a_full_disk(server: LocalServer, tmp_path: Path) -> None:
    """A limit on the size of files stands for it: writing fails in the same place."""
    import resource

    before = files(server)
    most = server.log_size() + 100_000  # the server's log is a file as well
    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (most, hard))
    try:
        with pytest.raises(
            NodeFailedError, match=r"could not be written to .*MiB are free there.*Free some space"
        ) as caught:
            server.queue(prompt("large.mp4"))
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.node_id == "3"
    assert files(server) <= before  # those of runs before go when nothing refers to them any more
    goes_on(server, tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_what_a_server_leaves_that_ends_while_a_video_is_made(start_server: ServerStarter, tmp_path: Path) -> None:
    """Killed, it leaves a file, which the next one removes; after Ctrl-C, it makes no more frames and leaves none."""
    base = tmp_path / "base"
    server = start_server(base=base, prepare=place_clips)
    server.submit(prompt("long.mp4"))
    begun = until_a_file_is_begun(server, set())
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()
    assert begun.exists()  # nobody was there to remove it

    server = start_server(base=base)
    assert files(server) == set()
    goes_on(server, tmp_path)

    server.submit(prompt("long.mp4"))
    begun = until_a_file_is_begun(server, set())
    os.kill(server.process.pid, signal.SIGINT)  # Ctrl-C
    server.process.wait(120)
    assert not begun.exists()
    made = list((server.base / "output").rglob("fault*"))
    assert len(made) == 1, "the long video was made to its end"  # the one of goes_on
