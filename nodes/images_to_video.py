"""AMT Images to Video: keyframes in, a smooth video out, encoded as it is made."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import comfy.model_management as mm
from comfy_api.latest import InputImpl, io
from torch import Tensor

from ..amt.cuts import THRESHOLD
from ..amt.timeline import multiples
from ..video.encode import VideoWriter
from ..video.threads import FRAMES_BEHIND, WriteBehind
from .checks import check_passes, check_rate, join_images
from .interp_model import InterpModel, open_engine
from .interpolate import ONE_FRAME, SEARCH_ALIASES, passes_input
from .look_inputs import check_look, cut_inputs, end_input, more_images_input
from .progress import Progress, show_text
from .temporary import new_video


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
                InterpModel.Input("interp_model", tooltip="From Load AMT Model or Load Frame Interpolation Model."),
                io.Image.Input("images", tooltip="The keyframes, in order. Alpha is left out: the video has none."),
                io.Float.Input(
                    "output_fps",
                    default=24,
                    min=0.01,
                    max=1000,
                    step=0.01,
                    tooltip="Frames a second of the video. 23.976, 29.97 and 59.94 are taken as 24000/1001 and so on.",
                ),
                passes_input(),
                end_input("stop"),
                *cut_inputs(detect=False),
                more_images_input(),
            ],
            outputs=[
                io.Video.Output(
                    tooltip="H.264, visually lossless: Save Video stores it as it is. "
                    "An odd width or height grows by one pixel, which H.264 needs."
                )
            ],
        )

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
    ) -> io.NodeOutput:
        images = join_images(images, more_images, alpha=False)
        passes = check_passes(recursive_interpolation_passes)
        rate = check_rate("output_fps", output_fps)
        look = check_look(end, detect_cuts, cut_threshold, repeated_frames)
        engine = open_engine(interp_model, (images.shape[1], images.shape[2]))
        positions = multiples(Fraction(1, 2**passes), len(images), look.end)
        path = new_video()
        progress = Progress(len(positions))
        interrupted = mm.throw_exception_if_processing_interrupted
        with VideoWriter(path, rate=rate) as writer, WriteBehind(writer.write, FRAMES_BEHIND, interrupted) as written:
            for frame in engine.fill(look(images), positions):
                written.put(frame)
                progress.frame(frame)
        text = show_text(ONE_FRAME) if len(positions) == 1 else progress.summary(interp_model, rate)
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)), ui=text)


NODES = [AMTImagesToVideo]
