"""Slow work in a thread, while a person may cancel."""

from __future__ import annotations

from threading import Event, current_thread, main_thread

import pytest
from amt_frame_interpolation.waiting import Background, wait_until

MOMENT = 0.001


class Cancelled(BaseException):
    pass


def test_the_result_of_the_work_is_returned() -> None:
    assert Background(lambda stop: 42, "test").result(lambda: None) == 42


def test_the_work_runs_beside_the_waiting_thread_and_check_in_it() -> None:
    checked, seen = Event(), []

    def check() -> None:
        seen.append(current_thread())
        checked.set()

    def work(stop: Event) -> object:
        assert checked.wait(30)  # only the waiting thread sets it
        return current_thread()

    assert Background(work, "amt-test").result(check, MOMENT).name == "amt-test"  # type: ignore[attr-defined]
    assert set(seen) == {main_thread()}


@pytest.mark.parametrize("error", [ValueError("no"), Cancelled("no"), TimeoutError("no")], ids=repr)
def test_the_error_of_the_work_is_raised_in_the_thread_that_waits(error: BaseException) -> None:
    def work(stop: Event) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        Background(work, "test").result(lambda: None, MOMENT)
    assert caught.value is error


def test_work_that_hangs_does_not_hold_up_a_cancel_and_is_told_to_stop() -> None:
    hangs, told = Event(), Event()

    def work(stop: Event) -> None:
        stop.wait(30)
        told.set()
        hangs.wait(30)  # a call in the network that does not look at anything

    def check() -> None:
        raise Cancelled

    background = Background(work, "test")
    with pytest.raises(Cancelled):
        background.result(check, MOMENT)
    assert told.wait(30)
    assert not background.is_over
    hangs.set()


def test_the_end_of_the_context_waits_for_the_end_of_the_work() -> None:
    events: list[str] = []

    def work(stop: Event) -> None:
        stop.wait(30)
        events.append("its files are closed")

    with Background(work, "test") as background:
        assert not background.is_over
    assert events == ["its files are closed"]
    assert background.is_over


def test_a_stop_of_the_callers_own_is_used() -> None:
    stop = Event()
    background = Background(lambda stop: stop.wait(30), "test", stop=stop)
    assert background.stop is stop
    stop.set()
    assert background.result(lambda: None) is True


def test_attempts_go_on_until_one_succeeds_with_a_check_between() -> None:
    order: list[str] = []

    def attempt(seconds: float) -> bool:
        assert seconds == MOMENT
        order.append("attempt")
        return len(order) >= 5

    wait_until(attempt, lambda: order.append("check"), MOMENT)
    assert order == ["attempt", "check", "attempt", "check", "attempt"]


def test_what_succeeds_at_once_is_not_checked() -> None:
    def check() -> None:
        raise Cancelled

    wait_until(lambda seconds: True, check)
    with pytest.raises(Cancelled):
        wait_until(lambda seconds: False, check)
