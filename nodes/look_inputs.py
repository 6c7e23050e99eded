"""The inputs that say what is looked for in source frames, which several nodes have."""

from __future__ import annotations

from typing import cast, get_args

from comfy_api.latest import io

from ..amt.cuts import THRESHOLD, CutDetector
from ..amt.look import Look
from ..amt.timeline import End

REPEATS = ("hold", "replace")


def more_images_input() -> io.Autogrow.Input:
    return io.Autogrow.Input(
        "more_images",
        # Their names are what the sockets show: images, images2, images3 ...
        template=io.Autogrow.TemplateNames(io.Image.Input("image"), names=[f"images{n}" for n in range(2, 52)], min=0),
        optional=True,
        tooltip="Images or batches that follow, in order and of the same size: keyframes can be connected one by one.",
    )


def end_input(default: End) -> io.Combo.Input:
    return io.Combo.Input(
        "end",
        options=list(get_args(End)),
        default=default,
        optional=True,
        tooltip="What follows the last frame. stop: nothing; the result ends with it, a part of a frame early. "
        "hold: the last frame is held until its time is over, so that picture and sound end together: "
        "frames x 2^passes frames. loop: the last frame flows into the first, for clips that are played in a loop.",
    )


def cut_inputs(detect: bool) -> list[io.Input]:
    return [
        io.Boolean.Input(
            "detect_cuts",
            default=detect,
            optional=True,
            tooltip="Across a cut, the nearer frame is held: the two are not morphed into one another. "
            "The number of frames stays the same.",
        ),
        io.Float.Input(
            "cut_threshold",
            default=THRESHOLD,
            min=0.01,
            max=1,
            step=0.01,
            optional=True,
            advanced=True,
            tooltip="How much more must be new in a frame than in its neighbours to make it a cut. "
            "Lower finds more cuts, and takes more fast motion for one.",
        ),
        io.Combo.Input(
            "repeated_frames",
            options=list(REPEATS),
            default="hold",
            optional=True,
            advanced=True,
            tooltip="hold: frames that are exactly the one before are shown as they are. replace: frames that look "
            "like the one before, up to three in a row, give way to motion, as for animation drawn on twos.",
        ),
    ]


def check_look(end: str, detect_cuts: bool, cut_threshold: float, repeated_frames: str) -> Look:
    """Raises ValueError: linked values are not checked by ComfyUI."""
    if end not in get_args(End):
        raise ValueError(f"end: expected one of {', '.join(get_args(End))}, got {end}")
    if repeated_frames not in REPEATS:
        raise ValueError(f"repeated_frames: expected one of {', '.join(REPEATS)}, got {repeated_frames}")
    if not 0 < cut_threshold <= 1:
        raise ValueError(f"cut_threshold: expected a number above 0 and up to 1, got {cut_threshold}")
    return Look(cast(End, end), CutDetector(cut_threshold) if detect_cuts else None, repeated_frames == "replace")
