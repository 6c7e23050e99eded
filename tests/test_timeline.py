from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise

import pytest
from amt_frame_interpolation.amt.timeline import (
    TOLERANCE,
    End,
    Plan,
    Span,
    dyadic,
    dyadic_times,
    exact_rate,
    frame_count,
    halved,
    halvings,
    multiples,
    resampled,
)
from amt_frame_interpolation.amt.timeline.curve import speed_curve
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
    coarser = [Fraction(k, parts // 2) for k in range(parts // 2 + 1)] if parts > 1 else []
    assert all(abs(c - time) > TOLERANCE for c in coarser)


@given(st.integers(1, 300), st.fractions(0, 1, max_denominator=50).filter(lambda share: share < 1))
def test_times_that_are_close_together_stay_apart(parts: int, share: Fraction) -> None:
    times = [time for time in ((k + share) / parts for k in range(parts)) if time > 0]
    found = dyadic_times(times)
    assert all(before < after for before, after in pairwise(found))
    assert all(abs(a - b) <= TOLERANCE for a, b in zip(found, times, strict=True))


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
        (119.88, Fraction(120000, 1001)),
        (11.99, Fraction(12000, 1001)),
        (47.95, Fraction(48000, 1001)),
        (12.5, Fraction(25, 2)),
        (1.004, Fraction(251, 250)),
        (16.004, Fraction(4001, 250)),
        (24.98, Fraction(1249, 50)),
        (9.99, Fraction(999, 100)),
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


ends = st.sampled_from(["stop", "hold", "loop"])
rates = st.fractions(Fraction(1, 2), 120, max_denominator=1001).filter(lambda rate: rate > 0)


def spans_of(durations: list[Fraction], start: Fraction = Fraction(0)) -> list[Span]:
    starts = [start + sum(durations[:k]) for k in range(len(durations) + 1)]
    return [Span(a, b) for a, b in pairwise(starts)]


durations = st.lists(st.fractions(Fraction(1, 100), 2, max_denominator=1000), min_size=1, max_size=12)


@given(durations, st.fractions(-5, 5, max_denominator=7), st.integers(0, 5), ends, st.sampled_from([1, 2, 8]))
def test_halved_gaps_fill_their_time(
    lengths: list[Fraction], start: Fraction, passes: int, end: End, stretch: int
) -> None:
    made = list(halved(spans_of(lengths, start), passes, end, stretch))
    parts = 2**passes
    assert len(made) == frame_count(len(lengths), passes, end)
    assert [instant.position for instant in made] == [Fraction(k, parts) for k in range(len(made))]
    assert made[0].time == 0
    # each begins where the one before ends, and source frames are where they were, stretched
    assert all(a.time + a.duration == b.time for a, b in pairwise(made))
    for index, span in enumerate(spans_of(lengths)):
        assert made[index * parts].time == span.start * stretch
    if end != "stop":
        assert made[-1].time + made[-1].duration == sum(lengths) * stretch


@given(durations, st.fractions(-5, 5, max_denominator=7), rates, ends)
def test_resampled_frames_are_at_the_right_times(
    lengths: list[Fraction], start: Fraction, rate: Fraction, end: End
) -> None:
    spans = spans_of(lengths, start)
    made = list(resampled(spans, rate, end))
    assert [instant.time for instant in made] == [k / rate for k in range(len(made))]
    for instant in made:
        index = int(instant.position)
        span = spans[index]
        assert start + instant.time == span.start + (instant.position - index) * (span.end - span.start)
    last = sum(lengths[:-1]) if end == "stop" else sum(lengths)
    beyond = made[-1].time + 1 / rate
    assert beyond > last if end == "stop" else beyond >= last
    assert made[-1].time <= last if end == "stop" else made[-1].time < last


@given(
    st.one_of(
        st.builds(Plan, passes=st.integers(0, 5), end=st.just("loop"), slow=st.booleans(), seam=st.integers(1, 40)),
        st.builds(
            Plan,
            end=st.just("loop"),
            rate=rates,
            seam=st.integers(1, 40),
            curve=st.sampled_from([None, speed_curve("0 s: 1x, 0.5 s: 0.3x ease, 1 s: 2x")]),
        ),
    ),
    st.integers(1, 40),
    rates,
)
def test_a_seam_has_as_many_frames_as_it_is_given(plan: Plan, frames: int, rate: Fraction) -> None:
    """They lead evenly to the first frame, which is shown next; everything before them is as without."""
    spans = [Span(Fraction(k) / rate, Fraction(k + 1) / rate) for k in range(frames)]
    made = list(plan.instants(spans))
    assert len(made) == plan.count(frames, rate)
    before, seam = made[: -plan.seam], made[-plan.seam :]
    assert before == list(replace(plan, end="stop", seam=0).instants(spans))
    assert all(frames - 1 < instant.position < frames for instant in seam)
    assert [instant.time for instant in made] == [k / plan.output_rate(rate) for k in range(len(made))]
    assert all(instant.moment == instant.position / rate for instant in made)
    if plan.curve is None:  # the way back is even, to the moment at which the next frame would be shown
        ways = [*(instant.position - (frames - 1) for instant in seam), Fraction(1)]
        assert len({after - before for before, after in pairwise(ways)}) == 1
        assert ways[0] <= ways[1] - ways[0]


@given(st.fractions(Fraction(1, 64), 3, max_denominator=64), st.integers(1, 30), st.integers(1, 20), st.integers(0, 29))
def test_a_seam_of_a_batch_is_that_of_a_video(step: Fraction, frames: int, seam: int, seen: int) -> None:
    spans = [Span(Fraction(k), Fraction(k + 1)) for k in range(frames)]
    wanted = [instant.position for instant in Plan(end="loop", rate=1 / step, seam=seam).instants(spans)]
    assert multiples(step, frames, "loop", seam=seam) == wanted
    if 0 < seen < frames:
        later = multiples(step, frames, "loop", seen, seam)
        assert [position + seen - 1 for position in later] == [p for p in wanted if p > seen - 1]


def plans() -> st.SearchStrategy[Plan]:
    return st.builds(Plan, passes=st.integers(0, 6), end=ends, rate=st.one_of(st.none(), rates), slow=st.booleans())


@given(plans(), st.integers(1, 40), rates)
def test_duration_count_and_order_are_as_planned(plan: Plan, frames: int, rate: Fraction) -> None:
    made = list(plan.instants(Span(Fraction(k) / rate, Fraction(k + 1) / rate) for k in range(frames)))
    output_rate = plan.output_rate(rate)
    assert len(made) == plan.count(frames, rate)
    assert [instant.time for instant in made] == [k / output_rate for k in range(len(made))]
    assert all(a.position < b.position for a, b in pairwise(made))
    assert all(0 <= instant.position < frames for instant in made)
    # the position is where the time is in the source, whatever became of time
    assert all(instant.position == instant.time / plan.stretch * rate for instant in made)
    lasts = len(made) / output_rate
    if plan.end == "stop":
        assert made[-1].position <= frames - 1
        assert lasts - (frames - 1) / rate * plan.stretch <= 1 / output_rate
    else:
        assert 0 <= lasts - frames / rate * plan.stretch < 1 / output_rate


@given(st.fractions(Fraction(1, 64), 3, max_denominator=64), st.integers(1, 30), ends, st.data())
def test_parts_of_a_clip_have_the_positions_of_the_whole(
    step: Fraction, frames: int, end: End, data: st.DataObject
) -> None:
    """A clip in batches of any sizes: no position is missing at a seam, none comes twice."""
    whole = multiples(step, frames, end)
    assert whole == [k * step for k in range(len(whole))]
    assert whole[-1] <= frames - 1 if end == "stop" else frames - step <= whole[-1] < frames
    together: list[Fraction] = []
    seen = 0
    while seen < frames:
        size = data.draw(st.integers(1, frames - seen))
        last = seen + size == frames
        part = multiples(step, seen + size, end if last else "stop", seen)
        together += [position + max(seen - 1, 0) for position in part]
        seen += size
    assert together == whole


@given(plans(), st.integers(1, 10), rates)
def test_a_plan_asks_for_few_spans_in_advance(plan: Plan, frames: int, rate: Fraction) -> None:
    taken = 0

    def spans():
        nonlocal taken
        for k in range(frames):
            taken += 1
            yield Span(Fraction(k) / rate, Fraction(k + 1) / rate)

    for instant in plan.instants(spans()):
        assert taken <= instant.position + 2
