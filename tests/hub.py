"""A stand-in for the Hugging Face hub on the loopback interface: one repository, faults on demand."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPO = "someone/AMT"


@dataclass
class Hub:
    files: dict[str, bytes]
    body: str = "whole"
    """How a file is sent: whole; "cut": the connection closes halfway, every time; "stall": it stops halfway and stays
    open; "slow": the second half comes when `release` is set; "error": status 500."""
    release: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    halfway: threading.Event = field(default_factory=threading.Event)
    """Set once half a file is out."""

    def __enter__(self) -> Hub:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def log_message(self, format: str, *args: object) -> None:
                pass

            def answer(self, *, body: bool) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                path = self.path.split("?")[0]
                prefix = f"/{REPO}/resolve/main/"
                content = hub.files.get(path.removeprefix(prefix)) if path.startswith(prefix) else None
                if content is None:
                    return self.refuse(404, "EntryNotFound")
                if body and hub.body == "error":
                    return self.refuse(500, "")
                digest = hashlib.sha256(content).hexdigest()
                start = 0
                if (wanted := self.headers.get("Range", "")).startswith("bytes="):
                    start = int(wanted.removeprefix("bytes=").split("-")[0])
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("ETag", f'"{digest}"')
                self.send_header("X-Repo-Commit", "0123456789abcdef" * 2 + "01234567")
                self.end_headers()
                if body:
                    with suppress(OSError):
                        self.send(content, start)

            def refuse(self, status: int, code: str) -> None:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def send(self, content: bytes, start: int) -> None:
                half = max(len(content) // 2, start)
                self.wfile.write(content[start:half])
                self.wfile.flush()
                hub.halfway.set()
                if hub.body == "cut":
                    self.close_connection = True
                    return
                if hub.body in ("stall", "slow"):
                    hub.release.wait(300)
                if hub.body == "stall":
                    self.close_connection = True  # at the test's end, so that nobody waits on
                    return
                self.wfile.write(content[half:])

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda request, client_address: None  # clients that hang up are no news
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def downloads(self) -> int:
        """How often a file itself was asked for."""
        return sum(request.startswith("GET") and "/resolve/" in request for request in self.requests)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"
