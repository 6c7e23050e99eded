"""One network at one size, in a process of its own: makes a pair's middle frame whenever `speed` tells it to."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.meter import Clock, limit_memory, peak_memory

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
Pair = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    network: str
    size: tuple[int, int]
    precision: str
    device: str
    volume: bool = False

    @property
    def name(self) -> str:
        return f"{self.network} with the volume" if self.volume else self.network


def randomise(network: nn.Module) -> None:
    """Weights that keep activations in range and give AMT flows of several pixels that change from place to place."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.7 * math.sqrt(2 / parameter[0].numel()))
            elif parameter.dim() == 1:
                parameter.fill_(0.1)


def weighted_amt(name: str) -> Any:
    """The network `AMT-S`, `AMT-L` or `AMT-G` with the bundled weights, where there are such, or random ones."""
    import _pack  # noqa: F401  (makes the pack importable)
    from amt_frame_interpolation.amt import network as networks
    from amt_frame_interpolation.models.catalogue import BUNDLED, BUNDLED_FOLDER
    from safetensors.torch import load_file

    config = {config.name: config for config in (networks.S, networks.L, networks.G)}[name]
    network = networks.AMT(config)
    if config is BUNDLED.config:  # what users run: lookups take as long as motion is rough
        network.load_state_dict(load_file(BUNDLED_FOLDER / BUNDLED.name))
    else:
        randomise(network)
    return network.eval()


def make_amt(name: str, device: torch.device, dtype: torch.dtype, *, volume: bool = False) -> nn.Module:
    network = weighted_amt(name).to(device, dtype)
    from amt_frame_interpolation.amt.fast import FastAMT
    from amt_frame_interpolation.amt.network.correlation import CorrelationVolume

    return FastAMT(network, correlation=CorrelationVolume if volume else None)


def amt(network: Any, device: torch.device) -> Pair:
    timestep = torch.tensor([0.5], device=device)
    padding = network.padding
    return lambda frame0, frame1: network(padding.pad(frame0), padding.pad(frame1), timestep)


def core(name: str, device: torch.device, dtype: torch.dtype) -> Pair:
    """RIFE 4.26 and FILM by ComfyUI core's own classes, called as core's node calls them."""
    from comfy.cli_args import args

    args.cpu = device.type == "cpu"
    from comfy_extras.frame_interpolation_models.film_net import FILMNet
    from comfy_extras.frame_interpolation_models.ifnet import IFNet

    network = IFNet() if name == "RIFE" else FILMNet()
    randomise(network)
    network = network.eval().to(device, dtype)
    align = getattr(network, "pad_align", 1)

    def pair(frame0: Tensor, frame1: Tensor) -> Tensor:
        height, width = frame0.shape[2:]
        sides = (0, -width % align, 0, -height % align)
        padded = [nn.functional.pad(frame.to(dtype), sides, mode="reflect") for frame in (frame0, frame1)]
        timestep = torch.full((1, 1, *padded[0].shape[2:]), 0.5, device=device, dtype=dtype)
        cache = {f"img{i}": network.extract_features(frame) for i, frame in enumerate(padded)}
        return network(*padded, timestep=timestep, cache=cache)

    return pair


def make_frames(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """A smooth random texture, and the same one moved."""
    height, width = size
    noise = torch.rand(1, 3, height // 8 + 3, width // 8 + 3, generator=torch.Generator().manual_seed(0))
    texture = nn.functional.interpolate(noise, scale_factor=8, mode="bicubic").clamp(0, 1)
    frame0, frame1 = texture[..., :height, :width], texture[..., 5 : height + 5, 9 : width + 9]
    return frame0.contiguous().to(device), frame1.contiguous().to(device)


class Running:
    """What the process of a case holds, and what `speed` asks it."""

    def __init__(self, case: Case, comfyui: Path | None) -> None:
        limit_memory()
        self.device, dtype = torch.device(case.device), DTYPES[case.precision]
        self.network = None
        if case.network.startswith("AMT"):
            self.network = make_amt(case.network, self.device, dtype, volume=case.volume)
            self.pair = amt(self.network, self.device)
        else:
            if comfyui is None:
                raise ImportError("not measured: no ComfyUI")
            sys.path.insert(0, str(comfyui))
            self.pair = core(case.network, self.device, dtype)
        self.frames = make_frames(case.size, self.device)

    def seconds(self) -> float:
        """That a pair takes."""
        started = time.perf_counter()
        self.pair(*self.frames).cpu()
        return time.perf_counter() - started

    def overhead(self, count: int) -> float:
        """What the engine's own work adds to the network's, for `count` frames made of two: 0.01 is a hundredth."""
        from amt_frame_interpolation.amt.engine import Engine

        clock = Clock(self.network)
        sources = [frame[0].permute(1, 2, 0).cpu() for frame in self.frames]
        result = torch.empty(count, *sources[0].shape)
        started = time.perf_counter()
        frames = Engine(clock, self.device).run(sources, [Fraction(i, count - 1) for i in range(count)])
        for index, frame in enumerate(frames):
            result[index] = frame
        return (time.perf_counter() - started) / clock.seconds - 1

    def peak(self) -> int:
        """Bytes of memory held at most: the process's own on a CPU, its tensors' on a GPU."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else peak_memory()


_running: Running


@torch.inference_mode()
def prepare(case: Case, comfyui: Path | None) -> None:
    global _running
    _running = Running(case, comfyui)


@torch.inference_mode()
def answer(question: str, *arguments: int) -> float:
    return getattr(_running, question)(*arguments)
