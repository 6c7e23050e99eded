from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from amt_frame_interpolation.amt.timeline.spacing import even_positions, gap_count, gap_lengths, gap_positions
from hypothesis import given
from hypothesis import strategies as st

ends = st.sampled_from(["stop", "hold", "loop"])


def test_two_pictures_to_two_seconds() -> None:
    positions = even_positions(2, 48, "stop")
    assert (positions[0], positions[-1], len(positions)) == (0, 1, 48)


@given(st.integers(1, 20), st.integers(1, 200), ends)
def test_frames_are_spread_evenly_from_the_first_picture(pictures: int, frames: int, end: Any) -> None:
    positions = even_positions(pictures, frames, end)
    assert len(positions) == frames
    assert positions[0] == 0
    steps = {after - before for before, after in pairwise(positions)}
    assert len(steps) <= 1
    if end == "stop":
        assert frames == 1 or positions[-1] == pictures - 1
    else:
        assert positions[-1] + (positions[1] if frames > 1 else pictures) == pictures


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), ends)
def test_each_gap_has_its_own_length(lengths: list[int], end: Any) -> None:
    positions = gap_positions(lengths, end)
    assert positions == sorted(set(positions))
    for gap, length in enumerate(lengths):
        assert sum(gap <= position < gap + 1 for position in positions) == length
        assert gap in positions  # every picture is shown
    assert (len(lengths) in positions) == (end == "stop")


def test_lengths_in_seconds_and_frames() -> None:
    assert gap_lengths("1 s, 0.5 s, 12 frames", 3, Fraction(24)) == [24, 12, 12]
    assert gap_lengths("0.5; 2 f", 2, Fraction(16)) == [8, 2]
    assert gap_lengths("2 s", 3, Fraction(10)) == [20, 20, 20]
    assert gap_lengths("3 frames", 2, None) == [3, 3]


@given(
    st.lists(st.fractions(Fraction(1, 5), 5, max_denominator=100), min_size=2, max_size=30),
    st.sampled_from([Fraction(24000, 1001), Fraction(16), Fraction(60)]),
)
def test_rounding_does_not_add_up(seconds: list[Fraction], rate: Fraction) -> None:
    text = ", ".join(f"{float(second):.4f} s" for second in seconds)
    lengths = gap_lengths(text, len(seconds), rate)
    typed = [Fraction(f"{float(second):.4f}") for second in seconds]
    for k in range(1, len(seconds) + 1):
        assert abs(sum(lengths[:k]) - sum(typed[:k]) * rate) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("text", "gaps", "rate", "reason"),
    [
        ("1 s, 2 s", 3, 24, "expected one length, or 3, .* got 2"),
        ("long", 1, 24, 'got "long"'),
        ("2.5 frames", 1, 24, "a whole number of frames"),
        ("0.001 s", 1, 24, "at least one frame a gap"),
        ("0 frames", 1, 24, "at least one frame a gap"),
        ("2 s", 1, None, "expected the frame rate of the result"),
        ("999999 s", 1, 24, "up to 1000000 frames in all"),
    ],
)
def test_what_is_no_list_of_lengths(text: str, gaps: int, rate: int | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        gap_lengths(text, gaps, rate and Fraction(rate))


def test_how_many_gaps() -> None:
    assert [gap_count(3, end) for end in ("stop", "hold", "loop")] == [2, 3, 3]
