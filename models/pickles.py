"""Reads pickles without running them.

A pickle is a program for a stack machine that imports whatever the program names and calls it. The machine here
has no way to do either: a name stays a `Global`, a call becomes a `Made` that remembers what would have been called
on what, and the reader picks out of the result what it understands. So any harmless object may lie beside the
weights (`typing.OrderedDict`, training state, optimisers), and a harmful one is as inert as they are.

Why not a standard `Unpickler` with a restricted `find_class`: it still calls what it is given and lets the pickle
rewrite it (BUILD), a dictionary key of nested tuples overflows the C stack and kills the process, and a memo index
alone makes it allocate gigabytes. Why not `torch.load(weights_only=True)`: it refuses names it does not know, and
the list of those it knows belongs to the whole process. Parsing is left to the standard `pickletools`.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from io import SEEK_END
from typing import IO, Any, cast

MAX_OPERATIONS = 5_000_000
"""The pickle of an AMT checkpoint has some ten thousand; this many take some seconds."""


class PickleError(ValueError):
    """Not a well-formed pickle."""


@dataclass(frozen=True)
class Global:
    """A name that a pickle asks for; nothing was imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


PERSISTENT = Global("", "persistent id")
"""Stands for the function that resolves a persistent id: how torch refers to the memory of tensors."""


@dataclass(eq=False, repr=False)
class Made:
    """What a pickle wanted to be made; nothing was called."""

    function: Any
    args: Any
    entries: dict[str, Any] = field(default_factory=dict)
    """What was stored under string keys, if it was to be some kind of dictionary."""


@dataclass(frozen=True)
class Pickle:
    root: Any
    persistent_ids: list[Any]


# Operations that push the argument they carry.
_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "SHORT_BINSTRING", "BINSTRING"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = frozenset(("PROTO", "FRAME", "READONLY_BUFFER"))


def read_pickle(stream: IO[bytes]) -> Pickle:
    """Reads one pickle and leaves the stream right after it.

    Lists, tuples, strings, numbers, bytes are themselves; dictionaries keep their string keys; sets are lists.
    Raises PickleError.
    """
    machine = _Machine()
    # All that genops needs of a file is these three methods.
    bounded = cast("IO[bytes]", _Bounded(stream))
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(bounded)):
            if count >= MAX_OPERATIONS:
                raise PickleError(f"more than {MAX_OPERATIONS} operations")
            machine.step(operation.name, argument)
        return Pickle(machine.stack.pop(), machine.persistent_ids)
    except PickleError:
        raise
    # pickletools asserts here and there instead of raising.
    except (ValueError, IndexError, KeyError, EOFError, OverflowError, AssertionError) as error:
        raise PickleError(str(error) or type(error).__name__) from error


class _Bounded:
    """A file that, asked for more than it has, does not first make room for all of that: a length in a pickle may be
    anything."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        start = stream.tell()
        self._end = stream.seek(0, SEEK_END)
        stream.seek(start)
        self.readline = stream.readline
        self.tell = stream.tell

    def read(self, count: int) -> bytes:
        return self._stream.read(min(count, self._end - self._stream.tell()))


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        """The stacks below each mark."""
        self.memo: dict[int, Any] = {}
        self.persistent_ids: list[Any] = []

    def step(self, operation: str, argument: Any) -> None:
        stack = self.stack
        if operation in _LITERALS:
            stack.append(argument)
        elif operation in _CONSTANTS:
            stack.append(_CONSTANTS[operation])
        elif operation in _TUPLES:
            stack.append(tuple(self._take(_TUPLES[operation])))
        elif operation in _NOTHING:
            pass
        elif handler := getattr(self, f"_{operation.lower()}", None):
            handler(argument)
        elif operation != "STOP":
            raise PickleError(f"operation {operation} is not known")

    def _take(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise PickleError("takes more than there is")
        popped = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return popped

    def _take_to_mark(self) -> list[Any]:
        popped, self.stack = self.stack, self.marked.pop()
        return popped

    # Stack and memo

    def _mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def _pop_mark(self, _: Any) -> None:
        self._take_to_mark()

    def _pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._take_to_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def _get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _binput = _long_binput = _put
    _binget = _long_binget = _get

    # Containers

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    _empty_set = _empty_list

    def _list(self, _: Any) -> None:
        items = self._take_to_mark()
        self.stack.append(items)

    _frozenset = _list

    def _tuple(self, _: Any) -> None:
        items = self._take_to_mark()
        self.stack.append(tuple(items))

    def _append(self, _: Any) -> None:
        self._extend(self._take(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._take_to_mark())

    _additems = _appends

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _dict(self, _: Any) -> None:
        items = self._take_to_mark()
        self.stack.append({})
        self._store(items)

    def _setitem(self, _: Any) -> None:
        self._store(self._take(2))

    def _setitems(self, _: Any) -> None:
        self._store(self._take_to_mark())

    def _store(self, items: list[Any]) -> None:
        target = self.stack[-1]
        entries = target.entries if isinstance(target, Made) else target
        if not isinstance(entries, dict):
            raise PickleError(f"stores items in a {type(entries).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Weights have names. Other keys are not even hashed: hashing nested tuples can overflow the C stack.
            if type(key) is str:
                entries[key] = value

    # Names and calls

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Global(module, name))

    def _stack_global(self, _: Any) -> None:
        module, name = self._take(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise PickleError("a name that is not text")
        self.stack.append(Global(module, name))

    def _ext1(self, code: int) -> None:
        self.stack.append(Global("copyreg", f"extension {code}"))

    _ext2 = _ext4 = _ext1

    def _reduce(self, _: Any) -> None:
        function, args = self._take(2)
        self.stack.append(Made(function, args))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        function, args, _keywords = self._take(3)
        self.stack.append(Made(function, args))

    def _obj(self, _: Any) -> None:
        function, *args = self._take_to_mark()
        self.stack.append(Made(function, tuple(args)))

    def _inst(self, argument: str) -> None:
        args = self._take_to_mark()
        self._global(argument)
        self.stack.append(Made(self.stack.pop(), tuple(args)))

    def _build(self, _: Any) -> None:
        # An object's inner state: no weights in there.
        self._take(1)

    def _persid(self, identifier: Any) -> None:
        self.persistent_ids.append(identifier)
        self.stack.append(Made(PERSISTENT, identifier))

    def _binpersid(self, _: Any) -> None:
        self._persid(*self._take(1))
