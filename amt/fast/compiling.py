"""torch.compile for the parts of a network; where that fails, they run as they are."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..out_of_memory import is_out_of_memory
from .model import FastAMT

logger = logging.getLogger(__name__)


@dataclass
class Compilation:
    """What became of the wish to compile."""

    failure: str | None = None
    """Why the network runs uncompiled, in a line. None: it is compiled, as far as it has run."""


def compile_parts(network: FastAMT, backend: str | Callable[..., Any] = "inductor") -> Compilation:
    """Has every part of the network compiled when it first runs, for frames of any size.

    Parts, because what lies between them, the lookups, depends on the data at every step. No part writes to its
    inputs, so one that failed can run again.
    """
    compilation = Compilation()
    network.compiled = True
    for part in network.children():
        part.forward = _compiled(part.forward, compilation, backend)
    return compilation


def _compiled(
    function: Callable[..., Any], compilation: Compilation, backend: str | Callable[..., Any]
) -> Callable[..., Any]:
    compiled = torch.compile(function, dynamic=True, backend=backend, **_limits())

    def call(*inputs: Any) -> Any:
        if compilation.failure is None:
            try:
                return compiled(*inputs)
            except Exception as error:
                if isinstance(error, RuntimeError) and is_out_of_memory(error):
                    raise
                # What else may be wrong is wrong without compiling, too, and is raised then.
                compilation.failure = _reason(error)
                logger.warning("AMT runs without torch.compile: %s", compilation.failure)
        return function(*inputs)

    return call


def _limits() -> dict[str, Any]:
    """Parts share their code, and PyTorch gives up on code that was compiled 8 times. Older versions can't be told."""
    known = inspect.signature(torch.compile).parameters
    return {name: value for name, value in {"isolate_recompiles": True, "recompile_limit": 32}.items() if name in known}


def _reason(error: Exception) -> str:
    error = getattr(error, "inner_exception", error)  # what the compiler's own error is about
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}".removesuffix(": ")
