"""Counts what a GPU would have to do, without a GPU: launches, bytes, operations, and waits of the host.

The work runs on tensors of the CPU that pose as CUDA's, with real numbers: so code takes its branches for GPUs, and
finds its way by real motion. A convolution's bias counts as a launch of its own, and so does each copy that brings a
tensor into the memory format that cuDNN wants. A kernel of Triton can't run on such tensors: in its place runs what
gives the same numbers, which counts as one launch that reads and writes the kernel's tensors once.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch._prims_common import suggest_memory_format
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

GPU = torch.device("cuda", 0)
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
FREE = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_unsafe_view", "lift_fresh", "alias",
        "detach", "detach_", "_reshape_alias", "resize_", "set_", "lift"}  # fmt: skip
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive"}
GATHERS = {"index_select", "gather", "index"}
SCATTERS = {"index_copy_", "index_put_", "scatter_", "_index_put_impl_"}
LAUNCHES = {"nonzero": 4, "masked_select": 5, "constant_pad_nd": 2, "sort": 3, "cumsum": 2, "_local_scalar_dense": 0}


class PosedTensor(Tensor):
    """`inner`, a tensor of the CPU, with a device that reads cuda:0."""

    inner: Tensor

    @staticmethod
    def __new__(cls, real: Tensor) -> PosedTensor:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, real.size(), strides=real.stride(), storage_offset=real.storage_offset(), dtype=real.dtype, device=GPU
        )

    def __init__(self, real: Tensor) -> None:
        self.inner = real

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} outside of Posing")


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, PosedTensor) else x


def _bytes(x: Tensor) -> int:
    """What is expanded counts once."""
    count = x.element_size()
    for size, stride in zip(x.shape, x.stride(), strict=True):
        count *= size if stride or not size else 1
    return count


@cache
def _is_composite(func: Any) -> bool:
    return func.namespace == "aten" and torch._C._dispatch_has_kernel_for_dispatch_key(
        func.name(), "CompositeImplicitAutograd"
    )


class Posing(TorchDispatchMode):
    """Counts what runs inside of it on tensors that pose as a GPU's."""

    def __init__(self) -> None:
        super().__init__()
        self._holders: Counter[int] = Counter()
        self._depth = self._live = 0
        self.reset()

    def reset(self) -> None:
        """Begins to count anew."""
        self.launches = 0
        self.kernels: list[tuple[int, int]] = []
        """Bytes and operations of each; copies that a convolution needs beforehand are counted with it."""
        self.waits: Counter[str] = Counter()
        """By what waits, and where."""
        self._before = self._peak = self._live

    @property
    def bytes(self) -> int:
        return sum(size for size, _ in self.kernels)

    @property
    def flops(self) -> int:
        return sum(flops for _, flops in self.kernels)

    @property
    def peak(self) -> int:
        """The most bytes at once, above those that there were when the counting began."""
        return self._peak - self._before

    def pose(self, real: Tensor) -> PosedTensor:
        """A tensor of the GPU, with these numbers."""
        posed, storage = PosedTensor(real), real.untyped_storage()
        key = storage._cdata
        if not self._holders[key]:
            self._live += storage.nbytes()
            self._peak = max(self._peak, self._live)
        self._holders[key] += 1
        weakref.finalize(posed, self._drop, key, storage)
        return posed

    def _drop(self, key: int, storage: torch.UntypedStorage) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            self._live -= storage.nbytes()

    def module(self, module: nn.Module) -> nn.Module:
        """The module, with its parameters on the GPU."""
        for part in module.modules():
            for name, value in part._parameters.items():
                if value is not None:
                    part._parameters[name] = nn.Parameter(self.pose(value.data), requires_grad=False)
        return module

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        posed = any(isinstance(x, PosedTensor) for x in tensors)
        device = kwargs.get("device") or next((x for x in args if isinstance(x, torch.device)), None)
        on_gpu = posed if device is None else torch.device(device).type == "cuda"
        if not on_gpu and not posed:
            return func(*args, **kwargs)
        if _is_composite(func):  # inference mode leaves them whole
            with self:
                return func._op_dk(COMPOSITE, *args, **kwargs)
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        out = self._run(func, *tree_map(_inner, (args, kwargs)))
        self._count(func, tensors, args, kwargs, out, on_gpu)
        written = [a.name for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
        if written and all(r.alias_info and r.alias_info.is_write for r in func._schema.returns):
            values = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
            return values[written[0]] if len(written) == 1 else tuple(values[name] for name in written)
        return tree_map(lambda x: self.pose(x) if on_gpu and isinstance(x, Tensor) else x, out)

    @staticmethod
    def _run(func: Any, args: Any, kwargs: Any) -> Any:
        name = func._schema.name
        if name == "aten::convolution" and args[0].dtype == torch.float16:  # CPUs are slow at it
            return func(*tree_map(lambda x: x.float() if isinstance(x, Tensor) else x, args)).half()
        out = func(*args, **kwargs)
        return out.clone() if name == "aten::_to_copy" and out is args[0] else out

    def _count(self, func: Any, tensors: list[Tensor], args: Any, kwargs: Any, out: Any, on_gpu: bool) -> None:
        name, schema = func._schema.name.split("::")[-1], func._schema
        if name in FREE or any(r.alias_info and not r.alias_info.is_write for r in schema.returns):
            return
        indices = args[1] if name.startswith(("index", "_index_put")) and isinstance(args[1], list | tuple) else ()
        # With a mask as an index, CUDA's kernels call nonzero.
        masked = any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in indices)
        self._count_wait(name, tensors, args, kwargs, masked, on_gpu)
        launches = LAUNCHES.get(name, 1) + 4 * masked
        read = sum({id(x): _bytes(x) for x in tensors}.values())
        written = sum(_bytes(x) for x in tree_leaves(out) if isinstance(x, Tensor))
        total = read + written
        if name in GATHERS:
            total = min(read, written + sum(map(_bytes, tensors[1:]))) + written
        elif name in SCATTERS:
            total = 2 * _bytes(tensors[-1]) + sum(map(_bytes, tensors[1:-1]))
        elif name == "copy_":
            total = sum(map(_bytes, tensors[:2]))
        elif name.endswith("fill_") or name == "zero_":
            total = written
        elif name == "constant_pad_nd":
            total += written
        elif name == "convolution":
            planes = [t for t in args[:2] if t.dim() == 4]
            formats = {suggest_memory_format(t) for t in planes}
            wanted = torch.channels_last if torch.channels_last in formats else torch.contiguous_format
            copied = [t for t in planes if not t.is_contiguous(memory_format=wanted)]
            biased = args[2] is not None
            launches += len(copied) + biased
            total += 2 * sum(map(_bytes, copied)) + 2 * written * biased
        self.launches += launches
        flops = 0
        if func.overloadpacket in flop_registry:
            with contextlib.suppress(Exception):
                real = tree_map(_inner, (args, kwargs))
                flops = flop_registry[func.overloadpacket](*real[0], **real[1], out_val=out)
        self.kernels.append((total, flops))

    def _count_wait(self, name: str, tensors: list[Tensor], args: Any, kwargs: Any, masked: bool, on_gpu: bool) -> None:
        kinds = {isinstance(x, PosedTensor) for x in tensors} | ({on_gpu} if name == "_to_copy" else set())
        crosses = name in ("_to_copy", "copy_") and len(kinds) > 1
        asynchronous = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        unsized = name == "repeat_interleave" and kwargs.get("output_size") is None
        if name in WAITS or masked or unsized or (crosses and not asynchronous):
            frame = sys._getframe(1)
            while frame.f_back is not None and (
                "torch" in frame.f_code.co_filename or __file__ == frame.f_code.co_filename
            ):
                frame = frame.f_back
            self.waits[f"{name} at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"] += 1

    def launch(self, tensors: list[Tensor], work: Callable[..., Tensor], flops: int) -> Tensor:
        """Counts one kernel that reads these tensors, and gives what `work` makes of them on the CPU."""
        with _disable_current_modes():
            made = work(*map(_inner, tensors))
        self.launches += 1
        self.kernels.append((sum(map(_bytes, tensors)) + _bytes(made), flops))
        return self.pose(made)

    def __enter__(self) -> Any:
        self._depth += 1
        if self._depth == 1:
            self._undo = contextlib.ExitStack()
            self._undo.enter_context(_pretended())
        return super().__enter__()

    def __exit__(self, *error: Any) -> Any:
        result = super().__exit__(*error)
        self._depth -= 1
        if not self._depth:
            self._undo.close()
        return result


@contextlib.contextmanager
def _pretended() -> Iterator[None]:
    """`torch.cuda` says that there is a device."""
    card = SimpleNamespace(name="posed", major=8, minor=9, total_memory=24 << 30)
    with contextlib.ExitStack() as undo:
        for owner, name, value in (
            (torch.cuda, "_lazy_init", lambda: None),
            (torch.cuda, "is_available", lambda: True),
            (torch.cuda, "device", contextlib.nullcontext),
            (torch.cuda, "get_device_properties", lambda *_: card),
            (torch.cuda, "mem_get_info", lambda *_: (20 << 30, 24 << 30)),
            (torch.cuda, "memory_reserved", lambda *_: 0),
            (torch.cuda, "memory_allocated", lambda *_: 0),
            (Tensor, "pin_memory", lambda x, *_: x),
        ):
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        _pretend_guard()
        torch._C._set_only_lift_cpu_tensors(True)
        undo.callback(torch._C._set_only_lift_cpu_tensors, False)
        yield


def _pretend_guard() -> None:
    """Lets a PyTorch without CUDA handle tensors whose device reads cuda: their device guard does nothing."""
    if torch.backends.cuda.is_built():
        torch._C._ensureCUDADeviceGuardSet()
        return
    lib = ctypes.CDLL(str(next((Path(torch.__file__).parent / "lib").glob("libc10.so"))))
    guards = (ctypes.c_void_p * 21).in_dll(lib, "_ZN3c104impl26device_guard_impl_registryE")
    if guards[1]:
        return
    # The guard of the meta device does nothing either. Its type, exchangeDevice and getDevice say cuda:0 here.
    table = (ctypes.c_void_p * 40)()
    ctypes.memmove(table, ctypes.cast(guards[14], ctypes.POINTER(ctypes.c_void_p))[0], ctypes.sizeof(table))
    functions = (
        ctypes.CFUNCTYPE(ctypes.c_uint8, ctypes.c_void_p)(lambda _: 1),
        ctypes.CFUNCTYPE(ctypes.c_uint16, ctypes.c_void_p, ctypes.c_uint16)(lambda *_: 1),
        ctypes.CFUNCTYPE(ctypes.c_uint16, ctypes.c_void_p)(lambda _: 1),
    )
    for index, function in enumerate(functions):
        table[index] = ctypes.cast(function, ctypes.c_void_p).value
    guard = (ctypes.c_void_p * 1)(ctypes.addressof(table))
    guards[1] = ctypes.addressof(guard)
    _kept.append((functions, table, guard))


_kept: list[Any] = []
"""What the pretended guard is made of, which must not be freed."""
