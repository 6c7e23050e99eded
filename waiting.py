"""Slow work in a thread of its own, while a person may cancel.

Every place of the pack that waits does it with this module: downloads, remote services, videos, and the scripts.
Python can't end a thread from outside. So the work gets an Event that tells it to stop, and whoever waits need not
wait for it: a call that hangs in the network holds up nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Generic, TypeVar, cast

T = TypeVar("T")

SECONDS = 0.05
"""Between two looks at whether the person has cancelled."""


def wait_until(attempt: Callable[[float], T | None], check: Callable[[], object], seconds: float = SECONDS) -> T:
    """Calls `attempt(seconds)` again and again until it returns something true, and returns that; `check()` in between.

    Args:
        attempt: what is waited for. It may block for up to `seconds`, for example in `Event.wait`.
        check: whatever it raises ends the waiting, for example an interrupt or a deadline.
    """
    while not (found := attempt(seconds)):
        check()
    return found


class Background(Generic[T]):
    """Runs `work(stop)` in a thread, from the moment this is made.

    `stop` is set when nobody wants the result any more; the work is expected to look at it and to end by itself.
    As a context manager it sets `stop` at the end and then waits until the thread has ended: after that no file is
    open and nothing is written any more. Work that may hang is waited for with `result` alone.
    """

    def __init__(self, work: Callable[[Event], T], name: str, *, stop: Event | None = None) -> None:
        self.stop = stop or Event()
        self._work = work
        self._over = Event()
        self._result: T | None = None
        self._error: BaseException | None = None
        # A daemon, unlike the threads of concurrent.futures: a socket that hangs does not keep the program from ending.
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._work(self.stop)
        except BaseException as error:  # raised again where the result is waited for
            self._error = error
        finally:
            self._over.set()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def result(self, check: Callable[[], object], seconds: float = SECONDS) -> T:
        """Waits for the work and returns what it returns, or raises what it raises.

        Meanwhile `check()` is called every `seconds`, in the thread that waits. When it raises, `stop` is set and the
        exception goes on at once, whatever the work is doing.
        """
        try:
            wait_until(self._over.wait, check, seconds)
        except BaseException:
            self.stop.set()
            raise
        if self._error is not None:
            raise self._error
        return cast(T, self._result)

    def __enter__(self) -> Background[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop.set()
        self._thread.join()
