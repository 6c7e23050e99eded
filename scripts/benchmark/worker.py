"""One network at one size: makes a pair's middle frame whenever it is told to, for `speed`.

    python -m benchmark.worker '{"network": "AMT-S", "size": [720, 1280], "precision": "fp32", ...}'

Says "ready" and answers lines: "pair" with the seconds that a pair took; "engine N" with what share of the network's
time the engine adds to it, for a batch of N frames from two; "peak" with the bytes of memory held at most: the
process's own on a CPU, its tensors' on a GPU. What cannot be run ends in an error.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
Pair = Callable[[Tensor, Tensor], Tensor]


def randomise(network: nn.Module) -> None:
    """Weights that keep activations in range and give AMT flows of several pixels that change from place to place."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.7 * math.sqrt(2 / parameter[0].numel()))
            elif parameter.dim() == 1:
                parameter.fill_(0.1)


def make_amt(name: str, device: torch.device, dtype: torch.dtype, *, volume: bool = False) -> nn.Module:
    import _pack  # noqa: F401  (makes the pack importable)
    from amt_frame_interpolation.amt import network as networks
    from amt_frame_interpolation.amt.fast import FastAMT
    from amt_frame_interpolation.amt.network.correlation import CorrelationVolume
    from amt_frame_interpolation.models.catalogue import BUNDLED, BUNDLED_FOLDER
    from safetensors.torch import load_file

    config = {config.name: config for config in (networks.S, networks.L, networks.G)}[name]
    network = networks.AMT(config)
    if config is BUNDLED.config:  # what users run: lookups take as long as motion is rough
        network.load_state_dict(load_file(BUNDLED_FOLDER / BUNDLED.name))
    else:
        randomise(network)
    return FastAMT(network.eval().to(device, dtype), correlation=CorrelationVolume if volume else None)


def amt(name: str, device: torch.device, dtype: torch.dtype, *, volume: bool) -> Pair:
    network: Any = make_amt(name, device, dtype, volume=volume)
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


class Clocked:
    """A network that counts the seconds it works."""

    any_time = False

    def __init__(self, network: Any) -> None:
        self.padding = network.padding
        self.seconds = 0.0
        self._network = network

    def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        started = time.perf_counter()
        made = self._network(frame0, frame1, timestep)
        if made.is_cuda:
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - started
        return made


def overhead(network: Any, frame0: Tensor, frame1: Tensor, count: int) -> float:
    """What the engine's own work adds to the network's: 0.01 is a hundredth."""
    from amt_frame_interpolation.amt.engine import Engine

    clocked = Clocked(network)
    engine = Engine(clocked, frame0.device)
    sources = [frame[0].permute(1, 2, 0).cpu() for frame in (frame0, frame1)]
    result = torch.empty(count, *sources[0].shape)
    started = time.perf_counter()
    frames = engine.run(sources, [Fraction(i, count - 1) for i in range(count)])
    for index, frame in enumerate(frames):
        result[index] = frame
    return (time.perf_counter() - started) / clocked.seconds - 1


def make_frames(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """A smooth random texture, and the same one moved."""
    height, width = size
    noise = torch.rand(1, 3, height // 8 + 3, width // 8 + 3, generator=torch.Generator().manual_seed(0))
    texture = nn.functional.interpolate(noise, scale_factor=8, mode="bicubic").clamp(0, 1)
    frame0, frame1 = texture[..., :height, :width], texture[..., 5 : height + 5, 9 : width + 9]
    return frame0.contiguous().to(device), frame1.contiguous().to(device)


def limit_memory() -> None:
    """So that a network too large for this machine fails by itself, and ends no other process. On Linux."""
    try:
        import resource

        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        Path("/proc/self/oom_score_adj").write_text("1000")  # the first to go, should others want memory meanwhile
    except (ImportError, OSError):
        return
    limit = int(lines["MemAvailable"].split()[0]) * 1024 * 9 // 10
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on Windows

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024


def main() -> None:
    case = json.loads(sys.argv[1])
    device, dtype, size = torch.device(case["device"]), DTYPES[case["precision"]], tuple(case["size"])
    limit_memory()
    with torch.inference_mode():
        if case["network"].startswith("AMT"):
            pair = amt(case["network"], device, dtype, volume=case["volume"])
        else:
            pair = core(case["network"], device, dtype)
        frame0, frame1 = make_frames(size, device)
        print("ready", flush=True)
        for line in sys.stdin:
            question, *count = line.split()
            if question == "peak":
                print(peak(device), flush=True)
            elif question == "engine":
                print(overhead(make_amt(case["network"], device, dtype), frame0, frame1, int(count[0])), flush=True)
            else:
                started = time.perf_counter()
                pair(frame0, frame1).cpu()
                print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
