"""AMT Images to Video: keyframes in, a smooth video out, encoded as it is made."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import comfy.model_management as mm
from comfy_api.latest import io
from torch import Tensor

from ..amt.timeline import multiples
from ..amt.timeline.cuts import THRESHOLD
from ..amt.timeline.spacing import even_positions
from ..video.encode import VideoWriter
from ..video.threads import FRAMES_BEHIND, WriteBehind
from .checks import join_images
from .inputs import (
    LONGEST,
    SEARCH_ALIASES,
    check_gaps,
    check_passes,
    check_rate,
    check_seconds,
    cut_inputs,
    end_input,
    gaps_input,
    model_input,
    more_images_input,
    motion_scale_input,
    output_rate_input,
    passes_input,
    source_analysis,
)
from .interp_model import open_engine, scales_used
from .loop import closing_images, closing_notes
from .progress import ONE_FRAME, Progress, show_text
from .temporary import as_video, lost_videos, new_video


class AMTImagesToVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AMTImagesToVideo",
            display_name="AMT Images to Video",
            category="video/AMT",
            description="Makes a smooth video from a few images, without holding all of its frames in memory.",
            search_aliases=[*SEARCH_ALIASES, "keyframes", "morph"],
            inputs=[
                model_input(),
                io.Image.Input("images", tooltip="The keyframes, in order. Alpha is left out: the video has none."),
                output_rate_input(24, "Frames a second of the video."),
                passes_input(default=4),
                end_input("stop"),
                *cut_inputs(detect=False),
                more_images_input(),
                io.Float.Input(
                    "seconds",
                    default=0,
                    min=0,
                    max=LONGEST,
                    step=0.1,
                    optional=True,
                    tooltip="How long the video is, its frames spread evenly. 0: the number of frames says it.",
                ),
                gaps_input(),
                motion_scale_input(),
            ],
            outputs=[
                io.Video.Output(
                    tooltip="H.264, visually lossless: Save Video stores it as it is. "
                    "An odd width or height grows by one pixel, which H.264 needs."
                )
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_inputs: Any) -> int:
        return lost_videos()

    @classmethod
    def execute(
        cls,
        interp_model: Any,
        images: Tensor,
        output_fps: float = 24,
        recursive_interpolation_passes: int = 4,
        end: str = "stop",
        detect_cuts: bool = False,
        cut_threshold: float = THRESHOLD,
        repeated_frames: str = "hold",
        more_images: io.Autogrow.Type | None = None,
        seconds: float = 0,
        gaps: str = "",
        motion_scale: str = "auto",
    ) -> io.NodeOutput:
        images = join_images(images, more_images, alpha=False)
        passes = check_passes(recursive_interpolation_passes)
        rate = check_rate("output_fps", output_fps)
        analysis = source_analysis(end, detect_cuts, cut_threshold, repeated_frames)
        # Lengths of the gaps are those of the given images.
        closing = closing_images(images) if analysis.end == "loop" and not gaps.strip() else 0
        images = images[: len(images) - closing]
        engine = open_engine(interp_model, (images.shape[1], images.shape[2]), motion_scale)
        engine.as_bytes = True
        if gaps.strip():
            positions = check_gaps(gaps, len(images), analysis.end, rate)
        elif seconds:
            positions = even_positions(len(images), max(1, round(check_seconds(seconds) * rate)), analysis.end)
        else:
            positions = multiples(Fraction(1, 2**passes), len(images), analysis.end)
        path = new_video()
        progress = Progress(len(positions), even_sides=True)
        interrupted = mm.throw_exception_if_processing_interrupted
        with VideoWriter(path, rate=rate) as writer, WriteBehind(writer.write, FRAMES_BEHIND, interrupted) as written:
            for frame in engine.interpolate(analysis(images), positions):
                written.put(frame)
                progress.frame(frame)
        text = (
            show_text(ONE_FRAME)
            if len(positions) == 1
            else progress.summary(interp_model, rate, notes=closing_notes(closing), used=scales_used(engine))
        )
        return io.NodeOutput(as_video(path), ui=text)


NODES = [AMTImagesToVideo]
