"""Slow work in a thread, watched from the thread that can be interrupted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


def watch(work: Callable[[], T], check: Callable[[], None], stop: Event, *, every: float = 0.05) -> T:
    """Runs `work()` in a thread of its own and returns what it returns, or raises what it raises.

    Meanwhile `check()` is called in this thread every `every` seconds. When it raises (an interrupt, a deadline),
    `stop` is set and the exception goes on at once: a call that hangs in the network does not hold it up. The work is
    expected to look at `stop` and to end by itself.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    # A daemon, so that a socket that hangs does not keep the program from ending.
    Thread(target=run, name="amt-remote", daemon=True).start()
    try:
        while not wait([future], timeout=every).done:
            check()
    except BaseException:
        stop.set()
        raise
    return future.result()
