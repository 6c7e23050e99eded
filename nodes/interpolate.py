"""AMT Frame Interpolation: an IMAGE batch in, a smoother one out."""

from __future__ import annotations

from typing import Any

import comfy.model_management as mm
import torch
from comfy_api.latest import io
from torch import Tensor

from ..amt.timeline import MOST_PASSES, frame_count, halvings
from .checks import check_images, check_passes, check_result_fits
from .interp_model import InterpModel, open_engine
from .progress import Progress, show_text

SEARCH_ALIASES = ["amt", "rife", "film", "vfi", "slow motion", "smooth", "interpolate frames", "fps", "tween"]
"""What people type who look for frame interpolation."""


class AMTInterpolate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AMTInterpolate",
            display_name="AMT Frame Interpolation",
            category="video/AMT",
            description="Makes frames between the frames of an image batch: smoother, or slow motion. "
            "The given frames stay as they are.",
            search_aliases=SEARCH_ALIASES,
            inputs=[
                InterpModel.Input("interp_model", tooltip="From Load AMT Model or Load Frame Interpolation Model."),
                io.Image.Input("images", tooltip="At least two frames, in order. RGBA keeps its alpha."),
                passes_input(),
            ],
            outputs=[
                io.Image.Output("images", tooltip="(frames - 1) x 2^passes + 1 frames."),
                io.Int.Output("multiplier", tooltip="2^passes: the given frame rate times this keeps the duration."),
            ],
        )

    @classmethod
    def execute(cls, interp_model: Any, images: Tensor, recursive_interpolation_passes: int = 4) -> io.NodeOutput:
        images = check_images(images)
        passes = check_passes(recursive_interpolation_passes)
        if len(images) == 1 or passes == 0:
            text = "One frame: nothing to make." if len(images) == 1 else "No passes: the images as they came."
            return io.NodeOutput(images, 2**passes, ui=show_text(text))
        device = mm.intermediate_device()
        check_result_fits(images, passes, device)
        engine = open_engine(interp_model, (images.shape[1], images.shape[2]))
        count = frame_count(len(images), passes)
        result = torch.empty((count, *images.shape[1:]), dtype=images.dtype, device=device)
        progress = Progress(count)
        for index, frame in enumerate(engine.run(images, halvings(passes))):
            result[index] = frame
            progress.frame(frame)
        return io.NodeOutput(result, 2**passes, ui=progress.summary(interp_model))


def passes_input() -> io.Int.Input:
    return io.Int.Input(
        "recursive_interpolation_passes",
        default=4,
        min=0,
        max=MOST_PASSES,
        display_mode=io.NumberDisplay.slider,
        tooltip="Each pass puts a frame into the middle of every gap: "
        "1 makes twice as many frames, 2 makes 4 times as many, 4 makes 16 times as many.",
    )


NODES = [AMTInterpolate]
