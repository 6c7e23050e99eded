"""Reads and writes in threads of their own, while the work goes on between them. Only a few items wait in line."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator
from threading import Event
from types import TracebackType
from typing import Generic, TypeVar

from ..waiting import SECONDS, Background, wait_until

T = TypeVar("T")

FRAMES_AHEAD = 3
"""Enough frames that neither side waits for the other. More would only take memory."""
FRAMES_BEHIND = 3


class ReadAhead(Generic[T]):
    """Iterates over items that a thread of its own takes from an iterable, up to `ahead` of them in advance.

    It is a context manager, which ends the thread. While there is no item, `poll` is called, and an exception that it
    raises ends the waiting.
    """

    def __init__(self, items: Iterable[T], ahead: int, poll: Callable[[], None]) -> None:
        self._items = iter(items)
        self._line: queue.Queue[T] = queue.Queue(ahead)
        self._poll = poll

    def __enter__(self) -> Iterator[T]:
        self._reader = Background(self._read, "amt-read")
        return self._taken()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reader.__exit__(kind, error, traceback)

    def _read(self, stop: Event) -> None:
        try:
            for item in self._items:
                _put(self._line, item, stop.is_set)
                if stop.is_set():
                    return
        finally:
            close = getattr(self._items, "close", None)  # a generator closes its files in this thread
            if close:
                close()

    def _taken(self) -> Iterator[T]:
        while True:
            over = self._reader.is_over  # asked before the line is looked at, so that the last item is in it by then
            try:
                yield self._line.get(timeout=0 if over else SECONDS)
            except queue.Empty:
                if over:
                    break
                self._poll()
        self._reader.result(self._poll)


class WriteBehind(Generic[T]):
    """Calls `write` with each item in a thread of its own; up to `behind` items wait for it.

    It is a context manager. At its end all items are written, or it raises what `write` raised. After an error in the
    work, items that still wait are not written. While there is no room, `poll` is called, and an exception that it
    raises ends the waiting.
    """

    def __init__(self, write: Callable[[T], object], behind: int, poll: Callable[[], None]) -> None:
        self._write = write
        self._line: queue.Queue[T] = queue.Queue(behind)
        self._poll = poll
        self._complete = Event()

    def __enter__(self) -> WriteBehind[T]:
        self._writer = Background(self._write_all, "amt-write")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._writer:
            if error is None:
                self._complete.set()
                self._writer.result(self._poll)

    def put(self, item: T) -> None:
        _put(self._line, item, lambda: self._writer.is_over, self._poll)
        if self._writer.is_over:
            self._writer.result(self._poll)
            raise RuntimeError("the thread that writes has ended")

    def _write_all(self, stop: Event) -> None:
        while not stop.is_set():
            complete = self._complete.is_set()
            try:
                item = self._line.get(timeout=0 if complete else SECONDS)
            except queue.Empty:
                if complete:
                    return
            else:
                self._write(item)


def _put(
    line: queue.Queue[T], item: T, given_up: Callable[[], bool], check: Callable[[], object] = lambda: None
) -> None:
    """Puts the item into the line as soon as there is room, unless the thread is told to stop before."""

    def attempt(seconds: float) -> bool:
        try:
            line.put(item, timeout=seconds)
        except queue.Full:
            return given_up()
        return True

    wait_until(attempt, check)
