"""The same interpolation on fal.ai's machines, for a fee. Frames leave this machine only through these nodes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import Input, InputImpl, Types, io, ui

from ..amt.timeline import frame_count
from ..remote import clip, frames, request, result
from ..remote.credentials import read_key
from ..remote.errors import RemoteError
from ..remote.request import File
from .checks import check_images
from .inputs import passes_input
from .progress import show_text
from .video_source import has_pending_edits

log = logging.getLogger(__name__)

_KEY = "needs a key of yours in the environment variable FAL_KEY."
_UPLOADS = "Anybody who knows the address of an upload can read it. Uploads expire after a day."


def _settings(passes: int) -> list[io.Input]:
    return [
        io.Int.Input(
            "output_fps", default=24, min=1, max=request.MAX_FPS, tooltip="Frame rate of the video, frames a second."
        ),
        passes_input(passes, least=1, most=request.MAX_PASSES),
        io.Int.Input(
            "ask_again",
            default=0,
            min=0,
            max=2**31 - 1,
            optional=True,
            advanced=True,
            tooltip="With equal inputs ComfyUI takes the result that it still holds, which costs nothing. Change this "
            "number to pay for a new one. It is not sent.",
        ),
    ]


def _reporter(node_id: str) -> Callable[[str, float], None]:
    from server import PromptServer  # ComfyUI's

    bar = comfy.utils.ProgressBar(100)
    server = PromptServer.instance

    def report(text: str, done: float) -> None:
        bar.update_absolute(round(100 * done))
        if server.client_id is not None:  # else it would go to everybody who is connected
            server.send_progress_text(text, node_id, server.client_id)

    return report


def _run(
    application: str,
    prepare: Callable[[], Sequence[File]],
    media: Callable[[list[str]], dict[str, Any]],
    settings: dict[str, int],
    report: Callable[[str, float], None],
) -> bytes:
    key = read_key()
    try:
        from ..remote.fal_queue import Job
    except ImportError:
        raise RemoteError(
            "the Python package fal-client is missing or too old, so nothing was sent. Install it with ComfyUI's "
            'Python and restart: python -m pip install "fal-client>=1.0.3,<2". The local AMT nodes do not need it'
        ) from None
    return Job(key, application).run(
        prepare,
        lambda urls: {**media(urls), **settings},
        lambda answer, stop: result.download(answer, stop=stop),
        report=report,
        check=comfy.model_management.throw_exception_if_processing_interrupted,
    )


@contextmanager
def _delivered() -> Iterator[None]:
    """Says what can be done about a delivery that cannot be used."""
    try:
        yield
    except RemoteError as error:
        raise RemoteError(
            f"{error}. Look for the result on your dashboard on fal.ai; to pay for another, change ask_again"
        ) from None


def _conclude(data: bytes, expected: int, report: Callable[[str, float], None]) -> ui.PreviewText:
    """Says what came, and whether it is what AMT should have made."""
    with _delivered():
        count, width, height = clip.measure(data)
    text = f"{count} frames of {width} x {height}"
    if count != expected:
        text += f"; {expected} were expected"
        log.warning("fal.ai delivered %s", text)
    report(text, 1.0)
    return show_text(text)


def _video(data: bytes) -> Input.Video:
    return InputImpl.VideoFromFile(BytesIO(data))


class AMTFalInterpolate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AMTFalInterpolate",
            display_name="AMT Frame Interpolation (fal.ai)",
            category="video/AMT",
            description=f"Sends frames to fal.ai, a paid service that makes a smooth video of them; {_KEY}",
            search_aliases=["fal", "fal.ai", "remote interpolation", "cloud interpolation", "hosted amt"],
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="Two or more frames, sent as 8-bit RGB PNG files; transparency is left out. " + _UPLOADS,
                ),
                *_settings(passes=4),
            ],
            outputs=[
                io.Video.Output("video", tooltip="The file as fal.ai delivered it."),
                io.Image.Output("images", tooltip="The frames of that video."),
            ],
            has_intermediate_output=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, images: torch.Tensor, output_fps: int, recursive_interpolation_passes: int, ask_again: int = 0
    ) -> io.NodeOutput:
        settings = request.settings(output_fps, recursive_interpolation_passes)
        request.check_frames(check_images(images).shape, recursive_interpolation_passes)

        def prepare() -> list[File]:
            return [File(f"{number:05d}.png", "image/png", frames.png(image)) for number, image in enumerate(images)]

        report = _reporter(cls.hidden.unique_id)
        data = _run(
            request.FRAMES_APP, prepare, lambda urls: {"frames": [{"url": url} for url in urls]}, settings, report
        )
        expected = frame_count(len(images), recursive_interpolation_passes)
        shown = _conclude(data, expected, report)
        check = comfy.model_management.throw_exception_if_processing_interrupted
        with _delivered():
            decoded = clip.decode(data, max_frames=2 * expected, check=check)
        return io.NodeOutput(_video(data), decoded, ui=shown)


class AMTFalInterpolateVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AMTFalInterpolateVideo",
            display_name="AMT Video Interpolation (fal.ai)",
            category="video/AMT",
            description=f"Sends a video to fal.ai, a paid service that makes it smoother; {_KEY}",
            search_aliases=["fal", "fal.ai", "remote interpolation", "cloud interpolation", "hosted amt"],
            inputs=[
                io.Video.Input(
                    "video",
                    tooltip="Up to 100 MiB as H.264. Only the picture is sent: no sound, no metadata. " + _UPLOADS,
                ),
                *_settings(passes=2),
            ],
            outputs=[io.Video.Output("video", tooltip="The file as fal.ai delivered it.")],
            has_intermediate_output=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, video: Input.Video, output_fps: int, recursive_interpolation_passes: int, ask_again: int = 0
    ) -> io.NodeOutput:
        settings = request.settings(output_fps, recursive_interpolation_passes)
        edited = has_pending_edits(video)
        source = None if edited or not isinstance(video, InputImpl.VideoFromFile) else video.get_stream_source()
        if isinstance(source, BytesIO):
            # A buffer has one reading position, and the thread that reads it may outlive an interrupted run.
            start, duration = video.get_active_trim_window()
            video = InputImpl.VideoFromFile(BytesIO(source.getvalue()), start_time=start, duration=duration)
        sent: list[int] = []

        def prepare() -> list[File]:
            buffer = BytesIO()
            video.save_to(buffer, format=Types.VideoContainer.MP4, codec=Types.VideoCodec.H264)
            data = clip.picture_only(buffer.getvalue())
            sent.append(clip.measure(data)[0])
            return [File("video.mp4", "video/mp4", data)]

        report = _reporter(cls.hidden.unique_id)
        data = _run(request.VIDEO_APP, prepare, lambda urls: {"video_url": urls[0]}, settings, report)
        shown = _conclude(data, frame_count(sent[0], recursive_interpolation_passes), report)
        return io.NodeOutput(_video(data), ui=shown)


NODES = [] if os.environ.get("AMT_FAL", "").strip().lower() == "off" else [AMTFalInterpolate, AMTFalInterpolateVideo]
