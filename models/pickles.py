"""Reads pickles without running them.

A pickle is a program for a stack machine that imports whatever it names and calls it. Python's own machine, in its
version in Python, runs here with those operations replaced: a name stays a `Global`, a call becomes a `Call` that
remembers what would have been called on what, and the reader picks what it understands out of the result. So any
harmless object may lie beside the weights (optimisers, `argparse.Namespace`), and a harmful one is as inert as it is.

Why not `torch.load(weights_only=True)`: nothing runs there either, but a file can bring the process down. With torch
2.13 a pickle of 431 bytes, in which nested tuples share their parts, keeps it busy for years and no interrupt is
seen; 300 KB of nested tuples overflow its stack; 32 bytes that call `bytearray` take 4 GB. It also refuses what no
list of harmless names can allow, such as anything of the module `os`, and pickles of protocols above 2.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from .errors import NotACheckpointError

MAX_OPERATIONS = 1_000_000
"""The pickle of an AMT checkpoint has some ten thousand. This many take seconds, and at most some 150 MB of memory."""


class Global(NamedTuple):
    """A name that a pickle asks for. Nothing was imported."""

    module: str
    name: str


STORAGE = Global("", "persistent id")
"""Stands for the function that finds the memory of a tensor: torch names it by a persistent id."""


@dataclass(eq=False, repr=False)
class Call:
    """What a pickle wanted to be called. Nothing was called."""

    function: Any
    args: Any
    items: dict[str, Any] | None = None
    """What was stored in the result under string keys, if it was to be some kind of dictionary."""


class InertUnpickler(pickle._Unpickler):
    """Reads one pickle with `load`: no imports, no calls, no changes to objects, and hashes of strings alone.

    A hash of nested tuples can overflow the stack, or take forever where they share their parts.

    Lists, tuples, strings, numbers and bytes are themselves; dictionaries keep their string keys; sets are lists.
    """

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, stream: BinaryIO) -> None:
        """stream: one in memory, so that a length in the pickle can't ask for more than there is."""
        super().__init__(stream, encoding="latin-1")  # of strings that Python 2 wrote
        self.stream = stream
        self.storages: list[Any] = []
        """All persistent ids."""

    def load(self) -> Any:
        """Leaves the stream right after the pickle.

        Raises:
            NotACheckpointError: it has more operations than `MAX_OPERATIONS`.
            Exception: whatever a damaged pickle provokes, a ValueError mostly.
        """
        start = self.stream.tell()
        for count, _ in enumerate(pickletools.genops(self.stream)):  # knows all operations and their lengths
            if count >= MAX_OPERATIONS:
                raise NotACheckpointError(f"its pickle has more than {MAX_OPERATIONS} operations")
        end = self.stream.tell()
        self.stream.seek(start)
        root = super().load()
        self.stream.seek(end)
        return root

    def find_class(self, module: str, name: str) -> Any:
        return Global(module, name)

    def get_extension(self, code: int) -> None:
        self.append(Global("copyreg", f"extension {code}"))

    def persistent_load(self, pid: Any) -> Any:
        self.storages.append(pid)
        return Call(STORAGE, pid)

    def _instantiate(self, klass: Any, args: list[Any]) -> None:
        self.append(Call(klass, tuple(args)))

    def _call(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = Call(self.stack[-1], args)

    def _call_with_keywords(self) -> None:
        self.stack.pop()
        self._call()

    def _leave_out(self) -> None:
        self.stack.pop()  # the inner state of an object: no weights are there

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _store(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Call):
            target.items = target.items or {}
            target = target.items
        target.update((key, value) for key, value in zip(items[::2], items[1::2], strict=True) if type(key) is str)

    def _dictionary(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._store(items)

    _standard = pickle._Unpickler.dispatch
    _operations = {  # noqa: RUF012
        pickle.REDUCE: _call,
        pickle.NEWOBJ: _call,
        pickle.NEWOBJ_EX: _call_with_keywords,
        pickle.BUILD: _leave_out,
        pickle.EMPTY_SET: _standard[pickle.EMPTY_LIST[0]],
        pickle.FROZENSET: _standard[pickle.LIST[0]],
        pickle.APPEND: lambda self: self._extend([self.stack.pop()]),
        pickle.APPENDS: lambda self: self._extend(self.pop_mark()),
        pickle.ADDITEMS: lambda self: self._extend(self.pop_mark()),
        pickle.DICT: _dictionary,
        pickle.SETITEM: lambda self: self._store([self.stack.pop(-2), self.stack.pop()]),
        pickle.SETITEMS: lambda self: self._store(self.pop_mark()),
    }
    dispatch = _standard | {code[0]: operation for code, operation in _operations.items()}
