"""fal.ai on loopback: a CONNECT proxy that ends TLS itself and never dials out.

A client that runs in `StandIn.environment` believes it talks to the real hosts: real names, real URLs, real TLS checks,
nothing of fal-client patched. Every request is recorded with its host and headers; `fault` scripts what goes wrong.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from loopback import Authority, serve

HOSTS = (
    *("queue.fal.run", "fal.run", "queue.falrun.com", "falrun.com", "rest.fal.ai", "v3.fal.media", "v3b.fal.media"),
    *("storage.googleapis.com", "evil.example", "fal.media.evil.example", "auth.fal.ai"),
)
TOKEN = "cdn-token-that-must-not-spread"


@dataclass
class Request:
    host: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Fault:
    """Played instead of the ordinary answer, `times` times. `before` fails the request before it is carried out.

    `until` holds the answer back until it is set, for 20 seconds at most; then `outlasted` says so.
    """

    method: str
    url: str
    times: int = 1
    status: int = 0
    body: bytes | str | dict[str, Any] = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    drop: bool = False
    before: bool = False
    until: threading.Event | None = None
    outlasted: bool = False


@dataclass
class Job:
    """`script` is what the status calls answer, one after the other; the last one stays."""

    script: list[dict[str, Any]]
    arguments: dict[str, Any]
    polls: int = 0
    cancelled: int = 0


def default_script() -> list[dict[str, Any]]:
    lines = [{"timestamp": "1", "message": "loading"}, {"timestamp": "2", "message": "interpolating <b>frames</b>"}]
    return [
        {"status": "IN_QUEUE", "queue_position": 2},
        {"status": "IN_QUEUE", "queue_position": 0},
        {"status": "IN_PROGRESS", "logs": lines[:1]},
        {"status": "IN_PROGRESS", "logs": lines},
        {"status": "COMPLETED", "logs": lines, "metrics": {"inference_time": 1.5}},
    ]


class StandIn:
    def __init__(self, folder: Path, video: bytes = b"") -> None:
        self.authority = Authority(folder, HOSTS)
        self.video = video
        self.port = 0
        self.reset()

    def reset(self) -> None:
        self.video_url = "https://v3.fal.media/files/result/out.mp4"
        self.script = default_script()
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.jobs: dict[str, Job] = {}
        self.uploads: dict[str, bytes] = {}
        self.connected: list[str] = []
        self.unreachable: set[str] = set()

    def fault(self, method: str, url: str, **how: Any) -> Fault:
        """`url` is a pattern for host and path, as in r"queue.fal.run/.*/status"."""
        self.faults.append(Fault(method, url, **how))
        return self.faults[-1]

    def hold(self, method: str, url: str, **how: Any) -> Fault:
        """Like `fault`, for an answer that does not come before `until` is set."""
        return self.fault(method, url, until=threading.Event(), **how)

    def made(self, method: str, url: str) -> list[Request]:
        return [r for r in self.requests if r.method == method and re.fullmatch(url, r.host + r.path)]

    @property
    def submits(self) -> list[Request]:
        return self.made("POST", r"queue\.fal(run\.com|\.run)/.*")

    @property
    def cancels(self) -> list[Request]:
        return self.made("PUT", r"queue\.fal(run\.com|\.run)/.*/cancel")

    def wait_for(self, what: Any, seconds: float = 10) -> None:
        """`what()` becomes true within `seconds`."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "did not happen"
            time.sleep(0.01)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HTTPS_PROXY": f"http://127.0.0.1:{self.port}",
            "https_proxy": f"http://127.0.0.1:{self.port}",
            "SSL_CERT_FILE": str(self.authority.file),
            "NO_PROXY": "",
            "no_proxy": "",
        }

    # --- what the service does

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        url = request.host + request.path
        if request.host in ("queue.fal.run", "queue.falrun.com"):
            return self._queue(request)
        if url == "rest.fal.ai/storage/auth/token?storage_type=fal-cdn-v3":
            token = {"token": TOKEN, "token_type": "Bearer", "base_url": "https://v3b.fal.media"}
            return _json(200, {**token, "expires_at": "2099-01-01T00:00:00+00:00"})
        if request.method == "POST" and url == "v3.fal.media/files/upload":
            address = f"https://v3.fal.media/files/in/{len(self.uploads)}-{request.headers['x-fal-file-name']}"
            self.uploads[address] = request.body
            return _json(200, {"access_url": address})
        if request.method == "GET" and "/files/result/" in url:
            return 200, {"Content-Type": "image/png"}, self.video  # sic: fal's own example says so
        return _json(404, {"detail": "Not Found"})

    def _queue(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        path = request.path.partition("?")[0]
        if request.method == "POST":
            app = path.removeprefix("/")
            request_id = f"job-{len(self.jobs)}"
            self.jobs[request_id] = Job([dict(step) for step in self.script], request.json)
            base = "https://queue.fal.run/" + "/".join(app.split("/")[:2]) + f"/requests/{request_id}"
            urls = {"response_url": base, "status_url": base + "/status", "cancel_url": base + "/cancel"}
            return _json(200, {"request_id": request_id, **urls, "status": "IN_QUEUE", "queue_position": 2})
        found = re.fullmatch(r"/fal-ai/amt-interpolation/requests/([\w-]+)(/status|/cancel)?", path)
        job = self.jobs.get(found[1]) if found else None
        if not found or job is None:
            return _json(404, {"status": "NOT_FOUND"})
        step = job.script[min(job.polls, len(job.script) - 1)]
        if found[2] == "/cancel" and request.method == "PUT":
            job.cancelled += 1
            done = step["status"] == "COMPLETED"
            return _json(400 if done else 202, {"status": "ALREADY_COMPLETED" if done else "CANCELLATION_REQUESTED"})
        if found[2] == "/status":
            job.polls += 1
            return _json(200 if step["status"] == "COMPLETED" else 202, {"request_id": found[1], **step})
        video = {"url": self.video_url, "content_type": "image/png", "file_name": "out.png", "file_size": 1}
        return _json(200, {"video": video})

    def running(self) -> list[str]:
        """Jobs that nobody cancelled and that have not completed: what goes on costing money."""
        return [
            name
            for name, job in self.jobs.items()
            if not job.cancelled
            and not (job.polls and job.script[min(job.polls, len(job.script)) - 1]["status"] == "COMPLETED")
        ]


def _json(status: int, body: Any) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(body).encode()


@contextmanager
def stand_in(folder: Path, video: bytes = b"") -> Iterator[StandIn]:
    service = StandIn(folder, video)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        host = ""

        def do_CONNECT(self) -> None:
            self.host = self.path.rpartition(":")[0]
            service.connected.append(self.host)
            self.send_response(200)
            self.end_headers()
            if self.host in service.unreachable:
                self.close_connection = True  # before the handshake, so that no request was sent
                return
            self.connection = service.authority.server_context.wrap_socket(self.connection, server_side=True)
            self.rfile = self.connection.makefile("rb")
            self.wfile = self.connection.makefile("wb", buffering=0)
            self.close_connection = False

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.host, self.command, self.path, headers, body)
            with lock:
                service.requests.append(request)
                fault = next(
                    (
                        fault
                        for fault in service.faults
                        if fault.method == request.method
                        and fault.times > 0
                        and re.fullmatch(fault.url, request.host + request.path.partition("?")[0])
                    ),
                    None,
                )
                if fault:
                    fault.times -= 1
                skip = fault and (fault.before or fault.status)
                status, extra, content = (200, {}, b"") if skip else service.answer(request)
            if fault:
                time.sleep(fault.delay)
                if fault.until and not fault.until.wait(20):
                    fault.outlasted = True
                if fault.drop:
                    self.close_connection = True
                    self.connection.close()
                    return
                if fault.status:
                    kind = "application/json" if isinstance(fault.body, dict) else "text/html"
                    content = json.dumps(fault.body) if isinstance(fault.body, dict) else fault.body
                    content = content.encode() if isinstance(content, str) else content
                    status, extra = fault.status, {"Content-Type": kind, **fault.headers}
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **extra}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serve(Handler) as port:
        service.port = port
        yield service
