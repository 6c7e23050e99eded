"""Load Frames (URL) in a real ComfyUI, through POST /prompt: with the rules as they are, and opened for loopback."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
import pytest
from loopback import serve
from PIL import Image
from setup.client import NodeFailedError, RefusedError, RunInterruptedError
from setup.server import LocalServer


def picture(red: int, size: tuple[int, int] = (8, 6), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (red, 20, 30)).save(buffer, kind)
    return buffer.getvalue()


def uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def graph(urls: object, prefix: str = "frames") -> dict[str, Any]:
    return {
        "1": {"class_type": "AMTLoadFrames", "inputs": {"urls": urls}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def reds(server: LocalServer, prompt: dict[str, Any]) -> list[int]:
    """The first red value of each saved picture."""
    values = []
    for file in server.queue(prompt).files:
        with Image.open(server.output / file.filename) as image:
            values.append(int(np.array(image)[0, 0, 0]))
    return values


class Web:
    def __init__(self) -> None:
        self.pages: dict[str, bytes | Callable[[BaseHTTPRequestHandler], object]] = {}
        self.asked: list[str] = []
        self.done = threading.Event()
        self.url = ""


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append(self.path)
            page = web.pages.get(self.path)
            if isinstance(page, bytes):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")  # not believed
                self.end_headers()
                self.wfile.write(page)
            elif page:
                page(self)
            else:
                self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serve(Handler) as port:
        web.url = f"http://127.0.0.1:{port}"
        yield web
        web.done.set()


# --- with the rules as they are


def test_data_uris_in_order(comfyui_server: LocalServer) -> None:
    assert reds(comfyui_server, graph("\n".join(uri(picture(red)) for red in (1, 2, 3)))) == [1, 2, 3]


def test_the_text_may_come_over_a_link(comfyui_server: LocalServer) -> None:
    prompt = graph(["3", 0])
    prompt["3"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": uri(picture(4))}}
    assert reds(comfyui_server, prompt) == [4]


@pytest.mark.parametrize(
    ("urls", "word"),
    [
        ("", "no frames"),
        ("frame.png", "line 1: expected a URL"),
        ("http://example.com/a.png", "line 1: expected a URL that starts with https://"),
        ("file:///etc/passwd", "line 1: expected a URL"),
        ("https://127.0.0.1/a.png", "127.0.0.1 is not a public address"),
        ("https://[::1]/a.png", "::1 is not a public address"),
        ("https://169.254.169.254/latest/meta-data", "not a public address"),
        (uri(picture(1)) + "\nhttps://2130706433/", "line 2"),
    ],
)
def test_what_is_wrong_at_sight_is_refused_when_it_is_queued(comfyui_server: LocalServer, urls: str, word: str) -> None:
    with pytest.raises(RefusedError) as caught:
        comfyui_server.queue(graph(urls))
    assert word in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_link_does_not_get_around_the_rules(comfyui_server: LocalServer, web: Web, scheme: str) -> None:
    prompt = graph(["3", 0])
    url = web.url.replace("http", scheme) + "/a.png"
    prompt["3"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": url}}
    with pytest.raises(NodeFailedError) as caught:
        comfyui_server.queue(prompt)
    assert "line 1: " in caught.value.exception_message
    assert web.asked == []


def test_names_that_resolve_to_this_machine_are_refused(comfyui_server: LocalServer, web: Web) -> None:
    port = web.url.rpartition(":")[2]
    with pytest.raises(NodeFailedError, match=r"not a public address.*AMT_URLS=lan"):
        comfyui_server.queue(graph(f"https://localhost:{port}/a.png"))
    assert web.asked == []


def test_frames_of_different_sizes(comfyui_server: LocalServer) -> None:
    with pytest.raises(NodeFailedError, match="frame 2 is 9 x 6, frame 1 is 8 x 6"):
        comfyui_server.queue(graph(uri(picture(1)) + "\n" + uri(picture(1, (9, 6)))))


# --- opened for loopback


def test_files_and_data_uris_mixed(remote_server: LocalServer, web: Web) -> None:
    web.pages = {"/a": picture(5), "/b": picture(6, kind="BMP")}
    assert reds(remote_server, graph(f"{web.url}/a\n\n{uri(picture(7))}\n{web.url}/a")) == [5, 7, 5]
    with pytest.raises(NodeFailedError, match="frame 1 is not a PNG, JPEG, WebP or GIF"):
        remote_server.queue(graph(f"{web.url}/b"))


def test_what_follows_runs_again_only_when_a_file_has_changed(remote_server: LocalServer, web: Web) -> None:
    web.pages["/a"] = picture(8)
    prompt = graph(f"{web.url}/a", prefix="changed")
    assert reds(remote_server, prompt) == [8]
    assert web.asked == ["/a"]  # what the look before the run fetched is what the run uses
    again = remote_server.queue(prompt)
    assert web.asked == ["/a", "/a"]
    assert [message for message, _ in again.messages].count("execution_cached") == 1
    assert len(list(remote_server.output.glob("changed*"))) == 1
    web.pages["/a"] = picture(9)
    assert reds(remote_server, prompt) == [9]
    assert len(list(remote_server.output.glob("changed*"))) == 2
    assert web.asked == ["/a"] * 3


def test_a_file_that_fails_is_asked_for_once(remote_server: LocalServer, web: Web) -> None:
    with pytest.raises(NodeFailedError, match="line 1: the server answered HTTP 404") as caught:
        remote_server.queue(graph(f"{web.url}/missing?token=SECRET"))
    assert "SECRET" not in caught.value.exception_message
    assert web.asked == ["/missing?token=SECRET"]


def test_a_body_that_never_ends_and_a_redirect_to_the_metadata_address(remote_server: LocalServer, web: Web) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not web.done.is_set():
            handler.wfile.write(bytes(2**20))

    def metadata(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "http://169.254.169.254/latest/meta-data")
        handler.end_headers()

    web.pages = {"/endless": endless, "/metadata": metadata}
    with pytest.raises(NodeFailedError, match="line 1: larger than 64 MiB"):
        remote_server.queue(graph(f"{web.url}/endless"))
    with pytest.raises(NodeFailedError, match=r"line 1: 169\.254\.169\.254 is not a public address"):
        remote_server.queue(graph(f"{web.url}/metadata"))


def test_interrupt_while_a_server_is_silent(remote_server: LocalServer, web: Web) -> None:
    answered = threading.Event()
    web.pages["/silent"] = lambda handler: (web.done.wait(30), answered.set())
    prompt_id = remote_server.submit(graph(f"{web.url}/silent"))
    while not web.asked:
        time.sleep(0.01)
    remote_server.interrupt()
    while not remote_server.get(f"/history/{prompt_id}"):
        time.sleep(0.01)
    assert not answered.is_set()  # the run has ended while the server is still silent
    with pytest.raises(RunInterruptedError):
        remote_server.wait(prompt_id)
    web.pages["/silent"] = picture(10)
    assert reds(remote_server, graph(f"{web.url}/silent")) == [10]
