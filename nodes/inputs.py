"""The inputs that several nodes have: their schemas, and the checks of their values.

ComfyUI checks what is typed into a widget. It does not check what comes over a link, so the nodes do.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, cast, get_args

from comfy_api.latest import io

from ..amt.timeline import MOST_PASSES, End, exact_rate
from ..amt.timeline.analysis import SourceAnalysis
from ..amt.timeline.curve import SpeedCurve, speed_curve
from ..amt.timeline.cuts import THRESHOLD, CutDetector
from ..amt.timeline.spacing import gap_count, gap_lengths, gap_positions

InterpModel = io.Custom("INTERP_MODEL")
"""ComfyUI core's type for frame-interpolation models."""

AFTER_LAST = {"stop": "nothing", "hold": "the last frame stays", "loop": "back to the first frame"}
REPEATS = {"hold": "show as they are", "replace": "replace"}
MOTION_SCALES = {"auto": None, "1": 1, "1/2": 2, "1/4": 4}
"""At 1/value of the size motion is found; None is what suits each pair."""

SEARCH_ALIASES = [
    *("amt", "rife", "film", "vfi", "interpolate frames", "tween"),
    *("smooth", "fps", "60 fps", "slow motion", "loop", "gif"),
]
"""What people type who look for frame interpolation."""
VIDEO_SEARCH_ALIASES = [
    *SEARCH_ALIASES,
    *("smooth video", "frame rate", "60 fps video", "slow motion video", "speed", "speed curve", "speed ramp"),
]


def labels(words: Mapping[str, str]) -> dict[str, Any]:
    """For `extra_dict` of a list: {choice: what the editor shows in its place}. Its other choices show their values."""
    return {"labels": dict(words)}


AUTO = labels({"auto": "auto"})
"""So that the translations have it."""


def choice_input(name: str, words: Mapping[str, str], **details: Any) -> io.Combo.Input:
    """A list with a label for each choice: {choice: label}."""
    return io.Combo.Input(name, options=list(words), extra_dict=labels(words), **details)


def model_input() -> io.Input:
    return InterpModel.Input("interp_model", tooltip="A model from Load AMT Model or Load Frame Interpolation Model.")


def passes_input(default: int, least: int = 0, most: int = MOST_PASSES) -> io.Int.Input:
    """The editor shows the factor in place of the number of passes (web/editor.js)."""
    return io.Int.Input(
        "recursive_interpolation_passes",
        display_name="frames",
        default=default,
        min=least,
        max=most,
        tooltip="How many times as many frames: 2x makes 2n - 1 of n frames, 4x makes 4n - 3, 16x makes 16n - 15. "
        "As a number, in the API: how often every gap is halved, so that 1 is 2x, 2 is 4x and 4 is 16x.",
    )


def check_passes(passes: int) -> int:
    """Raises ValueError."""
    if not isinstance(passes, int) or not 0 <= passes <= MOST_PASSES:
        raise ValueError(
            f"frames (recursive_interpolation_passes): expected a whole number from 0 to {MOST_PASSES}, got {passes}. "
            "1 makes 2x as many frames, 2 makes 4x, and 4 makes 16x."
        )
    return passes


def output_rate_input(default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(
        "output_fps", default=default, min=0.01, max=1000, step=0.01, tooltip=f"{tooltip} {_NTSC_RATES}"
    )


def conversion_rate_inputs() -> list[io.Input]:
    """The rate of the given images, and the rate that the result should have; 0 means none."""
    tooltips = {
        "source_fps": "The frame rate of the images, such as 16 for Wan. The output fps and target_fps need it; 0 is "
        "for unknown.",
        "target_fps": "Above 0: frames at exactly this rate, in place of the factor. " + _NTSC_RATES,
    }
    return [
        io.Float.Input(
            name,
            default=0,
            min=0,
            max=1000,
            step=0.01,
            optional=True,
            advanced=name == "target_fps",
            tooltip=tooltips[name],
        )
        for name in tooltips
    ]


def motion_scale_input() -> io.Combo.Input:
    return io.Combo.Input(
        "motion_scale",
        options=list(MOTION_SCALES),
        default="auto",
        optional=True,
        advanced=True,
        extra_dict=AUTO,
        tooltip="At which part of the size motion is found; pictures are always made at full size. auto: what suits "
        "each pair. 1: best for small motion. 1/2 and 1/4: best for large motion and large pictures, and faster.",
    )


def gaps_input() -> io.String.Input:
    return io.String.Input(
        "gaps",
        default="",
        placeholder="1 s, 0.5 s, 12 frames",
        optional=True,
        advanced=True,
        tooltip="A length of its own for each gap between two pictures, in order: 1 s, 0.5 s, 12 frames. One length "
        "alone is for every gap. Goes before all else that says how many frames there are.",
    )


def check_gaps(gaps: str, pictures: int, end: End, rate: Fraction | None) -> list[Fraction]:
    """The positions of the frames. rate: of the result, which seconds need. Raises ValueError."""
    try:
        return gap_positions(gap_lengths(gaps, gap_count(pictures, end), rate), end)
    except ValueError as error:
        raise ValueError(f"gaps: {error}") from None


LONGEST = 36000
"""Seconds."""


def check_seconds(seconds: float) -> Fraction:
    """Raises ValueError."""
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"seconds: expected a length above 0 and up to {LONGEST} seconds, got {seconds}")
    return Fraction(seconds).limit_denominator(10**6)


def check_curve(text: str) -> SpeedCurve:
    """Raises ValueError."""
    try:
        return speed_curve(text)
    except ValueError as error:
        raise ValueError(f"speed_curve: {error}") from None


_NTSC_RATES = "23.976, 29.97 and 59.94 are taken as 24000/1001 and so on."


def check_rate(name: str, fps: float) -> Fraction:
    """Frames a second, exactly. Raises ValueError."""
    try:
        return exact_rate(fps)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def more_images_input() -> io.Autogrow.Input:
    return io.Autogrow.Input(
        "more_images",
        # The sockets show these names: images2, images3 ...
        template=io.Autogrow.TemplateNames(io.Image.Input("image"), names=[f"images{n}" for n in range(2, 52)], min=0),
        optional=True,
        tooltip="Images or batches that follow, in order and of the same size: keyframes can be connected one by one.",
    )


def end_input(default: End) -> io.Combo.Input:
    return choice_input(
        "end",
        AFTER_LAST,
        display_name="after the last frame",
        default=default,
        optional=True,
        tooltip="What follows the last frame. Nothing (stop): the result ends with it, a part of a frame early. The "
        "last frame stays (hold): it is shown until its time is over, so that picture and sound end together. Back to "
        "the first frame (loop): new frames lead there, for clips that are played in a loop.",
    )


def cut_inputs(detect: bool) -> list[io.Input]:
    """detect: whether cuts are looked for by default."""
    return [
        io.Boolean.Input(
            "detect_cuts",
            default=detect,
            optional=True,
            tooltip="Across a cut the nearer frame is shown, and the two are not morphed. The number of frames stays "
            "the same.",
        ),
        io.Float.Input(
            "cut_threshold",
            default=THRESHOLD,
            min=0.01,
            max=1,
            step=0.01,
            optional=True,
            advanced=True,
            tooltip="How much more than its neighbours a frame must show that is new, to count as a cut. A lower value "
            "finds more cuts, and takes more fast motion for a cut.",
        ),
        choice_input(
            "repeated_frames",
            REPEATS,
            default="hold",
            optional=True,
            advanced=True,
            tooltip="Frames that repeat the one before. Show as they are (hold): exact repeats stay. Replace: new "
            "frames take the place of up to three in a row that look like the one before, for animation that shows "
            "each drawing for two or three frames.",
        ),
    ]


def source_analysis(end: str, detect_cuts: bool, cut_threshold: float, repeated_frames: str) -> SourceAnalysis:
    """Raises ValueError."""
    if end not in get_args(End):
        raise ValueError(f"end: expected one of {', '.join(get_args(End))}, got {end}")
    if repeated_frames not in REPEATS:
        raise ValueError(f"repeated_frames: expected one of {', '.join(REPEATS)}, got {repeated_frames}")
    if not 0 < cut_threshold <= 1:
        raise ValueError(f"cut_threshold: expected a number above 0 and up to 1, got {cut_threshold}")
    return SourceAnalysis(
        cast(End, end), CutDetector(cut_threshold) if detect_cuts else None, repeated_frames == "replace"
    )
