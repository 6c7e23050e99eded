"""What a video costs: memory, and how much of the time the network works. Needs a ComfyUI (COMFYUI_PATH).

python scripts/benchmark video memory    peak memory of AMT Video Interpolation for 10 seconds and for 10 minutes,
                                          with a stand-in for the network
python scripts/benchmark video busy      the share of the time that is the network's, with the bundled weights
python scripts/benchmark video gpu       the share of the time in which the GPU computes, from its own record, and
                                          frames a second (--size 1280x720 --frames 200)

Run it with ComfyUI's Python.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import _pack  # noqa: F401  (makes the pack importable)
import av
import numpy as np
import torch
from setup.install import find_or_made

from benchmark.meter import Clock, own_process, peak_memory

RATE = 16
"""Frames a second, as video models make them."""
SECOND = 48000


def write_clip(path: Path, frames: int, height: int, width: int) -> None:
    """A camera that moves over a picture to and fro, with sound."""
    shifts = [abs(k % 64 - 32) * 3 for k in range(64)]
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (height // 8 + 1, (width + 96) // 8 + 1, 3)).astype(np.uint8)
    picture = coarse.repeat(8, 0).repeat(8, 1)[:height]
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        voice: Any = container.add_stream("aac", rate=SECOND, layout="mono")
        wave = (0.2 * np.sin(np.arange(SECOND) * 2 * np.pi * 440 / SECOND)).astype(np.float32)[None]
        for index in range(frames):
            shift = shifts[index % 64]
            pixels = np.ascontiguousarray(picture[:, shift : shift + width])
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            if index % RATE == 0:
                second = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
                second.sample_rate, second.pts, second.time_base = SECOND, index // RATE * SECOND, Fraction(1, SECOND)
                container.mux(voice.encode(second))
        container.mux(video.encode(None))
        container.mux(voice.encode(None))


def run_node(comfyui: Path, clip: Path, base: Path, stand_in: bool, gpu: bool = False) -> dict[str, Any]:
    """Runs the node in this process, as ComfyUI does, and says what it took.

    stand_in: the first of the two frames is what the network makes; what remains is the pipeline.
    """
    sys.path.insert(0, str(comfyui))
    sys.argv = ["main.py", *([] if gpu else ["--cpu"]), "--base-directory", str(base)]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args
    from amt_frame_interpolation.nodes import AMTExtension, interpolate_video
    from comfy_api.latest import InputImpl

    async def load() -> list[Any]:
        extension = AMTExtension()
        await extension.on_load()
        return await extension.get_node_list()

    nodes = {node.define_schema().node_id: node for node in asyncio.run(load())}
    (model,) = nodes["AMTModelLoader"].execute("amt-s-open.safetensors", "auto").result
    clocks: list[Clock] = []
    original = interpolate_video.open_engine

    def open_engine(*arguments: Any) -> Any:
        engine = original(*arguments)
        engine.network = Clock(engine.network, (lambda frame0, *_: frame0.clone()) if stand_in else None)
        clocks.append(engine.network)
        return engine

    interpolate_video.open_engine = open_engine
    node = nodes["AMTInterpolateVideo"].PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    if gpu:
        # Nothing is timed on the host: it would have to wait for the GPU, and that is what is measured.
        interpolate_video.open_engine = original
        with torch.inference_mode():
            node.execute(model, InputImpl.VideoFromFile(str(clip)))  # what is compiled once
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
                start = time.perf_counter()
                (video,) = node.execute(model, InputImpl.VideoFromFile(str(clip))).result
                seconds = time.perf_counter() - start
        kernels = [
            (event.time_range.start, event.time_range.end)
            for event in profiler.events() or []
            if event.device_type == torch.profiler.DeviceType.CUDA and not event.name.startswith("Mem")
        ]
        return {
            "frames": video.get_frame_count(),
            "seconds": seconds,
            "busy": covered(kernels),
            "kernels": len(kernels),
        }
    start = time.perf_counter()
    with torch.inference_mode():
        (video,) = node.execute(model, InputImpl.VideoFromFile(str(clip))).result
    (clock,) = clocks
    return {
        "frames": video.get_frame_count(),
        "seconds": time.perf_counter() - start,
        "calls": clock.calls,
        "network": clock.seconds,
        "peak": peak_memory(),
    }


def covered(spans: list[tuple[float, float]]) -> float:
    """The share of the time from the first start to the last end that lies in one of the spans or more."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total / (until - min(start for start, _ in spans))


def in_new_process(clip: Path, base: Path, *, stand_in: bool, gpu: bool = False) -> dict[str, Any]:
    comfyui = find_or_made()
    if comfyui is None:
        sys.exit("No ComfyUI here: set COMFYUI_PATH to its folder.")
    with own_process() as process:
        return process.submit(run_node, comfyui.folder, clip, base, stand_in, gpu).result()


def memory(folder: Path, size: tuple[int, int]) -> None:
    peaks = []
    for seconds in (10, 600):
        clip = folder / f"{seconds}.mp4"
        write_clip(clip, seconds * RATE, *size)
        result = in_new_process(clip, folder / "base", stand_in=True)
        peaks.append(result["peak"] / 2**20)
        print(
            f"{seconds} s: {result['frames']} frames in {result['seconds']:.0f} s, peak {peaks[-1]:.0f} MiB", flush=True
        )
    print(f"10 minutes take {peaks[1] - peaks[0]:+.0f} MiB more than 10 seconds")


def busy(folder: Path, size: tuple[int, int], frames: int) -> None:
    clip = folder / "clip.mp4"
    write_clip(clip, frames, *size)
    result = in_new_process(clip, folder / "base", stand_in=False)
    print(f"{frames} frames of {size[1]} x {size[0]} -> {result['frames']} in {result['seconds']:.1f} s")
    share = result["network"] / result["seconds"]
    print(f"{result['calls']} calls of the network took {result['network']:.1f} s: {share:.1%}")


def gpu(folder: Path, size: tuple[int, int], frames: int) -> None:
    if not torch.cuda.is_available():
        sys.exit("CUDA: not measured, no device.")
    clip = folder / "clip.mp4"
    write_clip(clip, frames, *size)
    result = in_new_process(clip, folder / "base", stand_in=False, gpu=True)
    made = result["frames"] - frames
    print(f"{frames} frames of {size[1]} x {size[0]} -> {result['frames']} in {result['seconds']:.1f} s:", end=" ")
    print(f"{made / result['seconds']:.1f} frames made a second, the GPU computes for {result['busy']:.1%} of the time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "busy", "gpu"))
    parser.add_argument("--size", default="640x360", help="width x height (%(default)s)")
    parser.add_argument("--frames", type=int, default=1200, help="of the clip, for busy and gpu (%(default)s)")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "memory":
            memory(Path(folder), (height, width))
        else:
            measure = gpu if options.what == "gpu" else busy
            measure(Path(folder), (height, width), options.frames)
