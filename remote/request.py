"""What may be asked of the hosted endpoints. Everything is checked before anything leaves the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..amt.timeline import frame_count
from .clip import MAX_IMAGE_BYTES
from .errors import RemoteError

FRAMES_APP = "fal-ai/amt-interpolation/frame-interpolation"
VIDEO_APP = "fal-ai/amt-interpolation"

MAX_FRAMES = 500
MAX_PASSES = 6
MAX_FPS = 240
MAX_SIDE = 16384


@dataclass(frozen=True)
class File:
    name: str
    content_type: str
    data: bytes


def settings(output_fps: int, passes: int) -> dict[str, int]:
    """The part of a request that both endpoints share. It is checked here, because ComfyUI does not check a value that
    comes over a link."""
    if not 1 <= output_fps <= MAX_FPS:
        raise RemoteError(f"output_fps is {output_fps}: expected 1 to {MAX_FPS}")
    if not 1 <= passes <= MAX_PASSES:
        raise RemoteError(f"recursive_interpolation_passes is {passes}: expected 1 to {MAX_PASSES}")
    return {"output_fps": output_fps, "recursive_interpolation_passes": passes}


def check_frames(shape: Sequence[int], passes: int) -> None:
    """Raises RemoteError where frames of this shape, [frames, height, width, channels], cannot be sent."""
    frames, height, width, _ = shape
    if not 2 <= frames <= MAX_FRAMES:
        raise RemoteError(
            f"{frames} frame(s): expected 2 to {MAX_FRAMES}. Put more together with Batch Images, or use fewer"
        )
    if max(width, height) > MAX_SIDE:
        raise RemoteError(
            f"frames of {width} x {height}: expected sides of at most {MAX_SIDE}. Make them smaller first"
        )
    size = frame_count(frames, passes) * height * width * 12
    if size > MAX_IMAGE_BYTES:
        raise RemoteError(
            f"{frames} frames and {passes} passes make {frame_count(frames, passes)} frames of {width} x {height}, "
            f"{size / 2**30:.1f} GiB of images: expected at most {MAX_IMAGE_BYTES // 2**30}. Use fewer passes or "
            "frames, or the node for videos"
        )
