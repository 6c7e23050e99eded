"""Reading and writing in threads of their own, beside the work that goes on between, with little waiting in line."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

FRAMES_AHEAD = 3
"""Enough that neither side waits for the other; more would only be held."""
FRAMES_BEHIND = 3

SECONDS = 0.1
"""How long a thread waits before it looks whether it is still wanted."""


class _Thread:
    """Runs a function in a thread that does not keep the program alive, and keeps its error."""

    def __init__(self, name: str) -> None:
        self.unwanted = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # raised again where the result is waited for
            self.error = error

    def work(self) -> None:
        raise NotImplementedError

    def start(self) -> None:
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()


class ReadAhead(_Thread, Generic[T]):
    """Iterates over items that a thread of its own takes from an iterable, up to `ahead` of them in advance.

    A context manager, which ends the thread. `poll` is called while there is nothing; what it raises ends the waiting.
    """

    def __init__(self, items: Iterable[T], ahead: int, poll: Callable[[], None]) -> None:
        super().__init__("amt-read")
        self._items = iter(items)
        self._line: queue.Queue[T] = queue.Queue(ahead)
        self._poll = poll

    def work(self) -> None:
        try:
            for item in self._items:
                if not _put(self._line, item, self.unwanted.is_set):
                    return
        finally:
            close = getattr(self._items, "close", None)
            if close:
                close()

    def __enter__(self) -> Iterator[T]:
        self.start()
        return self._taken()

    def _taken(self) -> Iterator[T]:
        while True:
            over = self.is_over  # before the look into the line: what was put in last is there by then
            try:
                yield self._line.get(timeout=0 if over else SECONDS)
            except queue.Empty:
                if over:
                    break
                self._poll()
        if self.error:
            raise self.error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.unwanted.set()
        self.join()


class WriteBehind(_Thread, Generic[T]):
    """Calls `write` with each item in a thread of its own; up to `behind` items wait for it.

    A context manager: at its end all is written, or it raises what `write` raised. After an error of the work, what
    waits is left. `poll` is called while there is no room; what it raises ends the waiting.
    """

    def __init__(self, write: Callable[[T], object], behind: int, poll: Callable[[], None]) -> None:
        super().__init__("amt-write")
        self._write = write
        self._line: queue.Queue[T] = queue.Queue(behind)
        self._poll = poll
        self._complete = threading.Event()

    def work(self) -> None:
        while not self.unwanted.is_set():
            complete = self._complete.is_set()
            try:
                self._write(self._line.get(timeout=0 if complete else SECONDS))
            except queue.Empty:
                if complete:
                    return

    def put(self, item: T) -> None:
        def given_up() -> bool:
            self._poll()
            return self.is_over

        if self.is_over or not _put(self._line, item, given_up):
            raise self.error or RuntimeError("the thread that writes has ended")

    def __enter__(self) -> WriteBehind[T]:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._complete.set()
            try:
                while not self.is_over:
                    self._thread.join(SECONDS)
                    self._poll()
            except BaseException:
                self.unwanted.set()
                self.join()
                raise
            if self.error:
                raise self.error
        self.unwanted.set()
        self.join()


def _put(line: queue.Queue[T], item: T, given_up: Callable[[], bool]) -> bool:
    """Whether the item got into the line, before `given_up`."""
    while True:
        try:
            line.put(item, timeout=SECONDS)
            return True
        except queue.Full:
            if given_up():
                return False
