"""The workflows for videos on a real server: frames, rate, size and sound are as they promise."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
import torch
from amt_frame_interpolation.video.audio import Track, sound_of
from amt_frame_interpolation.video.container import Window
from amt_frame_interpolation.video.decode import VideoReader
from amt_frame_interpolation.video.encode import VideoWriter
from setup.client import NodeFailedError, OutputFile
from setup.install import ROOT
from setup.server import LocalServer

FRAMES = 12
"""Of each of the templates' clips, at less than half their size: the templates promise the same for any video."""
LOOP = "amt_07_frame_interpolation_seamless_loop"


class Expected(NamedTuple):
    frames: int
    rate: int
    parts: int
    """Every so-manieth frame is one of the clip."""
    slower: int = 1
    """How many times the clip's length the sound has. Sound of the same length is the clip's own."""


EXPECTED = {
    "amt_01_frame_interpolation_16_to_32_fps_with_sound": Expected(24, 32, 2),
    "amt_02_frame_interpolation_to_60_fps_with_sound": Expected(48, 60, 4),
    "amt_03_frame_interpolation_image_batch_to_video": Expected(24, 32, 2),
    "amt_05_frame_interpolation_slow_motion": Expected(48, 16, 4, slower=4),
    LOOP: Expected(27, 30, 2),  # four frames lead to the first one, not one
    "amt_10_frame_interpolation_vhs_video_combine": Expected(24, 32, 2),
    "amt_11_frame_interpolation_vhs_load_video": Expected(24, 30, 2),
    "amt_12_frame_interpolation_vhs_meta_batch": Expected(24, 30, 2),
}


def read(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))


class Decoded(NamedTuple):
    frames: np.ndarray
    """[n, h, w, 3], uint8."""
    rate: Fraction
    length: float
    """Seconds of picture."""
    samples: np.ndarray
    """[channels, n]."""
    sound_rate: int


def decode(path: Path) -> Decoded:
    with av.open(str(path)) as container:
        picture, voice = container.streams.video[0], container.streams.audio[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(picture)])
        container.seek(0)
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(voice)], axis=1)
        length = float((picture.duration or 0) * (picture.time_base or 0))
        return Decoded(frames, Fraction(picture.average_rate or 0), length, samples, voice.rate)


def run(server: LocalServer, prompt: dict[str, Any]) -> list[OutputFile]:
    """Its files. A meta batch queues itself again until it is done: the last of these runs has them."""
    known = set(server.get("/history"))
    result = server.queue(prompt, timeout=900)
    while not result.files:
        assert {"unfinished_batch": [True]} in result.outputs.values()
        known.add(result.prompt_id)
        deadline = time.monotonic() + 60
        while not (new := _queued(server) - known):
            assert time.monotonic() < deadline, "the next batch was not queued"
            time.sleep(0.1)
        result = server.wait(new.pop(), timeout=900)
    return result.files


def _queued(server: LocalServer) -> set[str]:
    queue = server.get("/queue")
    waiting = {item[1] for kind in ("queue_running", "queue_pending") for item in queue[kind]}
    return waiting | set(server.get("/history"))


@pytest.fixture(scope="module")
def small(comfyui_server: LocalServer) -> Callable[[dict[str, Any]], Path]:
    """Puts a small clip in the place of the one that a workflow loads."""

    def shrink(prompt: dict[str, Any]) -> Path:
        inputs = next(node["inputs"] for node in prompt.values() if "Load" in node["class_type"])
        key = "file" if "file" in inputs else "video"
        source = ROOT / "media" / inputs[key]
        inputs[key] = f"small_{source.name}"
        return make_small(source, comfyui_server.input / inputs[key])

    return shrink


def make_small(clip: Path, target: Path) -> Path:
    with av.open(str(clip)) as source:
        rate = Fraction(source.streams.video[0].average_rate or 0)
        with VideoWriter(target, rate=rate, sound=_sound(clip, float(FRAMES / rate))) as writer:
            for frame in islice(source.decode(video=0), FRAMES):
                writer.write(torch.from_numpy(frame.reformat(160, 160, "rgb24").to_ndarray()))
    return target


def _sound(path: Path, seconds: float) -> list[Track]:
    return sound_of(VideoReader(str(path), Window(duration=seconds)), None).tracks


@pytest.mark.parametrize("name", EXPECTED)
def test_workflow(
    name: str,
    comfyui_server: LocalServer,
    small: Callable[[dict[str, Any]], Path],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    server = request.getfixturevalue("vhs_server") if "vhs" in name else comfyui_server
    prompt, expected = read(name), EXPECTED[name]
    source = decode(small(prompt))
    files = [file for file in run(server, prompt) if file.filename.endswith(".mp4")]
    # Video Combine also keeps what it had before the sound was there
    file = next(iter([file for file in files if "-audio" in file.filename] or files))
    made = decode(server.download(file, tmp_path))

    assert len(made.frames) == expected.frames
    assert made.rate == expected.rate
    assert made.frames.shape[1:] == source.frames.shape[1:]
    assert made.length == pytest.approx(expected.frames / expected.rate, abs=1e-3)
    if "AMTInterpolateVideo" in {node["class_type"] for node in prompt.values()} and expected.slower == 1:  # copied
        assert np.array_equal(made.samples, source.samples)
    # within a packet of 1024 samples, and the encoder's own one before them
    length = expected.slower * source.samples.shape[1] / source.sound_rate
    assert made.samples.shape[1] / made.sound_rate == pytest.approx(length, abs=0.06)

    ways: list[list[float]] = []
    for index, frame in enumerate(source.frames):
        place = index * expected.parts
        assert psnr(made.frames[place], frame) > 30
        # what is made between it and the next one is on its way
        if index < len(source.frames) - 1:
            ways.append(on_the_way(made.frames, place, expected.parts))
            assert all(0.05 < share < 0.95 for share in ways[-1]), (index, ways[-1])
        elif name == LOOP:
            back = [0.0, *on_the_way(made.frames, place, expected.frames - place), 1.0]
            assert all(after > before for before, after in pairwise(back)), back
        else:  # the last one is held
            assert all(psnr(held, frame) > 30 for held in made.frames[place:])
    usual = [0.0, *np.median(ways, axis=0), 1.0]
    assert all(b - a > 0.25 / expected.parts for a, b in pairwise(usual)), usual


def test_damaged_frames_of_a_video_are_repaired(comfyui_server: LocalServer, tmp_path: Path) -> None:
    """A grey frame and two of noise: what takes their places is nearer to what was there than the frames around."""
    prompt = read("amt_01_frame_interpolation_16_to_32_fps_with_sound")
    clip = ROOT / "media" / prompt["1"]["inputs"]["file"]
    whole = decode(make_small(clip, tmp_path / "whole.mp4"))
    damaged = torch.from_numpy(whole.frames).clone()
    damaged[3] = 128
    damaged[6:8] = torch.randint(0, 256, damaged[6:8].shape, dtype=torch.uint8)
    with VideoWriter(comfyui_server.input / "damaged.mp4", rate=whole.rate) as writer:
        for frame in damaged:
            writer.write(frame)
    prompt["1"]["inputs"]["file"] = "damaged.mp4"
    prompt["3"]["inputs"] |= {"bad_frames": "3, 6-7", "recursive_interpolation_passes": 0}
    (file,) = run(comfyui_server, prompt)
    with av.open(str(comfyui_server.download(file, tmp_path))) as container:
        made = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(made) == FRAMES
    for number, (frame, truth) in enumerate(zip(made, whole.frames, strict=True)):
        if number in (3, 6, 7):
            around = max(psnr(whole.frames[near], truth) for near in ((2, 4) if number == 3 else (5, 8)))
            assert psnr(frame, truth) > max(around, 20), number
        else:
            assert psnr(frame, truth) > 30, number
    prompt["3"]["inputs"]["bad_frames"] = f"{FRAMES}"
    with pytest.raises(NodeFailedError, match=f"bad_frames: expected frames from 0 to {FRAMES - 1}"):
        comfyui_server.queue(prompt, timeout=300)


def on_the_way(frames: np.ndarray, place: int, parts: int) -> list[float]:
    """How far each frame between this one and the next one of the clip is, of all that changes: 0..1."""
    first, last = frames[place].astype(float), frames[(place + parts) % len(frames)].astype(float)
    change = last - first
    return [float(((frame - first) * change).sum() / (change**2).sum()) for frame in frames[place + 1 : place + parts]]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(((a.astype(float) - b) ** 2).mean(), 1e-9)))
