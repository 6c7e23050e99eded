"""What the nodes do for loops: how many frames lead back to the first, and no standstill where they meet."""

from __future__ import annotations

from collections.abc import Container
from itertools import islice, takewhile

from comfy_api.latest import io
from torch import Tensor

from ..amt.timeline import End
from ..amt.timeline.repeats import MOST_REPEATS, closing_repeats
from ..video.file import VideoFile
from ..video.in_memory import VideoInMemory

MOST_SEAM_FRAMES = 1000


def seam_frames_input() -> io.Int.Input:
    return io.Int.Input(
        "seam_frames",
        default=0,
        min=0,
        max=MOST_SEAM_FRAMES,
        optional=True,
        advanced=True,
        tooltip="For a loop: how many frames are made between the last frame and the first. More are a slower way "
        "back, for clips whose end is far from their beginning. 0: as many as between any two frames.",
    )


def check_seam_frames(seam_frames: int, end: End) -> int:
    """Raises ValueError."""
    if not isinstance(seam_frames, int) or not 0 <= seam_frames <= MOST_SEAM_FRAMES:
        raise ValueError(f"seam_frames: expected a whole number from 0 to {MOST_SEAM_FRAMES}, got {seam_frames}")
    if seam_frames and end != "loop":
        raise ValueError(
            f"seam_frames: expected 0 with end {end}, as only a loop leads back to the first frame, got {seam_frames}. "
            "Set it to 0, or choose loop."
        )
    return seam_frames


def closing_images(images: Tensor, first_frame: Tensor | None = None, bad: Container[int] = ()) -> int:
    """How many images at the end of a loop show its first one again.

    first_frame: where these images are a later part of the loop.
    """
    others = range(len(images) - 1, -1 if first_frame is not None else 0, -1)
    good = takewhile(lambda number: number not in bad, others)
    alike = closing_repeats(images[0] if first_frame is None else first_frame, (images[number] for number in good))
    return alike if first_frame is not None or alike < len(images) - 1 else 0


def closed_video(video: VideoFile | VideoInMemory, bad: Container[int]) -> tuple[VideoFile | VideoInMemory, list[str]]:
    """The video without those last frames that show its first one again, and sentences for the user."""
    frames = video.timing.frames
    earliest = frames
    while earliest > 1 and earliest - 1 not in bad and frames - earliest <= MOST_REPEATS:
        earliest -= 1
    last = [frame.picture for frame in islice(video.frames(earliest), frames - earliest)] if earliest < frames else []
    alike = closing_repeats(next(video.frames()).picture, reversed(last))
    if not alike or alike == frames - 1:
        return video, []
    return video.without_last(alike), closing_notes(alike)


def closing_notes(alike: int) -> list[str]:
    """Sentences for the user."""
    if not alike:
        return []
    which = "The last frame shows" if alike == 1 else f"The last {alike} frames show"
    return [f"{which} the first one again, so the loop ends before."]
