"""AMT Images to Video: keyframes in, a smooth video out, encoded as it is made."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import InputImpl, io
from torch import Tensor

from ..amt.timeline import exact_rate, frame_count, halvings
from ..video.encode import VideoWriter
from .checks import check_images, check_passes
from .interp_model import InterpModel, open_engine
from .interpolate import SEARCH_ALIASES, passes_input
from .progress import Progress


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
        cls, interp_model: Any, images: Tensor, output_fps: float = 24, recursive_interpolation_passes: int = 4
    ) -> io.NodeOutput:
        images = check_images(images)[..., :3]
        passes = check_passes(recursive_interpolation_passes)
        try:
            rate = exact_rate(output_fps)
        except ValueError as error:
            raise ValueError(f"output_fps: {error}") from None
        engine = open_engine(interp_model, (images.shape[1], images.shape[2]))
        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"amt_{uuid.uuid4().hex}.mp4"
        progress = Progress(frame_count(len(images), passes))
        with VideoWriter(path, rate=rate) as writer:
            for frame in engine.run(images, halvings(passes)):
                writer.write(frame)
                progress.frame(frame)
        return io.NodeOutput(InputImpl.VideoFromFile(str(path)), ui=progress.summary(interp_model, rate))


NODES = [AMTImagesToVideo]
