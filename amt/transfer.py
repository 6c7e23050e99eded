"""Moves frames between the host and the device, so that a GPU need not wait for them.

A GPU works through a queue that the host fills. As long as the host waits for nothing, the next pair is in the queue
before the last one is done. So frames go up and down beside the work: through pinned memory, which the GPU reads and
writes on its own, and on streams of their own.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Download(Protocol):
    """Tensors on their way to the host."""

    def is_done(self) -> bool: ...

    def wait(self) -> list[Tensor]:
        """The tensors on the host, once they are there."""
        ...


class Transfer:
    """For devices whose copies are done when they return: CPUs, and GPUs without streams."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def upload(self, frame: Tensor) -> Tensor:
        return frame.to(self.device)

    def download(self, *tensors: Tensor) -> Download:
        return Done([tensor.cpu() for tensor in tensors])


class Done:
    """Tensors that are on the host."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self._tensors = tensors

    def is_done(self) -> bool:
        return True

    def wait(self) -> list[Tensor]:
        return self._tensors


class StreamTransfer(Transfer):
    """For CUDA and ROCm."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._up, self._down = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def upload(self, frame: Tensor) -> Tensor:
        if frame.device.type != "cpu":
            return frame.to(self.device)
        work = torch.cuda.current_stream(self.device)
        host = _pinned_like(frame).copy_(frame)
        with torch.cuda.stream(self._up):
            uploaded = host.to(self.device, non_blocking=True)
        work.wait_stream(self._up)
        uploaded.record_stream(work)  # its memory belongs to the other stream, which is not to use it again before
        return uploaded

    def download(self, *tensors: Tensor) -> Download:
        # Made contiguous by the stream of the work, which has made them.
        tensors = tuple(tensor.contiguous() for tensor in tensors)
        self._down.wait_stream(torch.cuda.current_stream(self.device))
        copies: list[Tensor] = []
        with torch.cuda.stream(self._down):
            for tensor in tensors:
                copies.append(_pinned_like(tensor).copy_(tensor, non_blocking=True))
                tensor.record_stream(self._down)
            done = torch.cuda.Event()
            done.record(self._down)
            return _Streamed(copies, done)


def _pinned_like(frame: Tensor) -> Tensor:
    """An empty tensor of the host. Where the system has no pinned memory left, copies are slower, and as right."""
    try:
        return torch.empty(frame.shape, dtype=frame.dtype, pin_memory=True)
    except RuntimeError:
        return torch.empty(frame.shape, dtype=frame.dtype)


class _Streamed:
    def __init__(self, copies: list[Tensor], event: torch.cuda.Event) -> None:
        self._copies, self._event = copies, event

    def is_done(self) -> bool:
        return self._event.query()

    def wait(self) -> list[Tensor]:
        self._event.synchronize()
        return self._copies


def transfer_for(device: torch.device) -> Transfer:
    return StreamTransfer(device) if device.type == "cuda" else Transfer(device)


def to_bytes(frame: Tensor) -> Tensor:
    """The nearest of 256 levels: float 0..1 -> uint8."""
    return (frame.float().clamp(0, 1) * 255 + 0.5).to(torch.uint8)
