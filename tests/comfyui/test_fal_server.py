"""The fal.ai nodes in a real ComfyUI, through POST /prompt; the service is the stand-in, over TLS, on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
from fal_stand_in import TOKEN, Request, StandIn, default_script
from PIL import Image
from setup.client import NodeFailedError, RunInterruptedError
from setup.server import LocalServer
from tiny_video import video_bytes

KEY = "0a1b2c3d-key-id:5e6f7a8b9c-key-secret"
"""Of `remote_server`."""
SECRETS = (*KEY.split(":"), TOKEN, "/files/in/", "/files/result/")
PASSES, FRAMES, EXPECTED = 2, 3, 9


@pytest.fixture(scope="module")
def service(fal_service: StandIn) -> StandIn:
    return fal_service


@pytest.fixture(scope="module")
def server(remote_server: LocalServer) -> LocalServer:
    return remote_server


@pytest.fixture
def fal(service: StandIn) -> StandIn:
    """The service, which does every job at once unless a test says otherwise."""
    service.reset()
    service.script = service.script[-1:]
    return service


@pytest.fixture(scope="module", autouse=True)
def nothing_secret_is_left(request: pytest.FixtureRequest, server: LocalServer, service: StandIn) -> Iterator[None]:
    """After all of these runs, good and bad: files, metadata, history, log; and who saw what at the other side."""
    everything: list[Request] = []
    service.reset = _remembering(service, everything)  # type: ignore[method-assign]
    yield
    left = {path: path.read_bytes() for path in server.base.rglob("*") if path.is_file() and not path.is_symlink()}
    assert any(path.suffix == ".mp4" for path in left)
    assert server.log in left
    left[Path("history")] = server.request("/history")
    left[Path("queue")] = server.request("/queue")
    left[Path("object_info")] = server.request("/object_info/AMTFalInterpolate")
    for path, content in left.items():
        for secret in SECRETS:
            assert secret.encode() not in content, f"{secret} in {path}"
    for sent in [*everything, *service.requests]:
        told = json.dumps(sent.headers) + sent.path + sent.body.decode("latin1")
        if KEY.split(":")[1] in told:
            assert sent.host in ("queue.fal.run", "rest.fal.ai")
        if TOKEN in told:
            assert sent.host == "v3.fal.media"


def _remembering(service: StandIn, everything: list[Request]) -> Callable[[], None]:
    reset = service.reset

    def remember() -> None:
        everything.extend(service.requests)
        reset()

    return remember


class Listener:
    """What the server tells a browser while a workflow runs."""

    def __init__(self, server: LocalServer) -> None:
        self._url = f"{server.url}/ws?clientId={server.client_id}".replace("http", "ws", 1)
        self.heard: list[str] = []
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()))

    async def _listen(self) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(self._url, max_msg_size=0) as socket:
            self._ready.set()
            while not self._stop.is_set():
                try:
                    message = await socket.receive(timeout=0.2)
                except asyncio.TimeoutError:
                    continue
                content = message.data
                self.heard.append(content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content))

    def __enter__(self) -> Listener:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.3)
        self._stop.set()
        self._thread.join()
        for text in self.heard:
            assert not any(secret in text for secret in SECRETS)


def graph(seed: int, *, size: int = 64, prefix: str = "fal", **inputs: Any) -> dict[str, Any]:
    """Frames of a colour of their own, so that no test finds another one's result in ComfyUI's cache."""
    frames = {"width": size, "height": 48, "batch_size": FRAMES, "color": seed}
    settings = {"output_fps": 24, "recursive_interpolation_passes": PASSES, **inputs}
    video = {"filename_prefix": prefix, "format": "auto", "codec": "auto"}
    return {
        "1": {"class_type": "EmptyImage", "inputs": frames},
        "2": {"class_type": "AMTFalInterpolate", "inputs": {"images": ["1", 0], **settings}},
        "3": {"class_type": "SaveVideo", "inputs": {"video": ["2", 0], **video}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["2", 1], "filename_prefix": prefix}},
    }


def noise(server: LocalServer, size: int = 256) -> str:
    """An image too large for a data URI. Returns its name in the input folder."""
    pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(server.input / "noise.png")
    return "noise.png"


def failure(server: LocalServer, prompt: dict[str, Any]) -> str:
    with pytest.raises(NodeFailedError) as caught:
        server.queue(prompt)
    shown = json.dumps(server.get("/history"))
    assert not any(secret in shown for secret in SECRETS)
    return caught.value.exception_message


def test_frames_go_out_and_a_video_and_its_frames_come_back(server: LocalServer, fal: StandIn) -> None:
    fal.script = default_script()
    with Listener(server) as listener:
        files = server.queue(graph(1)).files
    assert len(files) == 1 + EXPECTED
    with av.open(str(server.output / files[0].filename)) as container:
        assert sum(1 for _ in container.decode(video=0)) == EXPECTED
    with Image.open(server.output / files[-1].filename) as picture:
        assert picture.size == (64, 48)
    [submit] = fal.submits
    assert {name: submit.json[name] for name in ("output_fps", "recursive_interpolation_passes")} == {
        "output_fps": 24,
        "recursive_interpolation_passes": PASSES,
    }
    assert [frame["url"][:22] for frame in submit.json["frames"]] == ["data:image/png;base64,"] * FRAMES
    assert fal.cancels == []
    heard = "\n".join(listener.heard)
    for stage in ("in the queue, 2 ahead", "loading", "interpolating", "9 frames of 64 x 48"):
        assert stage in heard
    assert '"progress"' in heard


def test_the_same_workflow_is_paid_once_and_there_is_a_way_to_ask_again(server: LocalServer, fal: StandIn) -> None:
    server.queue(graph(2))
    server.queue(graph(2, prefix="again"))
    assert len(fal.submits) == 1
    server.queue(graph(2, ask_again=1))
    assert len(fal.submits) == 2
    server.queue(graph(2, output_fps=30))
    assert len(fal.submits) == 3


def test_large_frames_are_uploaded(server: LocalServer, fal: StandIn) -> None:
    prompt = graph(3)
    prompt["1"] = {"class_type": "LoadImage", "inputs": {"image": noise(server)}}
    prompt["5"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": FRAMES}}
    prompt["2"]["inputs"]["images"] = ["5", 0]
    server.queue(prompt)
    assert len(fal.uploads) == FRAMES
    assert [frame["url"] for frame in fal.submits[0].json["frames"]] == list(fal.uploads)
    assert all(data.startswith(b"\x89PNG") and b"tEXt" not in data for data in fal.uploads.values())


def test_a_video_goes_out_and_a_video_comes_back(server: LocalServer, fal: StandIn) -> None:
    source = video_bytes(FRAMES, 320, 240, noise=True, comment="WORKFLOW-TEXT")
    assert b"WORKFLOW-TEXT" in source
    (server.input / "source.mp4").write_bytes(source)
    prompt = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "source.mp4"}},
        "2": {
            "class_type": "AMTFalInterpolateVideo",
            "inputs": {"video": ["1", 0], "output_fps": 24, "recursive_interpolation_passes": PASSES},
        },
        "3": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["2", 0], "filename_prefix": "v", "format": "auto", "codec": "auto"},
        },
    }
    [file] = server.queue(prompt).files
    assert (server.output / file.filename).exists()
    [submit] = fal.submits
    assert submit.path == "/fal-ai/amt-interpolation"
    [(url, data)] = fal.uploads.items()
    assert submit.json == {"video_url": url, "output_fps": 24, "recursive_interpolation_passes": PASSES}
    assert b"WORKFLOW-TEXT" not in data


def test_another_number_of_frames_is_a_warning(server: LocalServer, fal: StandIn) -> None:
    start = server.log_size()
    assert len(server.queue(graph(4, recursive_interpolation_passes=3)).files) == 1 + EXPECTED
    assert "9 frames of 64 x 48; 17 were expected" in server.log_text(start)


@pytest.mark.parametrize(
    ("seed", "script"),
    [(10, [{"status": "IN_QUEUE", "queue_position": 3}]), (11, [{"status": "IN_PROGRESS", "logs": None}])],
    ids=["in the queue", "running"],
)
def test_interrupt_midway(server: LocalServer, fal: StandIn, seed: int, script: list[dict[str, Any]]) -> None:
    fal.script = script
    prompt_id = server.submit(graph(seed))
    fal.wait_for(lambda: fal.jobs and fal.jobs["job-0"].polls, 30)
    interrupt(server, prompt_id)
    fal.wait_for(lambda: fal.cancels)
    assert len(fal.submits) == len(fal.cancels) == 1
    assert fal.running() == []
    fal.reset()
    assert len(server.queue(graph(seed + 100)).files) == 1 + EXPECTED  # the next one has its turn


def test_interrupt_while_the_submit_hangs(server: LocalServer, fal: StandIn) -> None:
    held = fal.hold("POST", r"queue\.fal\.run/.*")
    prompt_id = server.submit(graph(12))
    fal.wait_for(lambda: fal.submits, 30)
    interrupt(server, prompt_id)
    assert not held.outlasted
    assert fal.cancels == []
    assert held.until
    held.until.set()
    fal.wait_for(lambda: fal.cancels)  # as soon as the answer says what there is to cancel
    assert len(fal.submits) == len(fal.cancels) == 1
    assert fal.running() == []


def interrupt(server: LocalServer, prompt_id: str) -> None:
    server.interrupt()
    while not server.get(f"/history/{prompt_id}"):
        time.sleep(0.01)
    with pytest.raises(RunInterruptedError):
        server.wait(prompt_id)


@pytest.mark.parametrize(
    ("seed", "fault", "words"),
    [
        (20, ("POST", r"queue\.fal\.run/.*", {"drop": True}), ["may have accepted it", "not sent again"]),
        (
            21,
            ("POST", r"queue\.fal\.run/.*", {"status": 401, "body": {"detail": f"no such key: {KEY}"}}),
            ["HTTP 401", "FAL_KEY"],
        ),
        (
            22,
            (
                "GET",
                r"queue\.fal\.run/.*/job-0",
                {"status": 422, "body": {"detail": [{"loc": ["frames"], "msg": "bad"}]}},
            ),
            ["the fal.ai job failed: HTTP 422, frames: bad"],
        ),
        (23, ("GET", r"v3\.fal\.media/.*", {"status": 200, "body": "<html>"}), ["no MP4, WebM or GIF video"]),
        (24, ("GET", r"v3\.fal\.media/.*", {"status": 404}), ["HTTP 404"]),
    ],
    ids=["dropped submit", "wrong key", "failed job", "no video", "lost video"],
)
def test_failures_are_said_plainly(
    server: LocalServer, fal: StandIn, seed: int, fault: tuple[str, str, dict[str, Any]], words: list[str]
) -> None:
    method, url, how = fault
    fal.fault(method, url, times=9, **how)
    message = failure(server, graph(seed))
    for word in words:
        assert word in message
    assert len(fal.submits) == 1


def test_a_status_that_stays_bad_leaves_nothing_running(server: LocalServer, fal: StandIn) -> None:
    fal.fault("GET", r".*/status", status=404, times=9, body={"detail": "no such request"})
    assert "no such request" in failure(server, graph(25))
    fal.wait_for(lambda: fal.cancels)
    assert fal.running() == []


@pytest.mark.parametrize(
    ("seed", "inputs", "word"),
    [
        (30, {"recursive_interpolation_passes": ["9", 0]}, "expected 1 to 6"),
        (31, {"output_fps": ["9", 0]}, "expected 1 to 240"),
    ],
)
def test_linked_values_are_checked(
    server: LocalServer, fal: StandIn, seed: int, inputs: dict[str, Any], word: str
) -> None:
    prompt = graph(seed, **inputs)
    prompt["9"] = {"class_type": "PrimitiveInt", "inputs": {"value": 99999}}
    assert word in failure(server, prompt)
    assert fal.requests == []


def test_one_frame_is_refused_before_anything_is_sent(server: LocalServer, fal: StandIn) -> None:
    prompt = graph(32)
    prompt["1"]["inputs"]["batch_size"] = 1
    assert "expected 2 to" in failure(server, prompt)
    assert fal.requests == []


# --- without the key, without fal-client, switched off


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("key") / "key"


@pytest.fixture(scope="module")
def bare_server(key_file: Path, start_server: Callable[..., LocalServer]) -> LocalServer:
    """A key file that is not there yet, and a fal-client that cannot be imported."""
    (key_file.parent / "fal_client.py").write_text("raise ImportError('blocked by the test')\n")
    path = os.pathsep.join(filter(None, [str(key_file.parent), os.environ.get("PYTHONPATH")]))
    return start_server(env={"PYTHONPATH": path, "FAL_KEY": "", "FAL_KEY_FILE": str(key_file)})


def test_without_a_key_or_the_client_the_node_says_what_to_do(bare_server: LocalServer, key_file: Path) -> None:
    assert "FAL_KEY_FILE could not be read" in failure(bare_server, graph(1))
    key_file.touch(0o600)
    key_file.write_text(KEY)
    assert 'pip install "fal-client>=1.0.3,<2"' in failure(bare_server, graph(1))  # read anew, without a restart
    for node in ("AMTLoadFrames", "AMTModelLoader", "AMTInterpolate", "AMTImagesToVideo"):
        assert bare_server.object_info(node)


def test_amt_fal_off_leaves_the_remote_nodes_out(comfy: object, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    from amt_frame_interpolation.nodes import fal as module

    assert [node.__name__ for node in module.NODES] == ["AMTFalInterpolate", "AMTFalInterpolateVideo"]
    monkeypatch.setenv("AMT_FAL", "Off ")
    assert importlib.reload(module).NODES == []
    monkeypatch.delenv("AMT_FAL")
    importlib.reload(module)
