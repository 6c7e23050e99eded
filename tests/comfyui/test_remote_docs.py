"""The commands of docs/remote.md, run as they stand against a real server; and the workflows that it speaks of."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import av
import pytest
from fal_stand_in import StandIn
from loopback import serve
from setup.install import ROOT
from setup.server import LocalServer

TEXT = (ROOT / "docs" / "remote.md").read_text("utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
EXAMPLE = "https://storage.googleapis.com/falserverless/model_tests/amt-interpolation/"


@pytest.fixture
def pictures() -> Iterator[str]:
    """The address of a server that has the endpoint's example frames: the demo pictures will do."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = {"/start.png": "amt_demo_a.png", "/end.png": "amt_demo_b.png"}[self.path]
            self.send_response(200)
            self.end_headers()
            self.wfile.write((ROOT / "media" / name).read_bytes())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serve(Handler) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def pack_copy(tmp_path: Path) -> Path:
    """What the commands read and write, so that nothing lands in the repository."""
    for name in ("media", "workflows"):
        shutil.copytree(ROOT / name, tmp_path / name)
    workflow = tmp_path / "workflows" / "api" / "amt_13_frame_interpolation_frames_by_url.json"
    workflow.write_text(fewer_passes(workflow.read_text("utf-8")), "utf-8")
    return tmp_path


def fewer_passes(text: str) -> str:
    """Three frames instead of seventeen, to be quick."""
    assert '"recursive_interpolation_passes": 4' in text
    return text.replace('"recursive_interpolation_passes": 4', '"recursive_interpolation_passes": 1')


def block(*needles: str) -> str:
    [found] = [text for text in BLOCKS if all(needle in text for needle in needles)]
    return found


def sh(server: LocalServer, pictures: str, folder: Path, *blocks: str) -> str:
    script = "\n".join([BLOCKS[0], *blocks])
    for there, here in (("http://127.0.0.1:8188", server.url), (EXAMPLE, pictures)):
        script = script.replace(there, here)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


SUBMITS = {
    "a workflow of the pack": (("amt_13_frame_interpolation_frames_by_url.json",), ".mp4"),
    "URLs": ((EXAMPLE,), ".mp4"),
    "data URIs": (("data_uri",), ".png"),
}


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")
class TestCommands:
    @pytest.mark.parametrize("name", SUBMITS)
    def test_submit_and_result(self, remote_server: LocalServer, pictures: str, pack_copy: Path, name: str) -> None:
        needles, suffix = SUBMITS[name]
        submit = block(*needles)
        submit = fewer_passes(submit) if name == "URLs" else submit
        said = sh(remote_server, pictures, pack_copy, submit, block('grep -Eq \'"status"'))
        assert json.loads(said)["prompt_id"]
        [made] = [path for path in pack_copy.iterdir() if path.is_file()]
        assert made.suffix == suffix
        if suffix == ".mp4":
            assert frames_in(made) == 3

    def test_upload(self, remote_server: LocalServer, pictures: str, pack_copy: Path) -> None:
        answer = json.loads(sh(remote_server, pictures, pack_copy, block("/upload/image")))
        assert (remote_server.input / answer["name"]).read_bytes() == (ROOT / "media/amt_demo_a.png").read_bytes()

    def test_status_logs_and_cancel(self, remote_server: LocalServer, pictures: str, pack_copy: Path) -> None:
        submit = block(EXAMPLE).replace('"recursive_interpolation_passes": 4', '"recursive_interpolation_passes": 8')
        said = sh(remote_server, pictures, pack_copy, submit, block("/queue"), block("/cancel"))
        submitted, job, queue, logs, cancelled = _json_values(said)
        assert job["id"] == submitted["prompt_id"]
        assert job["status"] in ("pending", "in_progress")
        assert set(queue) == {"queue_running", "queue_pending"}
        assert "got prompt" in logs
        assert cancelled == {"cancelled": True}

    def test_every_command_of_the_page_is_run_here(self) -> None:
        run = [block(*needles) for needles, _ in SUBMITS.values()]
        run += [block('grep -Eq \'"status"'), block("/upload/image"), block("/queue"), block("/cancel")]
        assert sorted(run) == sorted(BLOCKS[1:])
        assert TEXT.count("curl ") == sum(text.count("curl ") for text in BLOCKS)


def _json_values(text: str) -> list[Any]:
    decoder, values, place = json.JSONDecoder(), [], 0
    while text[place:].strip():
        place += len(text[place:]) - len(text[place:].lstrip())
        value, place = decoder.raw_decode(text, place)
        values.append(value)
    return values


def test_the_limits_that_the_page_names() -> None:
    from amt_frame_interpolation.remote import clip, fal_queue, fal_upload, frames, request, result
    from amt_frame_interpolation.remote.fetch import MIB, Rules

    rules, limits = Rules(), fal_queue.Limits()
    said = " ".join(TEXT.split())
    for text in (
        f"{frames.MAX_FRAMES} frames, {rules.max_bytes // MIB} MiB a file and {rules.max_total // MIB} MiB in all, "
        f"{frames.MAX_PIXELS >> 20} megapixels a frame and {frames.MAX_TOTAL_PIXELS >> 20} in all, "
        f"{rules.max_redirects} redirects, {rules.stall} seconds of silence, {rules.seconds / 60:g} minutes",
        f"at most {rules.parallel} at a time",
        f"Up to {fal_upload.INLINE_BYTES >> 10} KiB in all",
        f"({limits.queue / 60:g} minutes in the queue, {limits.total / 3600:g} hours in all)",
        f"up to {result.RULES.max_bytes // MIB} MiB",
        f"up to {clip.MAX_IMAGE_BYTES >> 30} GiB of them",
        f"2 to {request.MAX_FRAMES} frames, 1 to {request.MAX_PASSES} passes, 1 to {request.MAX_FPS} frames a second, "
        f"{fal_upload.MAX_FILE_BYTES // MIB} MiB a file and {fal_upload.MAX_BYTES // MIB} MiB to upload",
    ):
        assert text in said


def test_the_workflow_for_fal(remote_server: LocalServer, fal_service: StandIn) -> None:
    fal_service.reset()
    prompt = json.loads((ROOT / "workflows" / "api" / "amt_14_frame_interpolation_on_fal_ai.json").read_text("utf-8"))
    for picture in ("amt_demo_a.png", "amt_demo_b.png"):
        assert (remote_server.input / picture).exists()
    [file] = remote_server.queue(prompt).files
    assert frames_in(remote_server.output / file.subfolder / file.filename) == 9  # what the stand-in delivers
    [submit] = fal_service.submits
    assert submit.json["output_fps"] == 24
    assert submit.json["recursive_interpolation_passes"] == 4
    assert len(submit.json["frames"]) == 2
