"""The life of a fal.ai job: the real fal-client against a stand-in of the service, over TLS, on loopback."""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fal_client.client
import pytest
from amt_frame_interpolation.remote.errors import RemoteError
from amt_frame_interpolation.remote.fal_queue import Job, Limits
from amt_frame_interpolation.remote.fal_upload import EXPIRY, INLINE_BYTES
from amt_frame_interpolation.remote.request import FRAMES_APP, VIDEO_APP, File
from amt_frame_interpolation.remote.result import download
from fal_stand_in import TOKEN, Fault, StandIn, stand_in

KEY = "0a1b2c3d-key-id:5e6f7a8b9c-key-secret"
FAST = Limits(interval=0.02, send=5, call=2, cancel=3)
STATUS, RESULT = (rf"queue\.fal\.run/fal-ai/amt-interpolation/requests/job-0{tail}" for tail in ("/status", ""))
SUBMIT = r"queue\.fal\.run/fal-ai/.*"
TOKEN_URL = r"rest\.fal\.ai/storage/auth/token"
UPLOAD = r"v3\.fal\.media/files/upload"

small = [File("00000.png", "image/png", b"first"), File("00001.png", "image/png", b"second")]
large = [File("00000.png", "image/png", bytes(INLINE_BYTES)), File("00001.png", "image/png", b"second")]


class Interrupt(BaseException):
    """Like ComfyUI's, not an Exception."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with stand_in(tmp_path_factory.mktemp("fal"), video=b"the video") as service:
        yield service


@pytest.fixture(autouse=True)
def fal(service: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    for name in [name for name in os.environ if name.startswith("FAL_") or name.upper() == "ALL_PROXY"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FAL_HOME_DIR", str(tmp_path / "fal-home"))
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    service.reset()
    yield service
    settle()
    check_who_saw_what(service)


def settle() -> None:
    """Nothing of a run is left in this process."""
    end = time.monotonic() + 15
    while any(thread.name.startswith("amt-") for thread in threading.enumerate()):
        assert time.monotonic() < end, f"still there: {threading.enumerate()}"
        time.sleep(0.01)


def check_who_saw_what(service: StandIn) -> None:
    """The key went to the queue and the token service only, the token to the upload host only."""
    for request in service.requests:
        told = json.dumps(request.headers) + request.path
        if KEY.split(":")[1] in told:
            assert request.host in ("queue.fal.run", "queue.falrun.com", "rest.fal.ai"), f"key sent to {request}"
        if TOKEN in told:
            assert request.host == "v3.fal.media", f"token sent to {request}"
        assert KEY.encode() not in request.body


def run(
    files: list[File] = small,
    *,
    limits: Limits = FAST,
    check: Callable[[], None] = lambda: None,
    says: list[str] | None = None,
    app: str = FRAMES_APP,
) -> bytes:
    said = [] if says is None else says
    return Job(KEY, app, limits=limits).run(
        lambda: files,
        lambda urls: {"frames": [{"url": url} for url in urls], "output_fps": 24},
        lambda answer, stop: download(answer, stop=stop),
        report=lambda text, done: said.append(text),
        check=check,
    )


def fails(*words: str, **how: Any) -> str:
    """Runs, expects an error that holds all `words` and nothing that must not be shown; returns it."""
    with pytest.raises(RemoteError) as caught:
        run(**how)
    message = str(caught.value)
    for word in words:
        assert word in message
    shown = message + "".join(traceback.format_exception(caught.value))
    for secret in (*KEY.split(":"), TOKEN, "http://", "https://"):
        assert secret not in shown
    assert len(message) < 700
    return message


# --- when all goes well


def test_the_whole_life_of_a_job(fal: StandIn) -> None:
    says: list[str] = []
    assert run(says=says) == b"the video"
    [submit] = fal.submits
    assert submit.path == "/fal-ai/amt-interpolation/frame-interpolation"
    assert submit.headers["authorization"] == f"Key {KEY}"
    assert submit.headers["x-fal-store-io"] == "0"
    assert float(submit.headers["x-fal-request-timeout"]) == FAST.queue
    assert json.loads(submit.headers["x-fal-object-lifecycle-preference"]) == {"expiration_duration_seconds": EXPIRY}
    assert submit.json["output_fps"] == 24
    assert submit.json["frames"][0]["url"] == "data:image/png;base64,Zmlyc3Q="
    assert fal.cancels == []
    assert not fal.uploads
    [result] = fal.made("GET", r"v3\.fal\.media/files/result/out\.mp4")
    assert "authorization" not in result.headers
    texts = " | ".join(says)
    for stage in ("submitting", "in the queue, 2 ahead", "in the queue, 0 ahead", "loading", "interpolating"):
        assert stage in texts
    assert "<b>" not in texts


def test_the_video_endpoint_shares_the_queue_address(fal: StandIn) -> None:
    assert run(app=VIDEO_APP) == b"the video"
    assert [submit.path for submit in fal.submits] == ["/fal-ai/amt-interpolation"]


def test_large_frames_are_uploaded_with_an_expiry(fal: StandIn) -> None:
    assert run(large) == b"the video"
    assert list(fal.uploads.values()) == [file.data for file in large]
    uploads = fal.made("POST", UPLOAD)
    for request, file in zip(uploads, large, strict=True):
        assert request.headers["content-type"] == "image/png"
        assert request.headers["x-fal-file-name"] == file.name
        assert json.loads(request.headers["x-fal-object-lifecycle"]) == {"expiration_duration_seconds": EXPIRY}
    assert [frame["url"] for frame in fal.submits[0].json["frames"]] == list(fal.uploads)
    assert len(fal.made("POST", TOKEN_URL + r".*")) == 1
    assert fal.connected.count("v3.fal.media") == 2  # all uploads over one connection, and the download


def test_each_line_of_the_log_is_shown_once(fal: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"timestamp": str(number), "message": f"step {number}"} for number in range(4)]
    windows = [lines[:1], lines[:1], lines[:2], lines[1:3], lines[2:4]]
    script = [{"status": "IN_PROGRESS", "logs": window} for window in windows]
    monkeypatch.setattr(fal, "script", [*script, {"status": "IN_PROGRESS", "logs": None}, fal.script[-1]])
    says: list[str] = []
    run(says=says)
    assert [text for text in says if text.startswith("step")] == ["step 0", "step 1", "step 2", "step 3"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open sockets by /proc")
def test_two_runs_leave_no_open_connections(fal: StandIn) -> None:
    def sockets() -> int:
        gc.collect()
        return len([1 for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and "socket" in os.readlink(fd)])

    run(large)
    before = sockets()
    for _ in range(3):
        run(large)
    fal.wait_for(lambda: sockets() <= before)  # the stand-in's ends are in this process, too


# --- one submit, whatever the network does


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"drop": True}, ["may have", "not sent again", "dashboard"]),
        ({"drop": True, "before": True}, ["may have", "not sent again"]),
        ({"delay": 3.0}, ["may have", "ReadTimeout"]),
        ({"status": 200, "body": "<html>"}, ["unreadable", "not sent again"]),
        ({"status": 200, "body": {"no": "id"}}, ["unreadable"]),
        ({"status": 200, "body": {"request_id": "../../other/app"}}, ["unreadable"]),
        ({"status": 200, "body": {"request_id": 7}}, ["unreadable"]),
        ({"status": 307, "headers": {"Location": "https://queue.fal.run/fal-ai/x"}}, ["HTTP 307"]),
        ({"status": 307, "headers": {"Location": "https://evil.example/"}}, ["HTTP 307"]),
        ({"status": 408}, ["HTTP 408"]),
        ({"status": 409}, ["HTTP 409"]),
        ({"status": 429, "body": {"detail": "Too many requests"}}, ["HTTP 429", "try again"]),
        ({"status": 500, "body": {"detail": "boom"}}, ["HTTP 500", "boom"]),
        ({"status": 502, "body": "<h1>502 nginx</h1>"}, ["HTTP 502"]),
        ({"status": 503, "body": "<h1>503 nginx</h1>"}, ["HTTP 503"]),
        ({"status": 504, "headers": {"X-Fal-Request-Timeout-Type": "user"}}, ["HTTP 504"]),
        ({"status": 401, "body": {"detail": f"Cannot access: {KEY} is no key"}}, ["HTTP 401", "FAL_KEY"]),
        ({"status": 403, "body": {"detail": "User is locked. Reason: Exhausted balance."}}, ["HTTP 403", "Exhausted"]),
        (
            {
                "status": 422,
                "body": {
                    "detail": [
                        {"loc": ["body", "frames", 0], "msg": "bad image at https://v3.fal.media/x", "input": "SECRET"}
                    ]
                },
            },
            ["HTTP 422", "body.frames.0: bad image at (address)"],
        ),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items())[:50] if isinstance(value, dict) else "",
)
def test_a_submit_is_sent_once(fal: StandIn, fault: dict[str, Any], words: list[str]) -> None:
    fal.fault("POST", SUBMIT, times=99, **fault)
    message = fails(*words, limits=Limits(interval=0.02, send=1, call=1, cancel=1))
    assert len(fal.submits) == 1
    assert "SECRET" not in message
    assert fal.made("GET", r"evil\.example/.*") == []


def test_the_library_itself_would_submit_twice(fal: StandIn) -> None:
    """Why the POST is not left to it. When this fails, the library has changed and Job._submit may be simplified."""
    fal.fault("POST", SUBMIT, times=1, drop=True)
    fal_client.SyncClient(key=KEY).submit(FRAMES_APP, {})
    assert len(fal.submits) == 2


def test_the_backup_domain_stands_in_for_an_unreachable_queue(fal: StandIn) -> None:
    fal.unreachable = {"queue.fal.run"}
    assert run() == b"the video"
    assert [request.host for request in fal.submits] == ["queue.falrun.com"]


def test_without_a_network_nothing_was_submitted(fal: StandIn) -> None:
    fal.unreachable = {"queue.fal.run", "queue.falrun.com"}
    message = fails("no connection", "online")
    assert "may have" not in message
    assert fal.requests == []


def test_a_certificate_of_somebody_else_ends_it(fal: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    fails("no connection", "ConnectError")
    assert fal.requests == []


# --- faults on the way


_HICCUPS: list[dict[str, Any]] = [
    {"status": 503, "body": "plain"},
    {"status": 503, "body": "nginx"},
    {"status": 502, "body": "nginx", "headers": {"x-fal-request-id": "job-0"}},
    {"status": 504, "headers": {"X-Fal-Request-Timeout-Type": "user"}},
    {"status": 409},
    {"status": 500, "body": {"detail": "hiccup"}},
    {"status": 200, "body": "<html>"},
    {"status": 429},
    {"drop": True},
]
_BAD_STATUS: list[dict[str, Any]] = [
    {"status": 200, "body": {"status": "IN_QUEUE"}},
    {"status": 200, "body": {"status": "PAUSED"}},
    {"status": 200, "body": "[]"},
]


@pytest.mark.parametrize(
    ("url", "fault"),
    [*((STATUS, fault) for fault in _HICCUPS + _BAD_STATUS), *((RESULT, fault) for fault in _HICCUPS)],
    ids=str,
)
def test_a_job_survives_two_bad_answers(fal: StandIn, url: str, fault: dict[str, Any]) -> None:
    fal.fault("GET", url, times=2, **fault)
    assert run() == b"the video"
    assert len(fal.submits) == 1
    assert fal.cancels == []


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"status": 503, "body": "plain"}, "HTTP 503"),
        ({"status": 200, "body": "<html>"}, "not understood"),
        ({"status": 200, "body": {"status": "FAILED"}}, "not understood"),
        ({"status": 200, "body": {"status": "IN_QUEUE"}}, "not understood"),
        ({"status": 401, "body": {"detail": "no"}}, "HTTP 401"),
        ({"status": 404, "body": {"detail": "no such request"}}, "HTTP 404, no such request"),
        ({"status": 302, "headers": {"Location": "https://evil.example/status"}}, "unexpected host"),
    ],
    ids=str,
)
def test_a_status_that_stays_bad_cancels_the_job(fal: StandIn, fault: dict[str, Any], word: str) -> None:
    fal.fault("GET", STATUS, times=99, **fault)
    fails(word)
    fal.wait_for(lambda: fal.cancels)
    settle()
    assert len(fal.submits) == len(fal.cancels) == 1
    assert fal.running() == []
    assert not any(request.host == "evil.example" for request in fal.requests)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            {"status": 422, "body": {"detail": [{"loc": ["body", "frames"], "msg": "too few", "input": "SECRET"}]}},
            ["the fal.ai job failed", "HTTP 422", "body.frames: too few"],
        ),
        (
            {"status": 504, "body": {"detail": "Request timed out", "error_type": "request_timeout"}},
            ["HTTP 504, request_timeout, Request timed out"],
        ),
        (
            {"status": 503, "body": {"detail": "gone"}, "headers": {"X-Fal-Error-Type": "runner_disconnected"}},
            ["HTTP 503, runner_disconnected, gone"],
        ),
        ({"status": 500, "body": "<html>"}, ["HTTP 500"]),
        ({"status": 200, "body": "<html>"}, ["not understood"]),
        ({"status": 200, "body": {"video": None}}, ["names no video"]),
        ({"status": 200, "body": {"video": {"url": ""}}}, ["names no video"]),
        ({"status": 200, "body": {"images": [{"url": "https://v3.fal.media/x"}]}}, ["names no video"]),
        ({"status": 200, "body": "[]"}, ["names no video"]),
    ],
    ids=str,
)
def test_a_job_that_failed_is_not_cancelled(fal: StandIn, fault: dict[str, Any], words: list[str]) -> None:
    fal.fault("GET", RESULT, times=99, **fault)
    assert "SECRET" not in fails(*words)
    assert fal.cancels == []


def test_an_error_in_the_status_of_a_completed_job(fal: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    done = {**fal.script[-1], "error": "worker ran out of memory", "error_type": "oom"}
    monkeypatch.setattr(fal, "script", [done])
    fails("worker ran out of memory")


@pytest.mark.parametrize(
    ("url", "fault", "words"),
    [
        (TOKEN_URL, {"status": 401, "body": {"detail": "bad key"}}, ["uploading", "HTTP 401", "FAL_KEY"]),
        (TOKEN_URL, {"status": 500, "body": "<html>"}, ["uploading", "HTTP 500"]),
        (TOKEN_URL, {"drop": True}, ["uploading", "no connection"]),
        (TOKEN_URL, {"status": 200, "body": "<html>"}, ["uploading", "not understood"]),
        (TOKEN_URL, {"status": 307, "headers": {"Location": "https://evil.example/"}}, ["HTTP 307"]),
        (UPLOAD, {"status": 500, "body": "<html>"}, ["uploading", "HTTP 500"]),
        (UPLOAD, {"status": 403, "body": {"detail": "no"}}, ["uploading", "HTTP 403"]),
        (UPLOAD, {"status": 307, "headers": {"Location": "https://evil.example/"}}, ["HTTP 307"]),
        (UPLOAD, {"status": 200, "body": {"access_url": "http://v3.fal.media/x"}}, ["did not say where"]),
        (UPLOAD, {"status": 200, "body": {"access_url": None}}, ["did not say where"]),
        (UPLOAD, {"status": 200, "body": {}}, ["not understood"]),
    ],
    ids=str,
)
def test_nothing_is_submitted_when_an_upload_fails(
    fal: StandIn, url: str, fault: dict[str, Any], words: list[str]
) -> None:
    fal.fault("POST", url, times=99, **fault)
    fails(*words, files=large)
    assert fal.submits == []
    # no fallback, which would carry the key to a storage host
    assert {request.host for request in fal.requests} <= {"rest.fal.ai", "v3.fal.media"}


def test_an_upload_survives_a_dropped_connection(fal: StandIn) -> None:
    fal.fault("POST", UPLOAD, times=2, drop=True)
    assert run(large) == b"the video"
    assert len(fal.submits) == 1


def test_too_much_to_upload_is_refused_before_a_byte_leaves(fal: StandIn) -> None:
    fails("101 MiB", "Nothing was sent", files=[File("video.mp4", "video/mp4", bytes(101 * 2**20))])
    assert fal.requests == []


def test_answers_cannot_move_the_key(fal: StandIn) -> None:
    """The submit's answer names other addresses for status, result and cancel: they are not used."""
    fal.script = [{"status": "IN_PROGRESS", "logs": None}]
    body = {
        "request_id": "job-0",
        **dict.fromkeys(("response_url", "status_url", "cancel_url"), "https://evil.example/"),
    }
    answer = fal.answer

    def lying(request: Any) -> Any:
        status, headers, content = answer(request)
        return (status, headers, json.dumps(body).encode()) if request.method == "POST" else (status, headers, content)

    fal.answer = lying  # type: ignore[method-assign]
    try:
        fails("given up", limits=Limits(interval=0.02, total=1, call=1))
    finally:
        del fal.answer
    settle()
    assert {request.host for request in fal.requests} == {"queue.fal.run"}
    assert len(fal.cancels) == 1


# --- the end before the end


def interrupt_when(condition: Callable[[], Any]) -> Callable[[], None]:
    def check() -> None:
        if condition():
            raise Interrupt

    return check


def interrupted(
    fal: StandIn, condition: Callable[[], Any], files: list[File] = small, *, held: Fault | None = None
) -> None:
    """Runs, interrupts when `condition()` holds, and expects the run to end while the call `held` still hangs."""

    with pytest.raises(Interrupt):
        run(files, check=interrupt_when(condition), limits=Limits(interval=0.02, send=30, call=30, cancel=3))
    if held and held.until:
        assert not held.outlasted
        held.until.set()
    settle()
    assert fal.running() == []


def test_interrupt_in_the_queue(fal: StandIn) -> None:
    fal.script = [{"status": "IN_QUEUE", "queue_position": 1}]
    interrupted(fal, lambda: fal.jobs and fal.jobs["job-0"].polls > 2)
    assert len(fal.submits) == len(fal.cancels) == 1


def test_interrupt_while_running(fal: StandIn) -> None:
    fal.script = [{"status": "IN_PROGRESS", "logs": None}]
    interrupted(fal, lambda: fal.jobs and fal.jobs["job-0"].polls > 2)
    assert len(fal.submits) == len(fal.cancels) == 1


def test_interrupt_while_a_status_call_hangs(fal: StandIn) -> None:
    held = fal.hold("GET", STATUS, times=99)
    interrupted(fal, lambda: fal.made("GET", STATUS + r"\?.*"), held=held)
    assert len(fal.submits) == len(fal.cancels) == 1
    assert len(fal.made("GET", STATUS + r"\?.*")) == 1  # the library's repetitions are stopped as well


def test_interrupt_while_the_submit_is_on_its_way(fal: StandIn) -> None:
    held = fal.hold("POST", SUBMIT)
    interrupted(fal, lambda: fal.submits, held=held)
    assert len(fal.submits) == len(fal.cancels) == 1


def test_interrupt_during_uploads(fal: StandIn) -> None:
    held = fal.hold("POST", UPLOAD, times=9)
    interrupted(fal, lambda: fal.made("POST", UPLOAD), files=[*large, *large], held=held)
    assert fal.submits == fal.cancels == []
    assert len(fal.made("POST", UPLOAD)) == 1


def test_interrupt_while_an_upload_is_being_repeated(fal: StandIn) -> None:
    fal.fault("POST", UPLOAD, drop=True, times=99)
    interrupted(fal, lambda: len(fal.made("POST", UPLOAD)) > 1, files=large)
    assert fal.submits == fal.cancels == []


def test_interrupt_during_the_download(fal: StandIn) -> None:
    held = fal.hold("GET", r"v3\.fal\.media/files/result/.*")
    interrupted(fal, lambda: fal.made("GET", r"v3\.fal\.media/files/result/.*"), held=held)
    assert fal.cancels == []


def test_a_cancel_that_is_lost_is_tried_again(fal: StandIn) -> None:
    fal.script = [{"status": "IN_PROGRESS", "logs": None}]
    fal.fault("PUT", r".*/cancel", drop=True, before=True, times=1)
    interrupted(fal, lambda: fal.jobs and fal.jobs["job-0"].polls > 2)
    assert fal.jobs["job-0"].cancelled == 1


@pytest.mark.parametrize(("status", "word"), [(400, "ALREADY_COMPLETED"), (404, "NOT_FOUND")])
def test_a_refused_cancel_is_reported_in_the_log(
    fal: StandIn, caplog: pytest.LogCaptureFixture, status: int, word: str
) -> None:
    fal.script = [{"status": "IN_PROGRESS", "logs": None}]
    fal.fault("PUT", r".*/cancel", status=status, body={"status": word})
    with pytest.raises(Interrupt):
        run(check=interrupt_when(lambda: fal.jobs and fal.jobs["job-0"].polls > 2))
    settle()
    assert f"cancelling the fal.ai job failed: HTTP {status}, {word} (job job-0)" in caplog.text
    assert len(fal.cancels) == 1


def test_an_error_in_the_progress_display_cancels(fal: StandIn) -> None:
    fal.script = [{"status": "IN_PROGRESS", "logs": None}]

    def report(text: str, done: float) -> None:
        if text == "running":
            raise Interrupt

    with pytest.raises(Interrupt):
        Job(KEY, FRAMES_APP, limits=FAST).run(
            lambda: small, lambda urls: {}, lambda answer, stop: None, report=report, check=lambda: None
        )
    settle()
    assert len(fal.cancels) == 1


@pytest.mark.parametrize(
    ("script", "limits", "word"),
    [
        ([{"status": "IN_QUEUE", "queue_position": 9}], {"queue": 1.2}, "waited in the queue"),
        ([{"status": "IN_PROGRESS", "logs": None}], {"queue": 1.2, "total": 2}, "did not finish"),
    ],
)
def test_waiting_is_bounded(fal: StandIn, script: list[dict[str, Any]], limits: dict[str, float], word: str) -> None:
    fal.script = script
    fails(word, "given up", limits=Limits(interval=0.02, call=1, **limits))
    settle()
    assert len(fal.submits) == len(fal.cancels) == 1
    assert fal.running() == []


def test_waiting_is_bounded_while_a_call_hangs(fal: StandIn) -> None:
    held = fal.hold("GET", STATUS, times=99)
    fails("given up", limits=Limits(interval=0.02, queue=1.1, total=1.2, call=30))
    assert held.until
    assert not held.outlasted  # the call still hangs
    held.until.set()
    settle()
    assert len(fal.cancels) == 1


def test_the_end_of_the_program_cancels(fal: StandIn) -> None:
    """ComfyUI runs a workflow in a daemon thread, which a Ctrl-C in the main thread simply drops."""
    fal.script = [{"status": "IN_PROGRESS", "logs": None}]
    code = f"""
import sys, threading, time
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent / "scripts")]!r}
import _pack
from amt_frame_interpolation.remote.fal_queue import Job, Limits
job = Job({KEY!r}, {FRAMES_APP!r}, limits=Limits(interval=0.02))
def go():
    job.run(lambda: [], lambda urls: {{}}, lambda a, s: None, report=lambda t, d: None, check=lambda: None)
threading.Thread(target=go, daemon=True).start()
while not job.request_id:
    time.sleep(0.01)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert len(fal.submits) == len(fal.cancels) == 1
    assert KEY not in done.stderr + done.stdout


# --- secrets


def test_nothing_that_is_logged_holds_a_secret(fal: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    run(large)
    fal.reset()
    fal.fault("POST", SUBMIT, status=401, body={"detail": f"bad {KEY}"})
    fails("HTTP 401")
    text = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    for secret in (*KEY.split(":"), TOKEN, "/files/in/"):
        assert secret not in text


def test_a_log_line_of_the_job_is_made_fit_to_show(fal: StandIn) -> None:
    nasty = (
        f"reading https://v3.fal.media/files/in/0.png?sig=1 with {KEY}\n\x1b[31m<script>alert(1)</script>\ud800"
        + "x" * 999
    )
    fal.script = [
        {"status": "IN_PROGRESS", "logs": [{"timestamp": "1", "message": nasty}, {"bad": 1}, 7]},
        *fal.script[-1:],
    ]
    says: list[str] = []
    run(says=says)
    [line] = [text for text in says if text.startswith("reading")]
    assert line.startswith("reading (address) with (key) \ufffd[31m‹script›")
    assert len(line) <= 200
    line.encode()


def test_the_environment_cannot_send_another_key(fal: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_FORCE_AUTH_BY_USER", "1")
    monkeypatch.setenv("FAL_KEY", "other:key")
    run()
    assert fal.submits[0].headers["authorization"] == f"Key {KEY}"
