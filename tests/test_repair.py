"""Bad frames are made anew out of the good ones around them, and nothing else changes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numbered
import pytest
import torch
from amt_frame_interpolation.amt.engine import Engine
from amt_frame_interpolation.amt.network.padding import Padding
from amt_frame_interpolation.amt.timeline import End, Plan, Span
from amt_frame_interpolation.amt.timeline.analysis import SourceAnalysis
from amt_frame_interpolation.amt.timeline.curve import speed_curve
from amt_frame_interpolation.amt.timeline.cuts import CutDetector
from amt_frame_interpolation.amt.timeline.repair import bad_frames, frame_runs
from amt_frame_interpolation.amt.timeline.sources import Gap
from amt_frame_interpolation.video.decode import VideoReader
from amt_frame_interpolation.video.pipeline import interpolate_video
from hypothesis import given
from hypothesis import strategies as st
from numbered import Counter
from torch import Tensor

CPU = torch.device("cpu")
DAMAGED = 1e6
CURVE = speed_curve("0 s: 1x, 0.2 s: 0.25x ease, 0.4 s: 3x ease 0.1 s")

plans = st.one_of(
    st.builds(Plan, passes=st.integers(0, 4), end=st.sampled_from(["stop", "hold", "loop"]), slow=st.booleans()),
    st.builds(
        Plan,
        end=st.sampled_from(["stop", "hold", "loop"]),
        rate=st.fractions(1, 120, max_denominator=1001),
        curve=st.sampled_from([None, CURVE]),
    ),
)


class Exact:
    """Blends in double precision: what it makes is as exact as the times are."""

    padding = Padding(multiple_of=1, centred=False, mode="replicate")
    any_time = True

    def open_pair(self, frame0: Tensor, frame1: Tensor) -> tuple[Tensor, Tensor]:
        return frame0, frame1

    def frame_at(self, pair: tuple[Tensor, Tensor], timestep: Tensor) -> Tensor:
        return torch.lerp(*pair, timestep[:, None, None, None])


def clip(count: int, bad: set[int]) -> list[Tensor]:
    """Frames [1, 1, 3] whose pixels are their number; the bad ones are far off."""
    return [torch.full((1, 1, 3), DAMAGED if number in bad else float(number)) for number in range(count)]


@given(plan=plans, count=st.integers(2, 20), data=st.data())
def test_the_listed_frames_are_made_anew_at_their_times(plan: Plan, count: int, data: st.DataObject) -> None:
    """Whatever becomes of time: as many frames as ever, at the same times, each where it would have been."""
    last = count - 1 if plan.end == "loop" else count - 2
    bad = data.draw(st.sets(st.integers(1, last), max_size=last) if last >= 1 else st.just(set()))
    frames = clip(count, bad)
    positions = [i.position for i in plan.instants(Span(Fraction(k, 24), Fraction(k + 1, 24)) for k in range(count))]
    analysis = SourceAnalysis(plan.end, bad=frozenset(bad))
    made = list(Engine(Exact(), CPU).interpolate(analysis(frames), positions))
    assert len(made) == plan.count(count, Fraction(24))
    good = [number for number in range(count) if number not in bad]
    for frame, position in zip(made, positions, strict=True):
        if position.denominator == 1 and int(position) in good:
            assert frame is frames[int(position)]  # the very tensor
            continue
        value = float(position)
        if position > good[-1] and plan.end != "stop":  # on the way to the first frame, or held
            way = (position - good[-1]) / (count - good[-1])
            value = good[-1] * float(1 - way) if plan.end == "loop" else good[-1]
        assert float(frame[0, 0, 0]) == pytest.approx(value, abs=1e-4)


@given(plan=plans, count=st.integers(1, 20))
def test_with_an_empty_list_nothing_changes(plan: Plan, count: int) -> None:
    bad = bad_frames(frame_runs(" \n"), count, plan.end)
    sources = list(SourceAnalysis(plan.end, bad=bad)(clip(count, set())))
    assert [source.position for source in sources[:count]] == list(range(count))
    assert len(sources) == count + (plan.end != "stop")


def test_a_bad_run_across_a_cut_shows_the_side_that_is_nearer() -> None:
    torch.manual_seed(0)
    shots = torch.nn.functional.interpolate(torch.rand(2, 3, 8, 8), (96, 160), mode="nearest").permute(0, 2, 3, 1)
    frames = [shots[int(number >= 8)].roll(3 * number, 1) for number in range(16)]
    for number in (6, 7, 8, 9):
        frames[number] = torch.rand(96, 160, 3)
    analysis = SourceAnalysis(cuts=CutDetector(), bad=frozenset({6, 7, 8, 9}))
    assert [source.position for source in analysis(frames) if source.gap is Gap.CUT] == [10]
    made = list(Engine(Exact(), CPU).interpolate(analysis(frames), map(Fraction, range(16))))
    assert [made[number] is frames[5] for number in (5, 6, 7)] == [True] * 3
    assert [made[number] is frames[10] for number in (8, 9, 10)] == [True] * 3


def test_a_damaged_frame_alone_is_no_cut() -> None:
    torch.manual_seed(0)
    shot = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8), (96, 160), mode="nearest")[0].permute(1, 2, 0)
    frames = [shot.roll(2 * number, 1) for number in range(12)]
    frames[6] = torch.rand(96, 160, 3)
    assert [source.gap for source in SourceAnalysis(cuts=CutDetector())(frames)].count(Gap.CUT) > 0
    sources = list(SourceAnalysis(cuts=CutDetector(), bad=frozenset({6}))(frames))
    assert [source.gap for source in sources] == [Gap.MOTION] * 11


@pytest.mark.parametrize("plan", [Plan(0, "hold"), Plan(1, "stop"), Plan(end="hold", rate=Fraction(50))])
def test_frames_that_are_shown_for_unlike_times_are_made_for_theirs(tmp_path: Path, plan: Plan) -> None:
    """Each frame of the file shows when it is shown: the motion is even, the frames are not."""
    ticks = [0, 40, 60, 180, 200, 320, 360, 400]
    bad = {2, 3, 6}
    shown = [200 if number in bad else Fraction(tick, 40) for number, tick in enumerate(ticks)]
    path = numbered.write(tmp_path / "uneven.mkv", shown, times=ticks, time_base=Fraction(1, 1000), b_frames=0)
    video = VideoReader(str(path))
    interpolate_video(
        video,
        tmp_path / "made.mp4",
        plan=plan,
        analysis=SourceAnalysis(plan.end, bad=frozenset(bad)),
        interpolate=Engine(Counter(any_time=True), CPU).interpolate,
        poll=lambda: None,
        shown=lambda frame: None,
    )
    made = numbered.read(tmp_path / "made.mp4")
    last = Fraction(10)
    assert len(made) >= len(ticks)
    for time, number in made:
        assert abs(number - min(time * 25, last)) <= Fraction(1, 50), (time, number)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", []),
        ("12", [12]),
        ("12, 40-43", [12, 40, 41, 42, 43]),
        (" 3 - 4 ;\n7\n", [3, 4, 7]),
        ("5\N{EN DASH}6, 6, 5-5", [5, 6]),
    ],
)
def test_numbers_and_runs(text: str, numbers: list[int]) -> None:
    assert sorted(bad_frames(frame_runs(text), 100, "stop")) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("twelve", 'expected numbers of frames, and runs of them, like "12, 40-43", got "twelve"'),
        ("1.5", 'got "1.5"'),
        ("-3", 'got "-3"'),
        ("4-", 'got "4-"'),
        ("1 2", 'got "1 2"'),
        ("9" * 5000, 'got "9'),
        ("43-40", "from the lower number to the higher one"),
    ],
)
def test_text_that_says_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frame_runs(text)


@pytest.mark.parametrize(
    ("text", "end", "message"),
    [
        ("20", "stop", "expected frames from 0 to 19, which there are, got 20"),
        ("3-999999999", "loop", "got 999999999"),
        ("0-2", "stop", "frame 0 is the first one"),
        ("0", "loop", "frame 0 is the first one"),
        ("17-19", "stop", "frame 19 is the last one"),
        ("19", "hold", "frame 19 is the last one"),
    ],
)
def test_frames_that_cannot_be_made_are_refused(text: str, end: End, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bad_frames(frame_runs(text), 20, end)


def test_in_a_loop_the_last_frames_are_made_on_the_way_to_the_first() -> None:
    assert bad_frames(frame_runs("18-19"), 20, "loop") == {18, 19}
