"""What the nodes for videos ask alike, and what they make of the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from comfy_api.latest import io

from ..amt.timeline import Plan
from ..amt.timeline.curve import EXAMPLE, SpeedCurve, constant_speed
from ..amt.timeline.cuts import THRESHOLD
from ..video.file import VideoFile
from ..video.in_memory import VideoInMemory
from ..video.task import Task
from .inputs import (
    LONGEST,
    check_curve,
    check_passes,
    check_rate,
    check_seconds,
    cut_inputs,
    end_input,
    model_input,
    motion_scale_input,
    output_rate_input,
    passes_input,
    source_analysis,
)
from .repair import check_bad_frames

TIMES = ("smooth", "target rate", "slow motion", "speed curve", "length")
AT_OUTPUT_RATE = ("target rate", "speed curve", "length")
SOUNDS = ("stretch", "drop")


def video_inputs() -> list[io.Input]:
    return [
        model_input(),
        io.Video.Input(
            "video", tooltip="Of a trimmed video, only the part that is left is used. Transparency is left out."
        ),
        passes_input(default=1),
        io.Combo.Input(
            "time",
            options=list(TIMES),
            default="smooth",
            tooltip="smooth: more frames in the same time. target rate: frames at exactly output_fps in the "
            "same time. slow motion: the frames that the factor makes, at the rate of the video, so that it "
            "lasts longer. speed curve: as fast as speed_curve says. length: as long as seconds says.",
        ),
        output_rate_input(60, "For target rate, speed curve and length."),
        io.Combo.Input(
            "slow_motion_sound",
            options=list(SOUNDS),
            default="stretch",
            tooltip="Where the speed changes: stretch makes the sound last as long as the picture, with its "
            "pitch kept; drop leaves it out. In the same time, the sound is copied as it is.",
        ),
        end_input("hold"),
        *cut_inputs(detect=True),
        io.String.Input(
            "speed_curve",
            default=EXAMPLE,
            optional=True,
            tooltip="For speed curve: which speed begins at which second of the video. It holds until the next "
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
) -> Callable[[VideoFile | VideoInMemory], Task]:
    """The values of the inputs that say which frames there are -> a function from the source to its task.

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
    bad = check_bad_frames(bad_frames)

    def task(source: VideoFile | VideoInMemory) -> Task:
        made = plan
        if time == "length":
            made = replace(plan, curve=_speed_for(source.timing.end - source.timing.start, seconds))
        repaired = replace(analysis, bad=bad(source.timing.frames, plan.end))
        return Task(made, repaired, slow_motion_sound == "drop")

    return task


def _speed_for(length: Fraction, seconds: float) -> SpeedCurve:
    """The constant speed at which a source of this length lasts so many seconds. Raises ValueError."""
    try:
        return constant_speed(length / Fraction(seconds).limit_denominator(10**6))
    except ValueError as error:
        raise ValueError(f"seconds: {error}; the video lasts {float(length):.2f} s") from None
