"""Makes a segment of a video. It knows neither ComfyUI nor Ray."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import cast

import torch

from ..amt.engine import Engine
from ..amt.motion_scale import ScaledAMT
from ..amt.timeline.segments import Segment
from ..printable import printable
from ..video.pipeline import interpolate_video
from .request import Failed, Machine, Made, Request

MOST_PAIRS = 8
"""At once. More were never faster."""


def machine(path: str | None) -> Machine:
    """This one. path: of the video; None where it is sent along."""
    return Machine(torch.__version__, path is None or os.path.isfile(path))


def make_segment(request: Request, segment: Segment, threads: int, shown: Callable[[], None]) -> Made | Failed:
    """Makes a segment and gives its file's bytes. The first one has the sound of the whole video.

    threads: of the CPU, where it computes. shown: called after each frame.
    """
    try:
        return _make(request, segment, threads, shown)
    except Exception as error:
        # What is wrong here is wrong elsewhere too. Only what dies with its machine is done again.
        return Failed(printable(str(error) or type(error).__name__))


def _make(request: Request, segment: Segment, threads: int, shown: Callable[[], None]) -> Made:
    video, task = request.video, request.task
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(threads)
    network = request.network.open(device)
    batch = _pairs_at_once(network, video.size, device)
    engine = Engine(network, device, batch=batch, begin_part=network.begin_part, as_bytes=video.bits <= 8)
    first = segment.number == 1
    sound = task.sound(video)
    # Without a name, so that nothing is left of it however this process ends.
    with tempfile.TemporaryFile() as file:
        length = interpolate_video(
            video,
            file,
            plan=task.plan,
            analysis=task.analysis,
            interpolate=engine.interpolate,
            sound=sound.tracks if first else [],
            delay=task.delay(video, sound),
            poll=lambda: None,
            shown=lambda frame: shown(),
            segment=segment,
            part=request.part,
        )
        file.seek(0)
        return Made(file.read(), length, [*video.notes(), *(sound.notes if first else [])], network.used)


def _pairs_at_once(network: ScaledAMT, size: tuple[int, int], device: torch.device) -> int:
    if device.type == "cpu":
        return 1
    free = cast("tuple[int, int]", torch.cuda.mem_get_info(device))[0]
    return max(1, min(MOST_PAIRS, int(0.8 * free / max(network.memory_used(size, device), 1))))
