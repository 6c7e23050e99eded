"""Segments of a video, made apart and joined, are the video that is made in one go."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from amt_frame_interpolation.amt.engine import Engine
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.motion_scale import ScaledAMT
from amt_frame_interpolation.amt.network.padding import Padding
from amt_frame_interpolation.amt.timeline import Plan, Span
from amt_frame_interpolation.amt.timeline.analysis import SourceAnalysis
from amt_frame_interpolation.amt.timeline.curve import speed_curve
from amt_frame_interpolation.amt.timeline.cuts import CutDetector
from amt_frame_interpolation.amt.timeline.segments import LEAST_SOURCES, WHOLE, Segment, part_borders
from amt_frame_interpolation.models.catalogue import BUNDLED, BUNDLED_FOLDER
from amt_frame_interpolation.models.loading import load_checkpoint
from amt_frame_interpolation.video.audio import Sound, sound_of
from amt_frame_interpolation.video.container import Window
from amt_frame_interpolation.video.decode import VideoReader
from amt_frame_interpolation.video.in_memory import VideoInMemory
from amt_frame_interpolation.video.join import JoinError, join_videos
from amt_frame_interpolation.video.pipeline import borders_of, interpolate_video
from hypothesis import given
from hypothesis import strategies as st

CURVE = speed_curve("0 s: 1x, 1 s: 0.25x ease, 2 s: 3x ease 0.5 s")
plans = st.one_of(
    st.builds(Plan, passes=st.integers(0, 8), end=st.sampled_from(("stop", "hold", "loop")), slow=st.booleans()),
    st.builds(
        Plan,
        end=st.sampled_from(("stop", "hold", "loop")),
        rate=st.fractions(1, 120, max_denominator=1001),
        curve=st.sampled_from((None, CURVE)),
        seam=st.sampled_from((0, 0, 1, 12)),
    ),
)


@st.composite
def sources(draw: st.DrawFn) -> list[Span]:
    """Spans of even or uneven lengths, in seconds."""
    lengths = draw(st.lists(st.fractions(Fraction(1, 100), 1, max_denominator=100), min_size=1, max_size=60))
    if draw(st.booleans()):
        lengths = [lengths[0]] * len(lengths)
    times = [draw(st.fractions(-1, 1000, max_denominator=100))]
    for length in lengths:
        times.append(times[-1] + length)
    return [Span(start, end) for start, end in pairwise(times)]


@given(plan=plans, spans=sources(), part=st.integers(1, 50), of=st.integers(1, 9), data=st.data())
def test_segments_are_the_plan_for_every_plan_and_number(
    plan: Plan, spans: list[Span], part: int, of: int, data: st.DataObject
) -> None:
    keys = sorted(data.draw(st.sets(st.integers(0, len(spans) - 1))))
    bad = data.draw(st.sets(st.integers(1, max(1, len(spans) - 1))))
    borders = part_borders(plan, len(spans), lambda frame: spans[frame].start, keys, part, bad)
    assert (
        all(
            len(set(range(before, after)) - bad) >= LEAST_SOURCES
            for before, after in pairwise([0, *borders, len(spans)])
        )
        or not borders
    )
    assert not bad & set(borders)
    whole = list(plan.instants(spans))
    joined = []
    of = min(of, len(borders) + 1)
    for number in range(1, of + 1):
        parts = Segment(number, of).parts(len(borders) + 1)
        first = borders[parts.start - 1] if parts.start else 0
        end = borders[parts.stop - 1] if parts.stop <= len(borders) else None
        # What a worker reads: from some frames before its own ones on.
        before = max(0, first - data.draw(st.integers(0, 5)))
        for instant in plan.instants(spans[before:], spans[0].start):
            position = before + instant.position
            if position >= first and (end is None or position < end):
                joined.append(instant._replace(position=position))
    assert joined == whole


@given(count=st.integers(1, 300), of=st.integers(1, 300))
def test_segments_take_all_parts_evenly(count: int, of: int) -> None:
    if of > count:
        with pytest.raises(ValueError, match=f"at most {count} segments"):
            Segment(1, of).parts(count)
        return
    taken = [Segment(number, of).parts(count) for number in range(1, of + 1)]
    assert [part for parts in taken for part in parts] == list(range(count))
    assert max(map(len, taken)) - min(map(len, taken)) <= 1


def test_borders_go_to_key_frames_nearby() -> None:
    plan = Plan(passes=1)
    assert part_borders(plan, 200, lambda frame: Fraction(frame, 24), [0, 50, 66, 100, 190], 120) == [66, 120, 190]


class Blend:
    """A network that needs no time: the mean of the two frames, weighted by the time."""

    padding = Padding(multiple_of=1, centred=False, mode="replicate")
    any_time = True

    def open_pair(self, frame0: torch.Tensor, frame1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return frame0, frame1

    def frame_at(self, pair: tuple[torch.Tensor, torch.Tensor], timestep: torch.Tensor) -> torch.Tensor:
        return torch.lerp(*pair, timestep[:, None, None, None])


def source(
    path: Path,
    frames: int = 48,
    *,
    size: tuple[int, int] = (48, 64),
    variable: bool = False,
    sound: bool = True,
    options: dict[str, str] | None = None,
) -> Path:
    """A file with two shots, B-frames and many key frames."""
    torch.manual_seed(0)
    shots = torch.nn.functional.interpolate(torch.rand(2, 3, 6, 8), (size[0] + 40, size[1] + 130), mode="bicubic")
    pictures = (shots.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy()
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=24, options={"g": "9", "bf": "2", **(options or {})})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000) if variable else Fraction(1, 24)
        audio: Any = container.add_stream("aac", rate=48000, layout="stereo") if sound else None
        for k in range(frames):
            shot = pictures[int(k >= frames * 2 // 3)]
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(shot[k // 3 : k // 3 + size[0], 2 * k : 2 * k + size[1]]), "rgb24"
            )
            frame.pts = k * 40 + (k % 5) * 7 if variable else k
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            count = frames * 2000
            tone = (np.sin(np.arange(count) / 20) * 0.3).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), "fltp", "stereo")
            frame.rate = 48000
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def decoded(path: Path) -> tuple[list[Any], list[Any]]:
    """Every picture with its time, and every packet of the sound."""
    with av.open(str(path)) as container:
        pictures = [
            (frame.time, frame.pts, frame.to_ndarray().tobytes())
            for frame in container.decode(container.streams.video[0])
        ]
    with av.open(str(path)) as container:
        heard = [
            (packet.pts, bytes(packet))
            for packet in (container.demux(container.streams.audio[0]) if container.streams.audio else ())
            if packet.size
        ]
    return pictures, heard


def make(
    video: VideoReader | VideoInMemory,
    path: Path,
    plan: Plan,
    segment: Segment = WHOLE,
    part: int = 24,
    network: Any = None,
    bad: frozenset[int] = frozenset(),
) -> Fraction:
    network = network or Blend()
    engine = Engine(network, torch.device("cpu"), begin_part=getattr(network, "begin_part", lambda: None))
    sound = sound_of(video, plan.heard) if isinstance(video, VideoReader) else Sound()
    return interpolate_video(
        video,
        path,
        plan=plan,
        analysis=SourceAnalysis(plan.end, CutDetector(), bad=bad),
        interpolate=engine.interpolate,
        sound=sound.tracks if segment.number == 1 else [],
        delay=video.timing.start - sound.origin,
        poll=lambda: None,
        shown=lambda frame: None,
        segment=segment,
        part=part,
    )


PLANS: dict[str, Plan] = {
    "smooth": Plan(1, "hold"),
    "stop": Plan(2, "stop"),
    "loop": Plan(1, "loop"),
    "loop with a long seam": Plan(end="loop", rate=Fraction(30), seam=11),
    "target rate": Plan(end="hold", rate=Fraction(60000, 1001)),
    "slow motion": Plan(1, "hold", slow=True),
    "speed curve": Plan(end="stop", rate=Fraction(30), curve=CURVE),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("kind", ["constant", "variable", "trimmed"])
def test_joined_segments_equal_the_video_made_in_one_go(tmp_path: Path, plan: Plan, kind: str) -> None:
    path = source(tmp_path / "source.mp4", variable=kind == "variable")
    video = VideoReader(str(path), Window(0.6, 1.5) if kind == "trimmed" else Window())
    length = make(video, tmp_path / "whole.mp4", plan)
    of = len(borders_of(video.timing, plan, 24)) + 1
    assert of >= 2
    segments = [tmp_path / f"{number}.mp4" for number in range(1, min(of, 4) + 1)]
    lengths = [
        make(VideoReader(str(path), video.window), segment, plan, Segment(number, len(segments)))
        for number, segment in enumerate(segments, 1)
    ]
    join_videos(segments, tmp_path / "joined.mp4")
    assert decoded(tmp_path / "joined.mp4") == decoded(tmp_path / "whole.mp4")
    assert sum(lengths) == length
    with av.open(str(tmp_path / "joined.mp4")) as joined, av.open(str(tmp_path / "whole.mp4")) as whole:
        assert joined.duration == whole.duration
        ours: Any = joined.streams.video[0]
        theirs: Any = whole.streams.video[0]
        assert (ours.duration * ours.time_base, ours.average_rate) == (
            theirs.duration * theirs.time_base,
            theirs.average_rate,
        )
        assert ours.codec_context.color_primaries == theirs.codec_context.color_primaries


BAD = {
    "at the borders": frozenset({9, 12, 18, 24, 27, 36}),
    "longer than a part": frozenset(range(14, 40)),
    "few are good": frozenset(range(48)) - {0, 1, 2, 3, 4, 9, 14, 19, 24, 29, 34, 39, 44, 45, 46, 47},
}


@pytest.mark.parametrize("plan", [PLANS["smooth"], PLANS["target rate"]], ids=["smooth", "target rate"])
@pytest.mark.parametrize("variable", [False, True], ids=["constant", "variable"])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_frames_are_the_same_in_segments(tmp_path: Path, plan: Plan, variable: bool, bad: frozenset[int]) -> None:
    path = source(tmp_path / "source.mp4", variable=variable, sound=False)
    video = VideoReader(str(path))
    make(video, tmp_path / "whole.mp4", plan, part=12, bad=bad)
    of = len(borders_of(video.timing, plan, 12, bad)) + 1
    assert of >= 2
    segments = [tmp_path / f"{number}.mp4" for number in range(1, of + 1)]
    for number, segment in enumerate(segments, 1):
        make(video, segment, plan, Segment(number, of), part=12, bad=bad)
    join_videos(segments, tmp_path / "joined.mp4")
    assert decoded(tmp_path / "joined.mp4") == decoded(tmp_path / "whole.mp4")


@pytest.mark.parametrize("container", ["ts", "mkv", "avi"])
def test_segments_of_files_without_index_or_times(tmp_path: Path, container: str) -> None:
    path = source(tmp_path / f"source.{container}", sound=False)
    plan = Plan(1, "hold")
    video = VideoReader(str(path))
    make(video, tmp_path / "whole.mp4", plan)
    segments = [tmp_path / f"{number}.mp4" for number in (1, 2, 3)]
    for number, segment in enumerate(segments, 1):
        make(video, segment, plan, Segment(number, 3))
    join_videos(segments, tmp_path / "joined.mp4")
    assert decoded(tmp_path / "joined.mp4") == decoded(tmp_path / "whole.mp4")


def test_segments_choose_the_same_motion_scale(tmp_path: Path) -> None:
    path = source(tmp_path / "source.mp4", 16, size=(48, 464), sound=False)
    checkpoint = load_checkpoint(BUNDLED_FOLDER / BUNDLED.name)
    video, plan = VideoReader(str(path)), Plan(1, "hold")

    def network() -> ScaledAMT:
        return ScaledAMT(FastAMT(checkpoint.network), carried=True)

    make(video, tmp_path / "whole.mp4", plan, part=12, network=network())
    segments = [tmp_path / f"{number}.mp4" for number in (1, 2)]
    for number, segment in enumerate(segments, 1):
        make(video, segment, plan, Segment(number, 2), part=12, network=network())
    join_videos(segments, tmp_path / "joined.mp4")
    assert decoded(tmp_path / "joined.mp4") == decoded(tmp_path / "whole.mp4")


def test_what_does_not_belong_together_is_not_joined(tmp_path: Path) -> None:
    plan = Plan(1, "hold")
    first, other, joined = (tmp_path / f"{name}.mp4" for name in ("first", "other", "joined"))
    make(VideoReader(str(source(tmp_path / "a.mp4", 12))), first, plan)
    make(VideoReader(str(source(tmp_path / "b.mp4", 12, size=(64, 64)))), other, plan)
    with pytest.raises(JoinError, match=r"other\.mp4: expected a segment of the same video .*64 x 64"):
        join_videos([first, other], joined)
    assert not joined.exists()
