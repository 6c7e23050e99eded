"""What a node shows while it works and after it: progress, a small picture, and a line of text."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import comfy.utils
import numpy as np
from comfy_api.latest import ui
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from PIL import Image
from torch import Tensor

from ..amt.motion_scale import in_words
from .interp_model import describe
from .meta_batch import Made

ONE_FRAME = (
    "There is only one frame, so it stays as it is. To make frames between, connect at least two images. If the images "
    "came as a list, put Rebatch Images before this node."
)

ONE_FRAME_OF_VIDEO = "The video has only one frame, so there is no motion to make frames of."

PREVIEW_SIDE = 512
SECONDS_BETWEEN_PREVIEWS = 0.5


class Progress:
    """Call `frame` for every frame of the result, then `summary`."""

    def __init__(self, total: int, size: tuple[int, int] = (0, 0), *, even_sides: bool = False) -> None:
        """total: frames of the result. size: their (height, width), where `frame` is not called. even_sides: the result
        is a video, where odd sides have grown by one pixel."""
        self._total = total
        self._done = 0
        self._size = size
        self._even_sides = even_sides
        self._bar = comfy.utils.ProgressBar(total)
        self._start = self._last_preview = time.monotonic()

    def frame(self, frame: Tensor) -> None:
        """frame: [h, w, c], float 0..1 or uint8."""
        self._done += 1
        self._size = (frame.shape[0], frame.shape[1])
        preview = None
        now = time.monotonic()
        if now - self._last_preview >= SECONDS_BETWEEN_PREVIEWS:
            self._last_preview = now
            picture = _picture(frame)
            preview = ("JPEG", picture, max(picture.size))  # a larger number would make ComfyUI enlarge the picture
            if self._done > 1:  # the first frame tells nothing of the speed yet
                show(self._speed())
        self._bar.update_absolute(self._done, self._total, preview)

    def elsewhere(self, done: int, by_machine: Mapping[str, int]) -> None:
        """How many frames of the result other machines have made, in all and each of them."""
        self._done = done
        if done:
            machines = ", ".join(f"{name}: {frames}" for name, frames in sorted(by_machine.items()))
            show(f"{self._speed()} ({machines})")
        self._bar.update_absolute(min(done, self._total), self._total)

    def _speed(self) -> str:
        seconds = time.monotonic() - self._start
        left = seconds / self._done * max(0, self._total - self._done)
        return f"{self._done} of {self._total} frames, {self._done / seconds:.3g} a second, {_time(left)} left"

    def made(self, earlier: Made) -> Made:
        """What is made by now, with what the earlier batches of the clip had."""
        seconds = time.monotonic() - self._start
        return Made(earlier.frames + self._done, earlier.seconds + seconds, earlier.batches + 1)

    def summary(
        self,
        interp_model: Any,
        rate: Fraction | None = None,
        length: Fraction | None = None,
        notes: Sequence[str] = (),
        used: Counter[int] | None = None,
        made: Made | None = None,
        goes_on: bool = False,
    ) -> ui.PreviewText:
        """Shows on the node what was made: how much, with what, and how long it took. Returns it for the history.

        rate: frames a second, of a video. length: its seconds, where its frames are not all shown equally long.
        notes: sentences on what differs from the source. used: how many pairs had their motion found at which
        scale. made: of the whole clip, where this is one of its batches; goes_on: whether others follow.
        """
        height, width = (side + side % 2 if self._even_sides else side for side in self._size)
        made = made or self.made(Made())
        facts = f"{width} x {height}"
        if rate is not None:
            facts += f", {float(rate):g} fps, {_time(float(self._done / rate if length is None else length))} long"
        frames = "1 frame" if made.frames == 1 else f"{made.frames} frames"
        took = _time(made.seconds) + (" so far" if goes_on else "")
        if made.batches > 1:
            took += f", in {made.batches} batches"
        # No more than two lines: the node shows no more without scrolling. Some frontends put them into one.
        motion = in_words(used or Counter())
        how = describe(interp_model) + (f"; {motion}" if motion else "")
        return show_text("\n".join((f"{frames} in {took}: {facts}.", f"{how}.", *notes)))


def show_text(text: str) -> ui.PreviewText:
    """Shows a text on the node that runs. Returns it as the node's `ui` output, which is also in the API's history.

    The editor shows that one again when the run is over (web/editor.js). A node with `has_intermediate_output` gives it
    on a cached run, too.
    """
    show(text)
    return ui.PreviewText(text)


def show(text: str) -> None:
    """Shows a text on the node that runs, until the next one, or until the run ends."""
    context = get_executing_context()
    if context is None:  # not run by a server
        return
    from server import PromptServer  # ComfyUI's; imported here because tests run nodes without one

    server = PromptServer.instance
    if server.client_id is not None:  # without a client, every editor would show it on its node of this id
        # A node that was made from another one at run time shows its text there.
        node_id = get_progress_state().dynprompt.get_display_node_id(context.node_id)
        server.send_progress_text(text, node_id, server.client_id)


def _time(seconds: float) -> str:
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _picture(frame: Tensor) -> Image.Image:
    # Every k-th pixel is enough: converting all of a 4K frame would take too long for a preview.
    step = max(1, max(frame.shape[:2]) // PREVIEW_SIDE)
    pixels = frame[::step, ::step, :3]
    if pixels.is_floating_point():
        pixels = (pixels.float().clamp(0, 1) * 255).round().byte()
    picture = Image.fromarray(np.ascontiguousarray(pixels.cpu().numpy()))
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return picture
