"""AMT Video Interpolation: a video of any length in, a smoother or slower one out, with its sound."""

from __future__ import annotations

from typing import Any

import comfy.model_management as mm
from comfy_api.latest import io

from ..amt.timeline.segments import Segment
from ..video.container import UnreadableVideoError
from ..video.pipeline import borders_of, interpolate_video
from .inputs import VIDEO_SEARCH_ALIASES
from .interp_model import open_engine, scales_used
from .loop import seam_frames_input
from .progress import ONE_FRAME_OF_VIDEO, Progress
from .repair import bad_frames_input
from .temporary import as_video, lost_videos, new_video
from .video_source import open_video
from .video_time import check_video_inputs, video_inputs, video_output

MOST_SEGMENTS = 10_000


class AMTInterpolateVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AMTInterpolateVideo",
            display_name="AMT Video Interpolation",
            category="video/AMT",
            description="Makes frames between the frames of a video of any length, without holding it in memory, and "
            "keeps its sound.",
            search_aliases=VIDEO_SEARCH_ALIASES,
            inputs=[
                *video_inputs(),
                io.Int.Input(
                    "segment",
                    default=1,
                    min=1,
                    max=MOST_SEGMENTS,
                    optional=True,
                    advanced=True,
                    tooltip="Which of the segments is made, where several jobs or machines make one video. The first "
                    "one has all of the sound. scripts/join joins the files.",
                ),
                io.Int.Input(
                    "segments",
                    default=1,
                    min=1,
                    max=MOST_SEGMENTS,
                    optional=True,
                    advanced=True,
                    tooltip="In how many segments the video is made. 1: all of it here.",
                ),
                bad_frames_input(),
                seam_frames_input(),
            ],
            outputs=[video_output()],
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_inputs: Any) -> int:
        return lost_videos()

    @classmethod
    def execute(
        cls,
        interp_model: Any,
        video: Any,
        motion_scale: str = "auto",
        segment: int = 1,
        segments: int = 1,
        **times: Any,
    ) -> io.NodeOutput:
        wanted = check_video_inputs(**times)
        try:
            source, task, told = wanted(open_video(video))
            engine = open_engine(interp_model, source.size, motion_scale)
            engine.as_bytes = source.bits <= 8
            plan, analysis, _ = task
            parts = len(borders_of(source.timing, plan, bad=analysis.bad)) + 1
            chosen = _check_segment(segment, segments, parts)
            sound = task.sound(source)
            path = new_video()
            frames = plan.count(source.timing.frames, source.timing.rate)
            progress = Progress(frames * len(chosen.parts(parts)) // parts, even_sides=True)
            length = interpolate_video(
                source,
                path,
                plan=plan,
                analysis=analysis,
                interpolate=engine.interpolate,
                sound=sound.tracks if segment == 1 else [],
                delay=task.delay(source, sound),
                poll=mm.throw_exception_if_processing_interrupted,
                shown=progress.frame,
                segment=chosen,
            )
        except UnreadableVideoError as error:
            raise UnreadableVideoError(f"video: {error}") from error
        notes = [*source.notes(), *sound.notes, *told]
        if source.timing.frames == 1:
            notes.insert(0, ONE_FRAME_OF_VIDEO)
        if segments > 1:
            notes.append(f"This is segment {segment} of {segments}.")
        summary = progress.summary(
            interp_model, plan.output_rate(source.timing.rate), length, notes, scales_used(engine)
        )
        return io.NodeOutput(as_video(path), ui=summary)


def _check_segment(segment: int, segments: int, parts: int) -> Segment:
    """Raises ValueError."""
    chosen = Segment(segment, segments)
    try:
        chosen.parts(parts)
    except ValueError as error:
        name = "segments" if 1 <= segment <= segments else "segment"
        raise ValueError(f"{name}: {error}") from None
    return chosen


NODES = [AMTInterpolateVideo]
