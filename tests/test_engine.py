import gc
import weakref
from fractions import Fraction

import pytest
import torch
from amt_frame_interpolation.amt.engine import Engine, NotFinite, PairTooLarge
from amt_frame_interpolation.amt.network import AMT, S
from amt_frame_interpolation.amt.padding import Padding
from amt_frame_interpolation.amt.timeline import frame_count, halvings
from golden import golden_state_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

CPU = torch.device("cpu")


class Blend:
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
    return [torch.full((*size, channels), float(index)) for index in range(count)]


def positions_of(frames: list[Tensor]) -> list[float]:
    assert all((frame == frame.flatten()[0]).all() for frame in frames)
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
    tolerance = 1e-5 if any_time else 1 / 128 + 1e-5
    assert all(abs(a - b) <= tolerance for a, b in zip(made, positions, strict=True))


def test_a_network_for_the_middle_is_asked_for_nothing_else() -> None:
    network = Blend()
    list(Engine(network, CPU, batch=3).run(numbered(4), [Fraction(k, 5) for k in range(16)]))
    assert {time for times in network.asked for time in times} == {0.5}


def test_an_any_time_network_is_asked_once_a_frame() -> None:
    network = Blend(any_time=True)
    list(Engine(network, CPU, batch=2).run(numbered(2), [Fraction(k, 5) for k in range(6)]))
    assert [time for times in network.asked for time in times] == pytest.approx([0.2, 0.4, 0.6, 0.8])


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
    with pytest.raises(PairTooLarge, match=r"24 x 16 pixels.*--cpu"):
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

    with pytest.raises(NotFinite, match="fp32"):
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
