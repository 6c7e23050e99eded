"""The input that names bad frames, its check, and what the node says of them."""

from __future__ import annotations

from collections.abc import Callable

from comfy_api.latest import io

from ..amt.timeline import End
from ..amt.timeline.repair import EXAMPLE, bad_frames, frame_runs


def bad_frames_input() -> io.String.Input:
    return io.String.Input(
        "bad_frames",
        default="",
        placeholder=EXAMPLE,
        optional=True,
        advanced=True,
        tooltip=f"Numbers of damaged frames, as {EXAMPLE}: 0 is the first frame. New frames take their places, made "
        "from the nearest good frames before and behind.",
    )


def check_bad_frames(text: str) -> Callable[[int, End], frozenset[int]]:
    """A function from the number of frames, and what follows the last, to the bad ones. Both raise ValueError."""
    try:
        runs = frame_runs(text)
    except ValueError as error:
        raise ValueError(f"bad_frames: {error}") from None

    def of(frames: int, end: End) -> frozenset[int]:
        try:
            return bad_frames(runs, frames, end)
        except ValueError as error:
            raise ValueError(f"bad_frames: {error}") from None

    return of


def repair_notes(bad: frozenset[int]) -> list[str]:
    """Sentences for the user."""
    if not bad:
        return []
    return [f"{len(bad)} bad {'frame was' if len(bad) == 1 else 'frames were'} replaced by new ones."]
