"""Frames by URL, so that a request to ComfyUI's queue can carry its frames as the hosted endpoint's does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import comfy.model_management
from comfy_api.latest import io

from ..remote.errors import RemoteError, StoppedError
from ..remote.frames import collect, decode, parse, url_rules
from ..waiting import Background

_loaded: dict[str, str] = {}
"""The digest of a text -> the digest of the files that were last loaded for it."""
_waiting: dict[str, list[bytes] | RemoteError] = {}
"""The digest of a text -> what `fingerprint_inputs` fetched for it. `execute` takes it in the same run."""

MOST_WAITING = 2**27
"""Bytes that may wait for `execute`."""


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _keep(store: dict[str, Any], key: str, value: object, most: int) -> None:
    store[key] = value
    while len(store) > most:
        del store[next(iter(store))]


def _collect(urls: str, check: Callable[[], None]) -> list[bytes]:
    return Background(lambda stop: collect(urls, url_rules(), stop=stop), "amt-fetch").result(check)


def _stop_if_interrupted() -> None:
    # This only looks at the flag. ComfyUI itself raises its exception, and clears the flag, before the next node.
    if comfy.model_management.processing_interrupted():
        raise StoppedError


class AMTLoadFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AMTLoadFrames",
            display_name="Load Frames (URL)",
            category="video/AMT",
            description="Loads frames from hosted URLs or base64 data URIs, one a line, as an image batch.",
            search_aliases=["load image from url", "load images url", "base64 image", "data uri", "keyframes"],
            inputs=[
                io.String.Input(
                    "urls",
                    multiline=True,
                    tooltip="One frame on each line, in order: an https URL or a data URI (data:image/png;base64,...). "
                    "PNG, JPEG, WebP, or the first picture of a GIF, all of one size. URLs are fetched at each run. "
                    "The nodes behind this one run again only if a file has changed.",
                )
            ],
            outputs=[
                io.Image.Output(
                    "images", tooltip="The frames in order; with a fourth channel (alpha) if any is transparent."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, urls: str | None = None) -> bool | str:
        if urls is not None:  # a text that comes over a link is not known yet
            try:
                parse(urls, url_rules())
            except RemoteError as error:
                return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, urls: str | None = None) -> str:
        """The content of the files decides whether the nodes behind this one run again."""
        if urls is None or not any(isinstance(frame, str) for frame in parse(urls, url_rules()).values()):
            return ""  # there are no URLs, and ComfyUI compares the text itself
        key = _digest(urls.encode())
        _waiting.pop(key, None)
        try:
            files = _collect(urls, _stop_if_interrupted)
        except StoppedError:
            raise
        except RemoteError as error:
            _keep(_waiting, key, error, 8)
            raise
        content = _digest(*files)
        if _loaded.get(key) != content:
            _keep(_waiting, key, files, 8)
            # A run that ends early leaves them; what is too much is fetched again.
            while sum(len(file) for waiting in _waiting.values() if isinstance(waiting, list) for file in waiting) > (
                MOST_WAITING
            ):
                del _waiting[next(iter(_waiting))]
        return content

    @classmethod
    def execute(cls, urls: str) -> io.NodeOutput:
        check = comfy.model_management.throw_exception_if_processing_interrupted
        key = _digest(urls.encode())
        files = _waiting.pop(key, None)
        if isinstance(files, RemoteError):
            raise RemoteError(str(files))
        if files is None:
            files = _collect(urls, check)
        images = Background(lambda _: decode(files), "amt-decode").result(check)
        _keep(_loaded, key, _digest(*files), 256)
        return io.NodeOutput(images)


NODES = [AMTLoadFrames]
