from fractions import Fraction
from itertools import islice, pairwise

import pytest
from amt_frame_interpolation.amt.timeline import TOLERANCE, dyadic, exact_rate, frame_count, halvings
from hypothesis import given
from hypothesis import strategies as st


@given(frames=st.integers(1, 50), passes=st.integers(0, 8))
def test_every_gap_is_filled_evenly_and_source_frames_stay(frames: int, passes: int) -> None:
    positions = list(islice(halvings(passes), frame_count(frames, passes)))
    assert positions[0] == 0
    assert positions[-1] == frames - 1
    assert {b - a for a, b in pairwise(positions)} <= {Fraction(1, 2**passes)}
    assert set(range(frames)) <= set(positions)


def test_counts() -> None:
    assert frame_count(2, 4) == 17
    assert frame_count(1, 8) == 1
    assert frame_count(0, 3) == 0


@given(st.fractions(0, 1, max_denominator=1000).filter(lambda t: 0 < t < 1))
def test_dyadic_times_are_near_enough_and_as_coarse_as_can_be(time: Fraction) -> None:
    found = dyadic(time)
    parts = found.denominator
    assert parts & (parts - 1) == 0
    assert abs(found - time) <= TOLERANCE
    if found == time:
        return
    coarser = [Fraction(k, parts // 2) for k in range(1, parts // 2)]
    assert all(abs(c - time) > TOLERANCE for c in coarser)


@given(st.integers(1, 10).flatmap(lambda n: st.integers(1, 2**n - 1).map(lambda k: Fraction(k, 2**n))))
def test_dyadic_times_stay_as_they_are(time: Fraction) -> None:
    assert dyadic(time) == time


@pytest.mark.parametrize("time", [Fraction(0), Fraction(1), Fraction(-1, 2), Fraction(3, 2)])
def test_dyadic_times_outside_the_gap_are_refused(time: Fraction) -> None:
    with pytest.raises(ValueError, match="strictly between"):
        dyadic(time)


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (24, Fraction(24)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (12.5, Fraction(25, 2)),
        (1000, Fraction(1000)),
        (0.01, Fraction(1, 100)),
        (30.0, Fraction(30)),
    ],
)
def test_typed_rates_become_exact(fps: float, rate: Fraction) -> None:
    assert exact_rate(fps) == rate


@given(st.fractions(Fraction(1, 100), 1000, max_denominator=100))
def test_exact_rates_are_near_what_was_typed(fps: Fraction) -> None:
    assert abs(exact_rate(float(fps)) - fps) <= Fraction(1, 200)


@pytest.mark.parametrize("fps", [0, -24, float("nan"), float("inf"), 1001, 1e-9])
def test_impossible_rates_are_refused(fps: float) -> None:
    with pytest.raises(ValueError, match="expected a frame rate"):
        exact_rate(fps)
