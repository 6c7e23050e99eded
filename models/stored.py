"""What is in a file of weights: the names, shapes and types of its tensors are known before any of them is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class StoredTensor:
    shape: tuple[int, ...]
    floating: bool
    read: Callable[[], Tensor]
    """Look at the shape first: it says how much memory that will take."""


@dataclass(frozen=True)
class Stored:
    tensors: Mapping[str, StoredTensor]
    """The state dict, without the dictionary that may be around it."""
    names: Collection[str]
    """Of all that is in the file, for messages."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """That of a safetensors file."""
