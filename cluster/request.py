"""What the head, the driver and the workers tell one another."""

from __future__ import annotations

import io
import pickle
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from ..amt.fast import FastAMT
from ..amt.motion_scale import ScaledAMT
from ..amt.network import AMT, Config
from ..amt.timeline.segments import PART
from ..video.file import VideoFile
from ..video.in_memory import VideoInMemory
from ..video.task import Task

T = TypeVar("T")


class Network(Protocol):
    """A network on its way to a worker."""

    def open(self, device: torch.device) -> ScaledAMT: ...


@dataclass(frozen=True)
class AMTWeights:
    """The weights of an AMT network, and how it is run."""

    config: Config
    any_time: bool
    carried: bool
    scale: int | None
    dtype: torch.dtype
    weights: dict[str, Tensor] = field(repr=False)
    """On the CPU."""

    @staticmethod
    def of(network: FastAMT, *, carried: bool, scale: int | None) -> AMTWeights:
        weights = {name: weight.cpu() for name, weight in network.state_dict().items()}
        return AMTWeights(network.config, network.any_time, carried, scale, network.dtype, weights)

    def open(self, device: torch.device) -> ScaledAMT:
        with torch.device("meta"):
            network = AMT(self.config, any_time=self.any_time)
        network.load_state_dict(self.weights, assign=True)
        network = network.requires_grad_(False).eval().to(device, self.dtype)
        return ScaledAMT(FastAMT(network), self.scale, carried=self.carried)


class Request(NamedTuple):
    """What shall become of a video."""

    video: VideoFile | VideoInMemory
    task: Task
    network: Network
    part: int = PART


class Made(NamedTuple):
    """A segment that a worker made."""

    file: bytes
    length: Fraction
    """Of the picture, in seconds."""
    notes: list[str]
    used: Counter[int]
    """How many pairs had their motion found at which scale."""


class Failed(NamedTuple):
    """Why a worker could not make a segment. Trying again would not help."""

    reason: str


class Machine(NamedTuple):
    """A node of the cluster."""

    torch: str
    """Its version."""
    sees_file: bool
    """Whether it can open the video by its path."""


def dump(item: object) -> bytes:
    """For `load`, in another process, where the pack has another name."""
    return pickle.dumps((__name__.rpartition(".cluster.")[0], pickle.dumps(item)))


def load(data: bytes) -> Any:
    """Only for what a process of this pack has written."""
    package, item = pickle.loads(data)

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module.startswith(f"{package}."):
                module = __name__.rpartition(".cluster.")[0] + module[len(package) :]
            return super().find_class(module, name)

    return Unpickler(io.BytesIO(item)).load()
