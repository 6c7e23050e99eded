"""Talks to a ComfyUI server over HTTP: for scripts/comfyui.py and the tests. Standard library only."""

from __future__ import annotations

import contextlib
import http.client
import json
import mimetypes
import re
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amt_frame_interpolation.waiting import wait_until

Prompt = Mapping[str, Any]
"""A workflow in API format: {node id: {"class_type": ..., "inputs": {...}}}."""


class ServerError(Exception):
    """The server did not start, stopped, or does not answer."""


class QueueError(Exception):
    """The workflow did not run to its end; the text says which node said what."""


class RefusedError(QueueError):
    """The server did not take the workflow: an unknown node, a missing input, a value out of range."""


class NodeFailedError(QueueError):
    """A node raised an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.node_id = str(error.get("node_id", ""))
        self.node_type = str(error.get("node_type", ""))
        self.exception_type = str(error.get("exception_type", ""))
        self.exception_message = str(error.get("exception_message", "")).strip()
        self.traceback = "".join(error.get("traceback") or [])
        super().__init__(
            f"Node {self.node_id} ({self.node_type}) failed: {self.exception_type}: {self.exception_message}"
        )


class RunInterruptedError(QueueError):
    """The run was interrupted."""


@dataclass(frozen=True)
class OutputFile:
    """A file that a run made, as the server names it."""

    filename: str
    subfolder: str
    type: str


@dataclass(frozen=True)
class Result:
    """A run that went well."""

    prompt_id: str
    seconds: float
    outputs: dict[str, Any] = field(repr=False)
    """What each output node showed: {node id: {"images": [...], ...}}."""
    messages: list[tuple[str, dict[str, Any]]] = field(repr=False)
    """What the server told while it ran: ("execution_cached", {...}) and so on."""

    @property
    def files(self) -> list[OutputFile]:
        """The files of all output nodes, in node order."""
        found = []
        for _, shown in sorted(self.outputs.items(), key=lambda item: (len(item[0]), item[0])):
            for items in shown.values():
                for item in items if isinstance(items, list) else ():
                    if isinstance(item, dict) and "filename" in item:
                        kind = item.get("type", "output")
                        found.append(OutputFile(item["filename"], item.get("subfolder", ""), kind))
        return found


class Client:
    """A running ComfyUI server."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ServerError(f"{url} is not the address of a server. Expected something like http://127.0.0.1:8188.")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        # a proxy has no business between us and this machine
        direct = parts.hostname in ("127.0.0.1", "localhost", "::1")
        self._opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if direct else []))
        self.client_id = uuid.uuid4().hex

    # ---- requests

    def request(self, path: str, body: bytes | None = None, content_type: str = "application/json") -> bytes:
        """GET, or POST where there is a body.

        Raises:
            urllib.error.HTTPError: the server says no.
            ServerError: there is no answer.
        """
        request = urllib.request.Request(self.url + path, data=body)
        if body is not None:
            request.add_header("Content-Type", content_type)
        try:
            with self._opener.open(request, timeout=60) as response:
                return response.read()
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"No answer from ComfyUI at {self.url}: {getattr(error, 'reason', error)}") from error

    def get(self, path: str) -> Any:
        return self._parse(self.request(path))

    def post(self, path: str, body: Any) -> Any:
        answer = self.request(path, json.dumps(body).encode())
        return self._parse(answer) if answer.strip() else None

    def _parse(self, answer: bytes) -> Any:
        try:
            return json.loads(answer)
        except ValueError:
            raise ServerError(f"What answers at {self.url} is not ComfyUI: {answer[:80]!r}") from None

    def object_info(self, node: str) -> dict[str, Any]:
        """What the server knows of a node type; empty where it does not know it."""
        return self.get(f"/object_info/{urllib.parse.quote(node)}").get(node, {})

    def unknown_nodes(self, prompt: Mapping[str, Any]) -> list[str]:
        """The node types of a workflow of the API format that the server does not know."""
        return [name for name in sorted({node["class_type"] for node in prompt.values()}) if not self.object_info(name)]

    def upload(self, path: Path) -> str:
        """Puts a file into the server's input folder. Returns its name there: another file of that name stays."""
        boundary = uuid.uuid4().hex
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n'
            f"Content-Type: {kind}\r\n\r\n"
        )
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        answer = self._parse(self.request("/upload/image", body, f"multipart/form-data; boundary={boundary}"))
        return "/".join(filter(None, [answer.get("subfolder"), answer["name"]]))

    def download(self, file: OutputFile, folder: Path) -> Path:
        """Fetches a file that a run made into `folder`."""
        query = urllib.parse.urlencode({"filename": file.filename, "subfolder": file.subfolder, "type": file.type})
        content = self.request(f"/view?{query}")
        folder.mkdir(parents=True, exist_ok=True)
        # the name comes from the server, which may be another machine
        path = folder / re.split(r"[\\/]", file.filename)[-1]
        path.write_bytes(content)
        return path

    # ---- the queue

    def queue(
        self, prompt: Prompt, *, timeout: float = 600, waiting: Callable[[str, float], None] | None = None
    ) -> Result:
        """Runs a workflow and waits for its end. `waiting` is called often with "queued" or "running" and the seconds.

        Raises:
            RefusedError, NodeFailedError, RunInterruptedError: what became of it.
            ServerError: the server stopped, or did not finish in time (the run is then interrupted).
        """
        return self.wait(self.submit(prompt), timeout=timeout, waiting=waiting)

    def submit(self, prompt: Prompt) -> str:
        """Queues a workflow and returns the id of the run.

        Raises:
            RefusedError: the server did not take it, or only a part of it.
        """
        try:
            answer = self.post("/prompt", {"prompt": prompt, "client_id": self.client_id})
        except urllib.error.HTTPError as error:
            raise RefusedError(_refusal(error.read())) from None
        if answer.get("node_errors"):  # it runs those outputs that it likes
            self.cancel(answer["prompt_id"])
            raise RefusedError(_refusal(json.dumps(answer).encode()))
        return answer["prompt_id"]

    def wait(
        self, prompt_id: str, *, timeout: float = 600, waiting: Callable[[str, float], None] | None = None
    ) -> Result:
        """Waits for the end of a queued run; see `queue`. Stops the run where the waiting is broken off."""
        start = time.monotonic()

        def ended(pause: float) -> dict[str, Any] | None:
            try:
                job = self.get(f"/api/jobs/{prompt_id}")
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise
                raise RunInterruptedError("The run was taken out of the queue.") from None
            if job["status"] not in ("pending", "in_progress"):
                return job
            if waiting:
                waiting("running" if job["status"] == "in_progress" else "queued", time.monotonic() - start)
            time.sleep(pause)
            return None

        def check() -> None:
            self.check()
            if time.monotonic() - start > timeout:
                raise ServerError(f"The workflow did not end within {timeout:.0f} s and was interrupted.")

        try:
            job = wait_until(ended, check, 0.1)
        except BaseException:
            with contextlib.suppress(ServerError, urllib.error.HTTPError):
                self.cancel(prompt_id)
            raise
        messages = job["execution_status"]["messages"]
        told = dict(messages)
        if said := told.get("execution_error"):
            raise NodeFailedError(said)
        if said := told.get("execution_interrupted"):
            raise RunInterruptedError(
                f"The run was interrupted in node {said.get('node_id')} ({said.get('node_type')})."
            )
        if job["status"] != "completed":
            raise QueueError(f"The run ended as {job['status']}: {messages}")
        return Result(prompt_id, time.monotonic() - start, job.get("outputs", {}), messages)

    def interrupt(self) -> None:
        """Stops the running workflow."""
        self.post("/interrupt", {})

    def cancel(self, prompt_id: str) -> None:
        """Takes a run out of the queue, or stops it if it is the one that runs."""
        self.post(f"/api/jobs/{prompt_id}/cancel", {})

    def check(self) -> None:
        """Raises ServerError where it is known that the server has stopped."""


def _refusal(answer: bytes) -> str:
    """The server's reasons, one a line."""
    try:
        said = json.loads(answer)
    except ValueError:
        return f"The server refused the workflow: {answer.decode('utf-8', 'replace')[:2000]}"
    lines = []
    for node_id, node in (said.get("node_errors") or {}).items():
        for error in node.get("errors", ()):
            details = f": {error['details']}" if error.get("details") else ""
            lines.append(f"Node {node_id} ({node.get('class_type')}): {error.get('message')}{details}")
    error = said.get("error")
    if not lines and isinstance(error, dict):
        lines = [" ".join(filter(None, [error.get("message"), error.get("details")]))]
    return "\n".join(lines or [str(error or said)])
