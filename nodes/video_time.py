"""What the nodes for videos ask alike, and what they make of the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from comfy_api.latest import io

from ..amt.timeline import Plan
from ..amt.timeline.curve import EXAMPLE, SpeedCurve, constant_speed
from ..amt.timeline.cuts import THRESHOLD
from ..video.file import VideoFile
from ..video.in_memory import VideoInMemory
from ..video.task import Task
from ..video.timing import Timing
from .inputs import (
    LONGEST,
    check_curve,
    check_passes,
    check_rate,
    check_seconds,
    choice_input,
    cut_inputs,
    end_input,
    model_input,
    motion_scale_input,
    output_rate_input,
    passes_input,
    source_analysis,
)
from .loop import check_seam_frames, closed_video
from .repair import check_bad_frames, repair_notes


class Wanted(NamedTuple):
    """What is wanted of a video."""

    source: VideoFile | VideoInMemory
    """As much of the video as is used."""
    task: Task
    notes: list[str]
    """Sentences for the user."""


TIMES = {
    "smooth": "more frames",
    "target rate": "exact frame rate",
    "slow motion": "slow motion",
    "speed curve": "speed curve",
    "length": "length",
}
AT_OUTPUT_RATE = ("target rate", "speed curve", "length")
SOUNDS = {"stretch": "stretch", "drop": "leave out"}


def video_inputs() -> list[io.Input]:
    return [
        model_input(),
        io.Video.Input(
            "video", tooltip="Of a trimmed video, only the part that is left is used. Transparency is left out."
        ),
        passes_input(default=1),
        choice_input(
            "time",
            TIMES,
            display_name="what to make",
            default="smooth",
            tooltip="More frames (smooth): 2x, 4x and so on, in the same time. Exact frame rate (target rate): frames "
            "at exactly output_fps, in the same time. Slow motion: 2x, 4x and so on at the rate of the video, so that "
            "it lasts longer. Speed curve: as fast as speed_curve says. Length: as long as seconds says.",
        ),
        output_rate_input(60, "For exact frame rate, speed curve and length."),
        choice_input(
            "slow_motion_sound",
            SOUNDS,
            default="stretch",
            tooltip="Where the speed changes. Stretch: the sound lasts as long as the picture, and keeps its pitch. "
            "Leave out (drop): no sound. Where the time stays the same, the sound is copied as it is.",
        ),
        end_input("hold"),
        *cut_inputs(detect=True),
        io.String.Input(
            "speed_curve",
            default=EXAMPLE,
            optional=True,
            tooltip="For speed curve: which speed begins at which second of the video. It lasts until the next "
            f"one: {EXAMPLE}. With ease 0.5 s behind a speed, the change takes the half second before; with "
            "ease alone, all the time since the last one.",
        ),
        io.Float.Input(
            "seconds",
            default=10,
            min=0.1,
            max=LONGEST,
            step=0.1,
            optional=True,
            tooltip="For length: how many seconds the result lasts.",
        ),
        motion_scale_input(),
    ]


def video_output() -> io.Output:
    return io.Video.Output(
        tooltip="H.264, visually lossless, 10-bit where the video is: Save Video stores it as it is. "
        "An odd width or height grows by one pixel, which H.264 needs."
    )


def check_video_inputs(
    *,
    recursive_interpolation_passes: int = 1,
    time: str = "smooth",
    output_fps: float = 60,
    slow_motion_sound: str = "stretch",
    end: str = "hold",
    detect_cuts: bool = True,
    cut_threshold: float = THRESHOLD,
    repeated_frames: str = "hold",
    speed_curve: str = EXAMPLE,
    seconds: float = 10,
    bad_frames: str = "",
    seam_frames: int = 0,
) -> Callable[[VideoFile | VideoInMemory], Wanted]:
    """The values of the inputs that say which frames there are -> a function from the source to what is wanted of it.

    Raises ValueError; so does the function, where the values do not suit the source.
    """
    passes = check_passes(recursive_interpolation_passes)
    if time not in TIMES:
        raise ValueError(f"time: expected one of {', '.join(TIMES)}, got {time}")
    if slow_motion_sound not in SOUNDS:
        raise ValueError(f"slow_motion_sound: expected one of {', '.join(SOUNDS)}, got {slow_motion_sound}")
    analysis = source_analysis(end, detect_cuts, cut_threshold, repeated_frames)
    rate = check_rate("output_fps", output_fps) if time in AT_OUTPUT_RATE else None
    plan = Plan(0 if rate else passes, analysis.end, rate, slow=time == "slow motion")
    if time == "speed curve":
        plan = replace(plan, curve=check_curve(speed_curve))
    check_seconds(seconds)
    bad_ones = check_bad_frames(bad_frames)
    plan = replace(plan, seam=check_seam_frames(seam_frames, analysis.end))

    def wanted(source: VideoFile | VideoInMemory) -> Wanted:
        bad = bad_ones(source.timing.frames, plan.end)
        source, notes = closed_video(source, bad) if plan.end == "loop" else (source, [])
        made = replace(plan, curve=_speed_for(source.timing, plan, seconds)) if time == "length" else plan
        task = Task(made, replace(analysis, bad=bad), slow_motion_sound == "drop")
        return Wanted(source, task, [*notes, *repair_notes(bad)])

    return wanted


def _speed_for(timing: Timing, plan: Plan, seconds: float) -> SpeedCurve:
    """The constant speed at which a source lasts so many seconds. Raises ValueError."""
    length, lasts = timing.end - timing.start, Fraction(seconds).limit_denominator(10**6)
    if plan.seam and plan.rate:
        length, lasts = timing.time(timing.final) - timing.start, lasts - (plan.seam + 1) / plan.rate
    try:
        return constant_speed(length / max(lasts, Fraction(1, 10**6)))
    except ValueError as error:
        rest = f", and the seam {float((plan.seam + 1) / (plan.rate or 1)):.2f} s" if plan.seam else ""
        raise ValueError(f"seconds: {error}; the video lasts {float(length):.2f} s{rest}") from None
