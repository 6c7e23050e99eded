"""AMT Video Interpolation (Ray): one long video on several GPUs or machines."""

from __future__ import annotations

from typing import Any

import comfy.model_management as mm
from comfy_api.latest import io

from ..cluster.head import check_ray, interpolate_over_ray
from ..cluster.request import AMTWeights, Request
from ..video.container import UnreadableVideoError
from .inputs import VIDEO_SEARCH_ALIASES
from .interp_model import motion_scale_of, open_model
from .loop import seam_frames_input
from .progress import ONE_FRAME_OF_VIDEO, Progress
from .repair import bad_frames_input
from .temporary import as_video, lost_videos, new_video
from .video_source import open_video
from .video_time import check_video_inputs, video_inputs, video_output


class AMTInterpolateVideoRay(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AMTInterpolateVideoRay",
            display_name="AMT Video Interpolation (Ray)",
            category="video/AMT",
            description="Makes one video on several GPUs or machines at once, over Ray: on the cluster of RAY_ADDRESS, "
            "or on all GPUs of this machine.",
            search_aliases=[*VIDEO_SEARCH_ALIASES, "ray", "cluster", "multi-GPU", "distributed"],
            inputs=[*video_inputs(), bad_frames_input(), seam_frames_input()],
            outputs=[video_output()],
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_inputs: Any) -> int:
        return lost_videos()

    @classmethod
    def execute(cls, interp_model: Any, video: Any, motion_scale: str = "auto", **times: Any) -> io.NodeOutput:
        check_ray()
        wanted = check_video_inputs(**times)
        model = open_model(interp_model)
        weights = AMTWeights.of(model.network, carried=model.carried, scale=motion_scale_of(motion_scale))
        try:
            source, task, told = wanted(open_video(video))
        except UnreadableVideoError as error:
            raise UnreadableVideoError(f"video: {error}") from error
        path = new_video()
        frames = task.plan.count(source.timing.frames, source.timing.rate)
        progress = Progress(frames, source.size, even_sides=True)
        result = interpolate_over_ray(
            Request(source, task, weights),
            path,
            mm.throw_exception_if_processing_interrupted,
            lambda seen: progress.elsewhere(seen.done, seen.by_node),
        )
        rate = task.plan.output_rate(source.timing.rate)
        workers = "1 worker" if result.workers == 1 else f"{result.workers} workers"
        notes = [f"Made by {workers} of Ray.", *result.notes, *told]
        if source.timing.frames == 1:
            notes.insert(0, ONE_FRAME_OF_VIDEO)
        summary = progress.summary(interp_model, rate, result.length, notes, result.used)
        return io.NodeOutput(as_video(path), ui=summary)


NODES = [AMTInterpolateVideoRay]
