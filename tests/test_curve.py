from __future__ import annotations

import contextlib
from fractions import Fraction
from itertools import pairwise

import pytest
from amt_frame_interpolation.amt.timeline import Plan, Span
from amt_frame_interpolation.amt.timeline.curve import EXAMPLE, SpeedCurve, SpeedKey, speed_curve
from hypothesis import given
from hypothesis import strategies as st

speeds = st.sampled_from([Fraction(1, 8), Fraction(1, 4), Fraction(1, 3), Fraction(1), Fraction(3, 2), Fraction(4)])


@st.composite
def curves(draw: st.DrawFn) -> SpeedCurve:
    keys: list[SpeedKey] = []
    time = Fraction(0)
    for _ in range(draw(st.integers(1, 5))):
        gap = draw(st.fractions(Fraction(1, 10), 3, max_denominator=30)) if keys else Fraction(0)
        ease = gap * draw(st.sampled_from([0, Fraction(1, 3), 1]))
        time += gap
        keys.append(SpeedKey(time, draw(speeds), ease))
    return SpeedCurve(tuple(keys))


def test_a_second_in_slow_motion() -> None:
    """The text of the help: normal, then a quarter of the speed for a second, then normal again."""
    curve = speed_curve(EXAMPLE)
    assert [curve.source_time(Fraction(time)) for time in (0, 1, 2, 4, 6, 7)] == [0, 1, 2, Fraction(5, 2), 3, 4]


def test_easing_ends_at_its_key_with_the_mean_speed_on_the_way() -> None:
    curve = speed_curve("0 s: 1x, 2 s: 0.5x ease 1 s")
    assert curve.source_time(Fraction(1)) == 1
    # From 1 s to 2 s of the source at a mean speed of 3/4.
    assert curve.source_time(1 + Fraction(4, 3)) == 2
    assert curve.source_time(1 + Fraction(4, 3) + 2) == 3
    assert speed_curve("0: 1, 2: 0.5 ease") == speed_curve("0 s: 1x; 2 s: 0.5x ease 2 s")


@given(curves())
def test_time_never_goes_back_and_speed_has_no_jump_in_position(curve: SpeedCurve) -> None:
    steps = [curve.source_time(Fraction(k, 40)) for k in range(400)]
    fastest, slowest = max(key.speed for key in curve.keys), min(key.speed for key in curve.keys)
    assert steps[0] == 0
    for before, after in pairwise(steps):
        assert slowest / 40 <= after - before <= fastest / 40


@given(curves(), st.fractions(0, 8, max_denominator=50))
def test_when_a_moment_is_shown_is_the_inverse(curve: SpeedCurve, moment: Fraction) -> None:
    shown = Fraction(curve.output_time(moment))
    assert float(curve.source_time(shown)) == pytest.approx(float(moment), abs=1e-4)


@given(curves(), st.integers(1, 40), st.sampled_from([12, 24, Fraction(30000, 1001), 60]))
def test_a_plan_shows_the_moments_of_the_curve(curve: SpeedCurve, frames: int, rate: Fraction) -> None:
    source_rate = Fraction(16)
    spans = [Span(k / source_rate, (k + 1) / source_rate) for k in range(frames)]
    plan = Plan(end="hold", rate=Fraction(rate), curve=curve)
    instants = list(plan.instants(spans))
    assert len(instants) == plan.count(frames, source_rate)
    for index, instant in enumerate(instants):
        assert instant.time == index / Fraction(rate)
        assert instant.position == curve.source_time(instant.time) * source_rate
    # All of the source is shown, and nothing beyond it.
    end = frames / source_rate
    assert curve.source_time(len(instants) / Fraction(rate)) >= end > curve.source_time(instants[-1].time)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "at least one speed"),
        ("fast", 'got "fast"'),
        ("0 s: 1x, 2 s: -1x", 'got "2 s: -1x"'),
        ("0 s: 0x", "speeds from 0.01x to 100x, got 0x"),
        ("0 s: 1x, 2 s: 1000x", "got 1000x"),
        ("2 s: 1x, 1 s: 2x", "ascending order, got 1 s after 2 s"),
        ("0 s: 1x, 1 s: 2x, 1 s: 1x", "ascending order"),
        ("0 s: 1x, 1 s: 2x ease 2 s", "got an ease of 2 s"),
    ],
)
def test_what_is_no_curve(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        speed_curve(text)


@given(st.text(max_size=40))
def test_any_other_text_is_refused_or_read(text: str) -> None:
    curve = None
    with contextlib.suppress(ValueError):
        curve = speed_curve(text)
    assert curve is None or curve.source_time(Fraction(0)) == 0
