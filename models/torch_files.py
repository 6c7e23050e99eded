"""Files by `torch.save`, of both formats."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .errors import DamagedCheckpointError, NotACheckpointError
from .pickles import STORAGE, Call, Global, InertUnpickler
from .stored import Stored, StoredTensor

WRAPPERS = ("state_dict", "params_ema", "params", "model")
"""Under what names training programs store the weights; where several are there, the first."""

MAX_PICKLE = 32 << 20
"""Bytes. That of an AMT checkpoint, which has everything but the tensors' memory, has some hundred thousand."""
MAX_CONTENTS = 4 << 20
"""Bytes of a zip archive's list of contents."""

ReadMemory = Callable[[str], bytearray]
"""Reads the memory with this key, in which tensors lie."""


def open_zip(stream: BinaryIO, size: int) -> Stored:
    """A zip archive. Records may overlap, but all that is read takes no more memory than the file has bytes."""
    end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
    if end and end[zipfile._ECD_SIZE] > MAX_CONTENTS:  # type: ignore[attr-defined]
        raise NotACheckpointError("it is a zip archive of more files than torch.save makes for an AMT network")
    archive = zipfile.ZipFile(stream)
    records = {record.filename: record for record in archive.infolist()}
    # All lie in one folder, named after the file or "archive".
    pickle = next((name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")), None)
    if pickle is None:
        raise NotACheckpointError("it is a zip archive not made by torch.save: unpack it if the weights are inside")
    folder = pickle.removesuffix("data.pkl")
    if folder + "constants.pkl" in records:
        raise NotACheckpointError("it is a TorchScript program, not a file of weights")
    unread = size

    @cache
    def read(name: str) -> bytearray:
        nonlocal unread
        record = records.get(folder + name)
        if record is None:
            raise DamagedCheckpointError(f"it is damaged: the record {name} is missing")
        if record.compress_type != zipfile.ZIP_STORED:
            raise DamagedCheckpointError(f"the record {name} is compressed; torch.save never does that")
        unread -= record.file_size
        if record.file_size != record.compress_size or unread < 0:
            raise DamagedCheckpointError(f"it is damaged: the record {name} claims {record.file_size} bytes")
        return bytearray(archive.read(record))

    if records[pickle].file_size > MAX_PICKLE:
        raise NotACheckpointError(f"its pickle has {records[pickle].file_size} bytes, expected at most {MAX_PICKLE}")
    if folder + "byteorder" in records:
        _check_byte_order(read("byteorder") == b"little")
    root = InertUnpickler(BytesIO(read("data.pkl"))).load()
    return _stored(root, lambda key: read(f"data/{key}"))


_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001


def open_legacy(stream: BinaryIO, size: int) -> Stored:
    """The format before PyTorch 1.6: five pickles, then the memory of the tensors."""
    head = BytesIO(stream.read(MAX_PICKLE))
    if InertUnpickler(head).load() != _MAGIC:
        raise NotACheckpointError("it is a pickle not made by torch.save")
    if InertUnpickler(head).load() != _LEGACY_VERSION:
        raise NotACheckpointError(f"it is not of version {_LEGACY_VERSION} of torch.save's old format")
    machine = InertUnpickler(head).load()
    _check_byte_order(not isinstance(machine, dict) or machine.get("little_endian") is not False)
    unpickler = InertUnpickler(head)
    root = unpickler.load()
    keys = InertUnpickler(head).load()
    sizes = {key: count * dtype.itemsize for key, dtype, count, _ in filter(None, map(_storage, unpickler.storages))}

    # For each key in this order the number of elements (8 bytes), then the elements.
    position = head.tell()
    starts: dict[str, int] = {}
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in sizes:
            raise DamagedCheckpointError("it is damaged: it lists memory that no tensor uses")
        starts[key] = position + 8
        position += 8 + sizes[key]
        if position > size:
            raise DamagedCheckpointError(f"it is cut short: {position} bytes or more expected, {size} are there")

    @cache
    def read(key: str) -> bytearray:
        if key not in starts:
            raise DamagedCheckpointError(f"it is damaged: the memory {key} is missing")
        stream.seek(starts[key])
        return bytearray(stream.read(sizes[key]))

    return _stored(root, read)


def _check_byte_order(little: bool) -> None:
    if little != (sys.byteorder == "little"):
        raise NotACheckpointError(f"its numbers are stored in another byte order than this machine's ({sys.byteorder})")


# From what a pickle holds to tensors


def _stored(root: Any, read_memory: ReadMemory) -> Stored:
    top = _items(root)
    for items in (*(_items(top.get(wrapper)) for wrapper in WRAPPERS), top):
        found = ((name, _tensor(name, value, read_memory)) for name, value in items.items())
        if tensors := {name: tensor for name, tensor in found if tensor}:
            return Stored(tensors, top.keys())
    return Stored({}, top.keys())


def _items(value: Any) -> dict[str, Any]:
    """The items of a dictionary of any kind."""
    match value:
        case dict():
            return value
        case Call(Global(name="OrderedDict"), (list(pairs),), None):  # as Python 2 writes it
            return {name: item for name, item in pairs if type(name) is str}
        case Call():
            return value.items or {}
    return {}


_DTYPES = {kind: dtype for dtype, kind in torch.storage._dtype_to_storage_type_map().items()}
_DTYPES["UntypedStorage"] = torch.uint8


def _storage(identifier: Any) -> tuple[str, torch.dtype, int, int] | None:
    """Key, type, number of elements, and the first element that counts (not 0 in files of very old versions)."""
    match identifier:
        case ("storage", Global(name=kind), str(key), _, int(count), *view) if kind in _DTYPES and count >= 0:
            return key, _DTYPES[kind], count, view[0][1] if view and view[0] else 0
    return None


def _tensor(name: str, value: Any, read_memory: ReadMemory) -> StoredTensor | None:
    """What torch's functions that rebuild a tensor are asked for, if that is what `value` is."""
    for _ in range(4):  # Parameter around subclass around tensor, and one to spare
        match value:
            case Call(Global("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state"), (inner, *_)):
                value = inner
            case Call(Global("torch.nn.parameter" | "torch.nn", "Parameter"), (inner, *_)):
                value = inner
            case Call(Global("torch._tensor", "_rebuild_from_type_v2"), (function, _, args, *_)):
                value = Call(function, args)
    match value:
        case Call(Global("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2"), (source, first, shape, steps, *_)):
            dtype = None
        case Call(
            Global("torch._utils", "_rebuild_tensor_v3"), (source, first, shape, steps, _, _, Global(name=kind), *_)
        ):
            dtype = vars(torch).get(kind)
        case _:
            return None
    storage = _storage(source.args) if isinstance(source, Call) and source.function is STORAGE else None
    if storage is None or not isinstance(shape, tuple):
        raise DamagedCheckpointError(f"the tensor {name} is described in a way that torch.save does not write")
    key, stored_dtype, _, start = storage
    dtype = dtype if isinstance(dtype, torch.dtype) else stored_dtype

    def read() -> Tensor:
        # torch sees to it that nothing reaches beyond the memory.
        return torch.frombuffer(read_memory(key), dtype=dtype).as_strided(shape, steps, start + first)

    return StoredTensor(shape, dtype.is_floating_point, read)
