"""AMT Frame Interpolation: an IMAGE batch in, a smoother one out."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import comfy.model_management as mm
import torch
from comfy_api.latest import io
from torch import Tensor

from ..amt.timeline import multiples
from ..amt.timeline.cuts import THRESHOLD
from .checks import check_result_fits, join_images
from .inputs import (
    SEARCH_ALIASES,
    check_gaps,
    check_passes,
    check_rate,
    conversion_rate_inputs,
    cut_inputs,
    end_input,
    gaps_input,
    model_input,
    more_images_input,
    motion_scale_input,
    passes_input,
    source_analysis,
)
from .interp_model import open_engine, scales_used
from .loop import check_seam_frames, closing_images, closing_notes, seam_frames_input
from .meta_batch import BatchInClip, MetaBatch
from .progress import ONE_FRAME, Progress, show_text
from .repair import bad_frames_input, check_bad_frames, repair_notes

FPS = 2
"""The place of the output fps."""
NOTHING_TO_MAKE = "1x: there are no frames to make, so the images stay as they are."


class AMTInterpolate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AMTInterpolate",
            display_name="AMT Frame Interpolation",
            category="video/AMT",
            description="Makes frames between the frames of an image batch, for smoother motion or slow motion.",
            search_aliases=SEARCH_ALIASES,
            inputs=[
                model_input(),
                io.Image.Input("images", tooltip="At least two frames, in order. RGBA keeps its alpha."),
                passes_input(default=1),
                end_input("stop"),
                *cut_inputs(detect=False),
                *conversion_rate_inputs(),
                MetaBatch.Input(
                    "meta_batch",
                    optional=True,
                    tooltip="The Meta Batch Manager of Video Helper Suite that loader and combiner are connected to. "
                    "Without it, the frames between two batches are missing.",
                ),
                more_images_input(),
                gaps_input(),
                motion_scale_input(),
                bad_frames_input(),
                seam_frames_input(),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    tooltip="The given images with the new ones between them: of 81 images, 2x makes 161 and 4x 321.",
                ),
                io.Int.Output(
                    "multiplier",
                    tooltip="The given frame rate times this keeps the duration. 1 with target_fps.",
                ),
                io.Float.Output(
                    "fps",
                    tooltip="The frame rate that keeps the duration, for Create Video and Video Combine. Needs "
                    "source_fps.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            # ComfyUI would run two nodes with equal inputs only once. Their places in a meta batch may differ, so each
            # of them has to run.
            not_idempotent=True,
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        interp_model: Any,
        images: Tensor,
        recursive_interpolation_passes: int = 1,
        end: str = "stop",
        detect_cuts: bool = False,
        cut_threshold: float = THRESHOLD,
        repeated_frames: str = "hold",
        source_fps: float = 0,
        target_fps: float = 0,
        meta_batch: Any = None,
        more_images: io.Autogrow.Type | None = None,
        gaps: str = "",
        motion_scale: str = "auto",
        bad_frames: str = "",
        seam_frames: int = 0,
    ) -> io.NodeOutput:
        images = join_images(images, more_images)
        if meta_batch is not None and any(batch is not None for batch in (more_images or {}).values()):
            raise ValueError(
                "images2: expected nothing beside meta_batch, because it would follow each of the batches. Disconnect "
                "images2 and those below it."
            )
        passes = check_passes(recursive_interpolation_passes)
        analysis = source_analysis(end, detect_cuts, cut_threshold, repeated_frames)
        bad = check_bad_frames(bad_frames)(len(images), analysis.end)
        if bad and meta_batch is not None:
            raise ValueError(
                "bad_frames: expected none beside meta_batch, because good frames around may be in another batch. Use "
                "AMT Video Interpolation, or leave bad_frames empty."
            )
        seam = check_seam_frames(seam_frames, analysis.end)
        given = check_rate("source_fps", source_fps) if source_fps else None
        wanted = check_rate("target_fps", target_fps) if target_fps else None
        multiplier = 1 if wanted or gaps.strip() else 2**passes
        rate = wanted or (given and given * multiplier)
        if (wanted and not given and not gaps.strip()) or (not rate and _is_linked(cls.hidden, FPS)):
            raise ValueError(
                f"source_fps: expected the frame rate of the images, which {'target_fps' if wanted else 'fps'} "
                "needs, got 0. Type it in, or connect the fps of what gives the images."
            )
        batch = BatchInClip(meta_batch, cls.hidden.unique_id, cls.hidden.prompt, analysis.end)
        if gaps.strip():
            if meta_batch is not None:
                raise ValueError("gaps: expected none beside meta_batch, which gives a clip in parts. Leave it empty.")
            if seam:
                raise ValueError(
                    "seam_frames: expected 0 beside gaps, whose last length is that of the way back to the first "
                    f"frame, got {seam}. Set it to 0, or leave gaps empty."
                )
            positions = check_gaps(gaps, len(images), analysis.end, rate)
            used, notes = images, []
        else:
            closing = closing_images(images, batch.first_frame, bad) if batch.end == "loop" else 0
            used, notes = images[:-closing] if closing else images, closing_notes(closing)
            step = given / wanted if given and wanted else Fraction(1, multiplier)
            positions = multiples(step, batch.frames_before + len(used), batch.end, batch.frames_before, seam)
        if meta_batch is None and not bad and positions == list(range(len(used))):
            text = ONE_FRAME if len(images) == 1 else " ".join([NOTHING_TO_MAKE, *notes])
            return io.NodeOutput(used, multiplier, float(rate or 0), ui=show_text(text))
        device = mm.intermediate_device()
        check_result_fits(images, len(positions), device)
        engine = open_engine(interp_model, (images.shape[1], images.shape[2]), motion_scale)
        result = torch.empty((len(positions), *images.shape[1:]), dtype=images.dtype, device=device)
        progress = Progress(len(positions))
        analysis = replace(analysis, end=batch.end, bad=bad)
        sources = analysis(batch.with_last_frame_before(used), batch.first_frame)
        for index, frame in enumerate(engine.interpolate(sources, positions)):
            result[index] = frame
            progress.frame(frame)
        made = progress.made(batch.made)
        batch.remember(images, made)
        notes += repair_notes(bad)
        text = progress.summary(
            interp_model, rate, notes=notes, used=scales_used(engine), made=made, goes_on=batch.goes_on
        )
        return io.NodeOutput(result, multiplier, float(rate or 0), ui=text)


def _is_linked(hidden: Any, output: int) -> bool:
    """Whether the workflow uses that output of the node that runs."""
    nodes = (hidden.prompt or {}).values()
    link = [str(hidden.unique_id), output]
    return any(value == link for node in nodes for value in node.get("inputs", {}).values())


NODES = [AMTInterpolate]
