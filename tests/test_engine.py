import gc
import weakref
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from amt_frame_interpolation.amt import engine as engine_module
from amt_frame_interpolation.amt.engine import MOST_HELD, Engine, NotFiniteError
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.fast.cpu import CPUOperations
from amt_frame_interpolation.amt.network import AMT, S
from amt_frame_interpolation.amt.network.padding import Padding
from amt_frame_interpolation.amt.out_of_memory import PairTooLargeError
from amt_frame_interpolation.amt.timeline import End, frame_count, halvings, multiples
from amt_frame_interpolation.amt.timeline.analysis import SourceAnalysis
from amt_frame_interpolation.amt.timeline.repeats import closing_repeats
from amt_frame_interpolation.amt.timeline.sources import Gap, Source, as_sources, with_end
from amt_frame_interpolation.amt.transfer import Download, Transfer
from golden import golden_state_dict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opened_pairs import OpenedPairs
from torch import Tensor

CPU = torch.device("cpu")


class Blend(OpenedPairs):
    """A network whose frames say when they are: pixels mix linearly, so numbered frames give their positions."""

    padding = Padding(multiple_of=8, minimum=16)

    def __init__(self, any_time: bool = False, most_pairs: int = 1000) -> None:
        self.any_time = any_time
        self.most_pairs = most_pairs
        self.asked: list[list[float]] = []

    def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        if len(frame0) > self.most_pairs:
            raise torch.OutOfMemoryError("out of memory")
        self.asked.append(timestep.tolist())
        weight = timestep[:, None, None, None]
        return (1 - weight) * frame0 + weight * frame1


def numbered(count: int, size: tuple[int, int] = (5, 7), channels: int = 3) -> list[Tensor]:
    """Frames of one value each; a fourth channel, alpha, is opaque."""
    opaque = torch.ones(*size, channels - 3)
    return [torch.cat((torch.full((*size, 3), float(index)), opaque), dim=2) for index in range(count)]


def positions_of(frames: list[Tensor]) -> list[float]:
    assert all((frame[..., :3] == frame[0, 0, 0]).all() for frame in frames)
    return [float(frame[0, 0, 0]) for frame in frames]


@given(
    count=st.integers(1, 9),
    passes=st.integers(0, 5),
    batch=st.integers(1, 7),
    any_time=st.booleans(),
    channels=st.sampled_from([3, 4]),
)
def test_frames_come_in_order_each_at_its_position(
    count: int, passes: int, batch: int, any_time: bool, channels: int
) -> None:
    sources = numbered(count, channels=channels)
    made = list(Engine(Blend(any_time), CPU, batch=batch).run(sources, halvings(passes)))
    assert positions_of(made) == [k / 2**passes for k in range(frame_count(count, passes))]
    assert all(frame.shape == (5, 7, channels) for frame in made)
    for index, source in enumerate(sources):
        assert made[index * 2**passes] is source


@given(
    st.lists(st.fractions(0, 6, max_denominator=60), min_size=1, max_size=30).map(sorted),
    st.booleans(),
    st.integers(1, 5),
)
def test_any_positions_are_met(positions: list[Fraction], any_time: bool, batch: int) -> None:
    made = positions_of(list(Engine(Blend(any_time), CPU, batch=batch).run(numbered(7), positions)))
    assert len(made) == len(positions)
    tolerance = 1e-5 if any_time else 1 / 32 + 1e-5
    assert all(abs(a - b) <= tolerance for a, b in zip(made, positions, strict=True))


def test_a_network_for_the_middle_is_asked_for_nothing_else() -> None:
    network = Blend()
    list(Engine(network, CPU, batch=3).run(numbered(4), [Fraction(k, 5) for k in range(16)]))
    assert {time for times in network.asked for time in times} == {0.5}


def test_an_any_time_network_is_asked_once_a_frame() -> None:
    network = Blend(any_time=True)
    list(Engine(network, CPU, batch=2).run(numbered(2), [Fraction(k, 5) for k in range(6)]))
    assert [time for times in network.asked for time in times] == pytest.approx([0.2, 0.4, 0.6, 0.8])


@given(
    positions=st.lists(st.fractions(0, 6, max_denominator=60), min_size=1, max_size=30, unique=True).map(sorted),
    batch=st.integers(1, 5),
    most_pairs=st.integers(1, 5),
)
def test_each_pair_is_opened_once_whatever_is_asked_of_it(
    positions: list[Fraction], batch: int, most_pairs: int
) -> None:
    """Also where the times of the pairs in a batch are not equally many, and where memory runs out for the batch."""
    network = Blend(any_time=True, most_pairs=most_pairs)
    made = positions_of(list(Engine(network, CPU, batch=batch).run(numbered(7), positions)))
    assert made == pytest.approx([float(position) for position in positions], abs=1e-5)
    pairs = {int(position) for position in positions if position.denominator > 1}
    if most_pairs >= batch:
        assert network.opened == len(pairs)


@pytest.mark.parametrize("passes", [1, 3])
def test_both_encoders_see_the_frames_of_a_pair_once(passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = Counter()
    for name in ("features", "contexts"):
        encode = getattr(CPUOperations, name)

        def counted(*given: Any, name: str = name, encode: Callable[..., object] = encode) -> object:
            encoded[name] += len(given[-1])
            return encode(*given)

        monkeypatch.setattr(CPUOperations, name, counted)
    network = FastAMT(AMT(S, any_time=True))
    frames = list(torch.rand(3, 128, 128, 3, generator=torch.Generator().manual_seed(0)))
    made = list(Engine(network, CPU).run(frames, halvings(passes)))
    assert len(made) == frame_count(3, passes)
    assert encoded == {"features": 4, "contexts": 4}


def test_pairs_that_wait_for_others_hold_few_frames() -> None:
    alive: list[weakref.ref[Tensor]] = []

    class Counting(Blend):
        def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
            made = super().__call__(frame0, frame1, timestep)
            alive.append(weakref.ref(made))
            return made

    for batch in (1, 8):
        alive.clear()
        most = 0
        for _frame in Engine(Counting(any_time=True), CPU, batch=batch).run(numbered(9), halvings(5)):
            most = max(most, sum(ref() is not None for ref in alive))
        assert most <= (2 if batch == 1 else MOST_HELD + 1)


def test_an_opened_pair_is_let_go_before_the_next_is_opened() -> None:
    open_now: list[weakref.ref[Tensor]] = []

    class Opening(Blend):
        def open_pair(self, frame0: Tensor, frame1: Tensor) -> tuple[Tensor, Tensor]:
            assert all(ref() is None for ref in open_now)
            pair = super().open_pair(frame0.clone(), frame1.clone())
            open_now.append(weakref.ref(pair[0]))
            return pair

    list(Engine(Opening(any_time=True), CPU).run(numbered(4), halvings(3)))
    assert len(open_now) == 3


def test_frames_are_taken_as_they_are_needed() -> None:
    taken = []

    def source():
        for frame in numbered(100):
            taken.append(frame)
            yield frame

    run = Engine(Blend(), CPU, batch=1).run(source(), halvings(2))
    for _ in range(9):
        next(run)
    assert len(taken) <= 4


def test_little_is_held_while_a_long_gap_is_filled() -> None:
    alive: list[weakref.ref[Tensor]] = []

    class Counting(Blend):
        def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
            made = super().__call__(frame0, frame1, timestep)
            alive.append(weakref.ref(made))
            return made

    most = 0
    for _frame in Engine(Counting(), CPU).run(numbered(2), halvings(8)):
        most = max(most, sum(ref() is not None for ref in alive))
    assert len(alive) == 255
    assert most <= 10


def test_batches_are_halved_when_memory_runs_out_and_the_result_is_the_same() -> None:
    network, freed = Blend(most_pairs=2), []
    engine = Engine(network, CPU, batch=16, free_memory=lambda: freed.append(1))
    made = positions_of(list(engine.run(numbered(9), halvings(3))))
    assert made == [k / 8 for k in range(65)]
    assert engine.batch == 2
    assert len(freed) == 2
    assert max(len(times) for times in network.asked) == 2


def test_a_pair_that_does_not_fit_says_so() -> None:
    engine = Engine(Blend(most_pairs=0), CPU)
    with pytest.raises(PairTooLargeError, match=r"24 x 16 pixels.*--cpu"):
        list(engine.run(numbered(2, size=(9, 20)), halvings(1)))


def test_other_errors_come_through() -> None:
    class Broken(Blend):
        def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
            raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(Engine(Broken(), CPU).run(numbered(2), halvings(1)))


def test_pixels_that_are_no_numbers_are_not_shown() -> None:
    class Overflowing(Blend):
        def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
            return super().__call__(frame0, frame1, timestep) * float("inf")

    with pytest.raises(NotFiniteError, match="fp32"):
        list(Engine(Overflowing(), CPU).run([f + 1 for f in numbered(2)], halvings(1)))


def test_an_interruption_ends_the_work_between_calls_and_nothing_stays() -> None:
    class Interrupted(BaseException):
        pass

    network = Blend()
    frames_alive: list[weakref.ref[Tensor]] = []

    def stop_after_three_calls() -> None:
        if len(network.asked) == 3:
            raise Interrupted

    def source():
        for frame in numbered(5):
            frames_alive.append(weakref.ref(frame))
            yield frame

    run = Engine(network, CPU, before_call=stop_after_three_calls).run(source(), halvings(4))
    with pytest.raises(Interrupted):
        list(run)
    del run
    gc.collect()
    assert len(network.asked) == 3
    assert all(ref() is None for ref in frames_alive)


@settings(deadline=None, max_examples=5)
@given(height=st.integers(1, 150), width=st.integers(1, 150))
def test_the_real_network_runs_in_it(height: int, width: int) -> None:
    network = AMT(S)
    network.load_state_dict(golden_state_dict(network))
    sources = list(torch.rand(3, height, width, 4, generator=torch.Generator().manual_seed(0)))
    made = list(Engine(network.eval(), CPU, batch=2).run(sources, halvings(1)))
    assert len(made) == 5
    assert all(frame.shape == (height, width, 4) and frame.isfinite().all() for frame in made)
    assert [made[i] for i in (0, 2, 4)] == sources or all(made[2 * i] is sources[i] for i in range(3))


def test_recursion_works_on_padded_frames() -> None:
    """A frame made of made frames is not cropped and padded again in between."""
    network = AMT(S)
    network.load_state_dict(golden_state_dict(network))
    network.eval()
    frames = torch.rand(2, 3, 130, 140, generator=torch.Generator().manual_seed(0))
    made = list(Engine(network, CPU).run(list(frames.permute(0, 2, 3, 1)), halvings(2)))
    half = torch.tensor([0.5])
    with torch.inference_mode():
        frame0, frame1 = network.padding.pad(frames).split(1)
        middle = network(frame0, frame1, half)
        quarter = network.padding.crop(network(frame0, middle, half), (130, 140))
    torch.testing.assert_close(made[1], quarter[0].permute(1, 2, 0), atol=1e-5, rtol=0)


# ---- a device that works while the host goes on


class Late(Transfer):
    """A device that is done with nothing until the host waits for it."""

    def download(self, *tensors: Tensor) -> Download:
        return self.Pending(tensors)

    class Pending:
        def __init__(self, tensors: tuple[Tensor, ...]) -> None:
            self.tensors = tensors

        def is_done(self) -> bool:
            return False

        def wait(self) -> list[Tensor]:
            return list(self.tensors)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "transfer_for", Late)


@pytest.mark.usefixtures("late")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gaps=st.lists(st.sampled_from(Gap), min_size=1, max_size=60),
    passes=st.integers(0, 4),
    batch=st.integers(1, 5),
    any_time=st.booleans(),
)
def test_frames_that_come_late_come_in_order(gaps: list[Gap], passes: int, batch: int, any_time: bool) -> None:
    frames = numbered(len(gaps) + 1)
    sources = [
        Source(index, frame, gap) for index, (frame, gap) in enumerate(zip(frames, [Gap.MOTION, *gaps], strict=True))
    ]
    positions = multiples(Fraction(1, 2**passes), len(frames), "stop")
    made = list(Engine(Blend(any_time), CPU, batch=batch).interpolate(sources, positions))
    expected = [
        position if gaps[min(int(position), len(gaps) - 1)] is Gap.MOTION else round(position - Fraction(1, 10**6))
        for position in positions
    ]
    assert positions_of(made) == expected


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("any_time", [False, True])
def test_the_next_pair_is_asked_for_before_the_last_one_is_waited_for(any_time: bool) -> None:
    network = Blend(any_time)
    asked = [len(network.asked) for _ in Engine(network, CPU).run(numbered(5), halvings(1))]
    assert asked[1::2] == [2, 3, 4, 4]


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("any_time", [False, True])
def test_no_frame_that_is_no_number_is_shown_however_late(any_time: bool) -> None:
    class Failing(Blend):
        def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
            made = super().__call__(frame0, frame1, timestep)
            return made * float("nan") if len(self.asked) == 3 else made

    run = Engine(Failing(any_time), CPU).run(numbered(6), halvings(1))
    assert positions_of([next(run) for _ in range(5)]) == [0, 0.5, 1, 1.5, 2]
    with pytest.raises(NotFiniteError):
        next(run)


@given(st.lists(st.floats(-0.5, 1.5, width=32), min_size=1, max_size=50))
def test_bytes_are_the_nearest_levels(values: list[float]) -> None:
    frames = [torch.tensor(values)[:, None, None].expand(-1, 1, 3)] * 2
    _, made, _ = Engine(Blend(), CPU, as_bytes=True).run(frames, halvings(1))
    assert made.dtype == torch.uint8
    off = made[:, 0, 0].double() - torch.tensor(values).double().clamp(0, 1) * 255
    assert off.abs().max() <= 0.5001


# ---- gaps that are no motion, and what follows the last frame


@given(
    gaps=st.lists(st.sampled_from(Gap), min_size=1, max_size=8),
    passes=st.integers(0, 4),
    batch=st.integers(1, 5),
    any_time=st.booleans(),
    end=st.sampled_from(["stop", "hold", "loop"]),
)
def test_where_there_is_no_motion_the_nearer_frame_is_held(
    gaps: list[Gap], passes: int, batch: int, any_time: bool, end: End
) -> None:
    frames = numbered(len(gaps) + 1)
    sources = [Source(0, frames[0], Gap.MOTION)]
    sources += [Source(index + 1, frames[index + 1], gap) for index, gap in enumerate(gaps)]
    positions = multiples(Fraction(1, 2**passes), len(frames), end)
    made = list(Engine(Blend(any_time), CPU, batch=batch).interpolate(with_end(sources, end), positions))
    assert len(made) == len(positions) == frame_count(len(frames), passes, end)
    for frame, position in zip(made, positions, strict=True):
        index = int(position)
        share = float(position - index)
        following = frames[index + 1] if index < len(gaps) else frames[0]
        gap = gaps[index] if index < len(gaps) else Gap.REPEAT if end == "hold" else Gap.MOTION
        if gap is Gap.MOTION:
            assert float(frame[0, 0, 0]) == (1 - share) * frames[index][0, 0, 0] + share * following[0, 0, 0]
        elif index == len(gaps):
            assert frame is frames[-1]
        else:
            assert frame is (frames[index] if share <= 0.5 else following)


def test_a_source_that_is_missing_leaves_a_longer_gap() -> None:
    frames = numbered(9)
    sources = [Source(index, frames[index], Gap.MOTION) for index in (0, 1, 4, 8)]
    made = list(Engine(Blend(any_time=True), CPU).interpolate(sources, multiples(Fraction(1, 2), 9)))
    assert positions_of(made) == pytest.approx([k / 2 for k in range(17)])


def test_bytes_are_taken_for_colours_up_to_255() -> None:
    frames = [torch.full((5, 7, 3), value, dtype=torch.uint8) for value in (51, 153)]
    first, middle, last = Engine(Blend(), CPU).run(frames, halvings(1))
    assert first is frames[0]
    assert last is frames[1]
    torch.testing.assert_close(middle, torch.full((5, 7, 3), 0.4))


def test_times_next_to_a_source_frame_show_it() -> None:
    """Rather than asking a network for the middle seven times over for a time 1/200 away."""
    network = Blend()
    sources = numbered(3)
    times = [Fraction(0), Fraction(199, 200), Fraction(1), Fraction(201, 200)]
    made = list(Engine(network, CPU).run(sources, times))
    assert network.asked == []
    assert made == [sources[0], sources[1], sources[1], sources[1]]


repeating = st.lists(st.integers(1, 7), min_size=1, max_size=8)
"""For how many frames each drawing is shown."""


def drawings(shown: list[int]) -> list[Tensor]:
    frames = []
    for number, times in enumerate(shown):
        frames += [numbered(number + 1, size=(40, 50))[number] / 100 for _ in range(times)]
    return [frame + 0.001 * torch.rand(frame.shape) for frame in frames]


@given(repeating)
def test_repeats_are_marked_or_dropped_by_how_long_they_stand(shown: list[int]) -> None:
    frames = drawings(shown)
    sources = list(SourceAnalysis(replace_repeats=True)(frames))
    firsts = [sum(shown[:k]) for k in range(len(shown))]
    expected: list[tuple[int, Gap]] = []
    for number, (first, times) in enumerate(zip(firsts, shown, strict=True)):
        expected.append((first, Gap.MOTION))
        if times > 4 or number == len(shown) - 1:
            expected += [(first + k, Gap.REPEAT) for k in range(1, times)]
    assert [(source.position, source.gap) for source in sources] == expected
    assert all(source.frame is frames[source.position] for source in sources)


def test_repeats_before_a_cut_stay_where_they_are() -> None:
    frames = drawings([2, 2])

    def cut_at_two(sources):
        return (source._replace(gap=Gap.CUT) if source.position == 2 else source for source in sources)

    sources = list(SourceAnalysis(cuts=cut_at_two, replace_repeats=True)(frames))
    assert [(source.position, source.gap) for source in sources] == [
        (0, Gap.MOTION),
        (1, Gap.REPEAT),
        (2, Gap.CUT),
        (3, Gap.REPEAT),
    ]


def test_repeats_are_not_held_back_without_end() -> None:
    taken = 0
    still = torch.zeros(20, 20, 3)

    def frames():
        nonlocal taken
        for _ in range(50):
            taken += 1
            yield still

    for source in SourceAnalysis(replace_repeats=True)(frames()):
        assert taken <= source.position + 5


def test_frames_of_a_slow_fade_are_no_repeats() -> None:
    """Each is hardly different from the one before, but soon from the one that is shown."""
    frames = [torch.full((20, 20, 3), 0.4 + 0.004 * k) for k in range(20)]
    positions = [source.position for source in SourceAnalysis(replace_repeats=True)(frames)]
    assert positions[:4] == [0, 2, 4, 6]


@given(st.lists(st.booleans(), min_size=1, max_size=10))
def test_exact_repeats_alone_are_held_otherwise(again: list[bool]) -> None:
    frames = [torch.rand(6, 6, 3)]
    for repeat in again:
        frames.append(frames[-1].clone() if repeat else frames[-1] + 1e-6)
    gaps = [source.gap for source in SourceAnalysis()(frames)][1:]
    assert gaps == [Gap.REPEAT if repeat else Gap.MOTION for repeat in again]


def test_the_beginning_may_be_elsewhere() -> None:
    beginning, *frames = numbered(3)
    *_, last = SourceAnalysis(end="loop")(frames, beginning)
    assert (last.position, last.gap) == (2, Gap.MOTION)
    assert last.frame is beginning
    assert len(list(with_end(as_sources([]), "loop"))) == 0


@pytest.mark.parametrize("repeats", [0, 1, 3, 5])
def test_a_loop_does_not_stand_still_at_its_seam(repeats: int) -> None:
    """The last frames are the first one again: the loop ends before them, unless it stands still for longer."""
    torch.manual_seed(0)
    frames = list(torch.rand(6, 32, 32, 3))
    frames += [frames[0] + 0.001 * torch.rand(32, 32, 3) for _ in range(repeats)]
    assert closing_repeats(frames[0], reversed(frames)) == (repeats if repeats <= 3 else 0)


def test_the_last_drawing_of_a_loop_moves_on_to_the_first() -> None:
    """Its repeats are replaced as those of every other drawing are."""
    frames = drawings([2, 2, 2])
    sources = list(SourceAnalysis("loop", replace_repeats=True)(frames))
    assert [source.position for source in sources] == [0, 2, 4, 6]
    assert [source.gap for source in sources] == [Gap.MOTION] * 4
