"""Files of weights, opened: nested dictionaries of tensors whose names, shapes and types are known before any is read.

Three kinds: safetensors, and the two that `torch.save` writes (a zip archive since PyTorch 1.6, before that a row of
pickles followed by the tensors' memory). The kind is read from the content, not from the file's suffix.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from struct import error as StructError
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import DamagedCheckpointError, NotACheckpointError
from .pickles import PERSISTENT, Global, Made, Pickle, PickleError, read_pickle


@dataclass(frozen=True)
class StoredTensor:
    shape: tuple[int, ...]
    floating: bool
    read: Callable[[], Tensor]
    """Reads it as float32, into memory of its own. Look at the shape first: it says how much that will be."""


Content = Mapping[str, "StoredTensor | Content"]
"""Tensors by name; a dictionary in the file is a dictionary here, whatever is neither is left out."""


@contextmanager
def open_stored(path: Path) -> Iterator[Content]:
    """Opens a file of weights; its tensors can be read until the context ends.

    Raises NotACheckpointError, DamagedCheckpointError; OSError where the file can't be opened or read.
    """
    with path.open("rb") as stream:
        start = stream.read(1024)
        stream.seek(0)
        if start.startswith(b"PK\x03\x04"):
            yield _open_zip(stream)
        elif start.startswith(b"\x80"):
            yield _open_legacy(stream)
        elif start[8:9] == b"{":
            try:
                with safe_open(path, framework="pt") as file:
                    yield _open_safetensors(file)
            except SafetensorError as error:
                raise DamagedCheckpointError(f"it is damaged or cut short ({error})") from error
        else:
            raise NotACheckpointError(_what_it_is(start))


def _what_it_is(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "it is empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        return "it is a web page that was saved under this name (the page about the file, an error or a login)"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: a note that stands for the file, which itself was not fetched"
    return f"it is no file of weights (it begins with {start[:16]!r}; expected safetensors or a file by torch.save)"


# Safetensors


def _open_safetensors(file: Any) -> Content:
    def entry(name: str) -> StoredTensor:
        part = file.get_slice(name)
        return StoredTensor(
            tuple(part.get_shape()),
            part.get_dtype().startswith(("F", "BF")),
            lambda: file.get_tensor(name).to(torch.float32, copy=True),
        )

    return {name: entry(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


# Files by torch.save

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_DTYPES = {str(dtype): dtype for dtype in (*_STORAGES.values(), torch.complex64, torch.complex128)}
_DEPTH = 2
"""A dictionary of tensors, or one in which it has a name."""
_WRAPPERS = 4
"""Parameter around subclass around tensor, and one to spare."""

ReadStorage = Callable[[str], bytes]


def _open_zip(stream: IO[bytes]) -> Content:
    archive = _Archive(stream)
    if archive.has("constants.pkl"):
        raise NotACheckpointError("it is a TorchScript program, not a file of weights")
    if archive.has("byteorder"):
        _check_byte_order(archive.read("byteorder") == b"little")
    root = _read_pickle(BytesIO(archive.read("data.pkl"))).root
    read = {}

    def read_storage(key: str) -> bytes:
        if key not in read:
            read[key] = archive.read(f"data/{key}")
        return read[key]

    return _content(root, read_storage)


class _Archive:
    """The records of a zip archive by torch.save; altogether they never take more memory than the file has bytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._unread = stream.seek(0, 2)
        with _zip_errors():
            self._zip = zipfile.ZipFile(stream)
            names = self._zip.namelist()
        # All records lie in one folder, named after the file or "archive".
        pickle = next((name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if pickle is None:
            raise NotACheckpointError("it is a zip archive not made by torch.save: unpack it if the weights are inside")
        self._folder = pickle.removesuffix("data.pkl")
        self._names = frozenset(names)

    def has(self, name: str) -> bool:
        return self._folder + name in self._names

    def read(self, name: str) -> bytes:
        if not self.has(name):
            raise DamagedCheckpointError(f"it is damaged: the record {name} is missing")
        with _zip_errors():
            record = self._zip.getinfo(self._folder + name)
            if record.compress_type != zipfile.ZIP_STORED:
                raise DamagedCheckpointError(f"the record {name} is compressed; torch.save never does that")
            self._unread -= record.file_size
            if record.file_size != record.compress_size or self._unread < 0:
                raise DamagedCheckpointError(f"it is damaged: the record {name} claims {record.file_size} bytes")
            return self._zip.read(record)


@contextmanager
def _zip_errors() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, StructError) as error:
        raise DamagedCheckpointError(f"it is damaged or cut short ({error})") from error


def _read_pickle(stream: IO[bytes]) -> Pickle:
    try:
        return read_pickle(stream)
    except PickleError as error:
        raise DamagedCheckpointError(f"it is damaged or cut short ({error})") from error


def _check_byte_order(little: bool) -> None:
    if little != (sys.byteorder == "little"):
        raise NotACheckpointError(f"its numbers are stored in another byte order than this machine's ({sys.byteorder})")


_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001


def _open_legacy(stream: IO[bytes]) -> Content:
    if _read_pickle(stream).root != _MAGIC:
        raise NotACheckpointError("it is a pickle not made by torch.save")
    version = _read_pickle(stream).root
    if version != _LEGACY_VERSION:
        raise NotACheckpointError(
            f"it has version {version!r:.40} of torch.save's old format; {_LEGACY_VERSION} is known"
        )
    machine = _read_pickle(stream).root
    _check_byte_order(not isinstance(machine, dict) or machine.get("little_endian") is not False)
    pickle = _read_pickle(stream)
    keys = _read_pickle(stream).root
    storages = filter(None, map(_storage, pickle.persistent_ids))
    sizes = {storage.key: (storage.count, storage.dtype.itemsize) for storage in storages}

    # The memory of the tensors: for each key the number of elements (8 bytes), then the elements.
    position = stream.tell()
    length = stream.seek(0, 2)
    places: dict[str, tuple[int, int]] = {}
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in sizes:
            raise DamagedCheckpointError("it is damaged: it lists memory that no tensor uses")
        count, itemsize = sizes[key]
        places[key] = (position + 8, count * itemsize)
        position += 8 + count * itemsize
        if position > length:
            raise DamagedCheckpointError(f"it is cut short: {position} bytes or more expected, {length} are there")

    def read_storage(key: str) -> bytes:
        if key not in places:
            raise DamagedCheckpointError(f"it is damaged: the memory {key} is missing")
        position, size = places[key]
        stream.seek(position)
        return stream.read(size)

    return _content(pickle.root, read_storage)


def _content(root: Any, read_storage: ReadStorage) -> Content:
    """Picks tensors and dictionaries out of what a pickle holds."""
    done: dict[tuple[int, int], Content] = {}

    def convert(value: Any, depth: int) -> Content:
        key = (id(value), depth)
        # A dictionary may be in the pickle many times over; once is enough.
        if key not in done:
            content: dict[str, StoredTensor | Content] = {}
            for name, item in _entries(value).items():
                if tensor := _tensor(name, item, read_storage):
                    content[name] = tensor
                elif depth > 1 and _entries(item):
                    content[name] = convert(item, depth - 1)
            done[key] = content
        return done[key]

    return convert(root, _DEPTH)


def _entries(value: Any) -> dict[str, Any]:
    """The items of a dictionary of any kind."""
    if isinstance(value, dict):
        return value
    match value:
        case Made(Global(name="OrderedDict"), (list(pairs),), entries) if not entries:
            # Old pickles give it its items as an argument.
            return {pair[0]: pair[1] for pair in pairs if isinstance(pair, (list, tuple)) and _is_item(pair)}
        case Made():
            return value.entries
    return {}


def _is_item(pair: Sequence[Any]) -> bool:
    return len(pair) == 2 and type(pair[0]) is str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype
    count: int
    offset: int
    """Elements before this view of the memory (files of very old versions)."""


def _storage(identifier: Any) -> _Storage | None:
    match identifier:
        case ("storage", Global() as kind, str(key), _, int(count), *view) if kind.name in _STORAGES and count >= 0:
            match view:
                case [] | [None]:
                    return _Storage(key, _STORAGES[kind.name], count, 0)
                case [(_, int(offset), int(_))] if offset >= 0:
                    return _Storage(key, _STORAGES[kind.name], count, offset)
    return None


def _tensor(name: str, value: Any, read_storage: ReadStorage) -> StoredTensor | None:
    """What torch's functions that rebuild a tensor are asked for, if that is what `value` is."""
    for _ in range(_WRAPPERS):
        match value:
            case Made(
                Global("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"), (inner, *_)
            ) | Made(Global("torch.nn.parameter" | "torch.nn", "Parameter"), (inner, *_)):
                value = inner
            case Made(Global("torch._tensor", "_rebuild_from_type_v2"), (function, _, args, *_)):
                value = Made(function, args)
            case _:
                break
    match value:
        case Made(
            Global("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2"), (source, offset, shape, strides, *_)
        ):
            dtype = None
        case Made(
            Global("torch._utils", "_rebuild_tensor_v3"), (source, offset, shape, strides, _, _, Global() as kind, *_)
        ):
            dtype = _DTYPES.get(str(kind))
        case _:
            return None
    storage = _storage(source.args) if isinstance(source, Made) and source.function == PERSISTENT else None
    if storage is None or not _are_counts((offset,)) or not _are_counts(shape) or not _are_counts(strides):
        raise DamagedCheckpointError(f"the tensor {name} is described in a way that torch.save does not write")
    dtype = dtype or storage.dtype
    start = (offset + storage.offset) * dtype.itemsize

    def read() -> Tensor:
        return _view(name, read_storage(storage.key), dtype, start, shape, strides)

    return StoredTensor(shape, dtype.is_floating_point, read)


def _are_counts(numbers: Any) -> bool:
    return isinstance(numbers, tuple) and all(type(number) is int and number >= 0 for number in numbers)


def _view(
    name: str, memory: bytes, dtype: torch.dtype, start: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Tensor:
    """The tensor as float32 in memory of its own."""
    if len(shape) != len(strides):
        raise DamagedCheckpointError(f"it is damaged: the tensor {name} has shape {shape} and strides {strides}")
    if 0 in shape:
        return torch.empty(shape)
    # The stride of a side of one element means nothing; it may be any number.
    strides = tuple(stride if size > 1 else 1 for size, stride in zip(shape, strides, strict=True))
    extent = (1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))) * dtype.itemsize
    if start + extent > len(memory):
        raise DamagedCheckpointError(
            f"it is damaged: the tensor {name} reaches to byte {start + extent} of {len(memory)} bytes of memory"
        )
    elements = torch.frombuffer(bytearray(memory[start : start + extent]), dtype=dtype)
    return elements.as_strided(shape, strides).to(torch.float32, copy=True).contiguous()
