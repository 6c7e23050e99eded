"""Makes videos of many kinds, most of them damaged, and has each of them interpolated, with a stand-in for the network.

    python scripts/fuzz clips --files 500 --seed 0

Containers, codecs, frame rates, clocks, sound, its channels, trims and damage are drawn by chance, and so is what
becomes of time. Each must give a video with the frames that the plan says, or an error that names the cause and leaves
no file. A whole video must be made. All else is a fault: an end of the process, a minute, another exception, a file
that is left, other frames than planned. It is kept, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import io
import random
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import _pack  # noqa: F401
import av
import numpy as np
import torch
from amt_frame_interpolation.amt.engine import Engine
from amt_frame_interpolation.amt.timeline import Plan
from amt_frame_interpolation.amt.timeline.analysis import SourceAnalysis
from amt_frame_interpolation.amt.timeline.curve import speed_curve
from amt_frame_interpolation.amt.timeline.cuts import CutDetector
from amt_frame_interpolation.cluster.paced import Paced
from amt_frame_interpolation.video.container import UnreadableVideoError, Window
from amt_frame_interpolation.video.encode import SoundError
from amt_frame_interpolation.video.file import VideoFile
from amt_frame_interpolation.video.pipeline import interpolate_video
from amt_frame_interpolation.video.task import Task
from av.error import FFmpegError

from fuzz.harness import FAULT, run

CONTAINERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mp4": (("libx264", "libx265", "mpeg4"), ("aac", "libmp3lame", "ac3")),
    "mov": (("libx264", "mjpeg", "mpeg4"), ("aac", "pcm_s16le", "pcm_s24le")),
    "matroska": (("libx264", "libx265", "ffv1", "mjpeg", "libvpx-vp9"), ("aac", "flac", "pcm_s16le", "libopus")),
    "avi": (("mpeg4", "mjpeg", "libx264"), ("libmp3lame", "pcm_s16le", "ac3")),
    "mpegts": (("libx264", "mpeg2video"), ("aac", "libmp3lame", "ac3")),
    "webm": (("libvpx", "libvpx-vp9"), ("libopus", "libvorbis")),
    "flv": (("libx264", "flv"), ("aac", "libmp3lame")),
}
RATES = ("24", "25", "30", "60", "24000/1001", "30000/1001", "60000/1001", "25/2", "15", "1000/33")
LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "7.1")
CURVE = speed_curve("0 s: 1x, 0.3 s: 0.5x ease, 0.6 s: 2x")


def whole(chance: random.Random) -> bytes:
    """A video; drawn again where FFmpeg does not write the combination."""
    while True:
        container = chance.choice(list(CONTAINERS))
        pictures, sounds = CONTAINERS[container]
        buffer = io.BytesIO()
        try:
            with av.open(buffer, "w", format=container, options={"fflags": "+bitexact"}) as file:
                _write(file, chance, chance.choice(pictures), chance.choice((None, *sounds)))
        except (FFmpegError, ValueError):
            continue
        return buffer.getvalue()


def _write(file: Any, chance: random.Random, codec: str, sound: str | None) -> None:
    rate = Fraction(chance.choice(RATES))
    options = {"g": str(chance.choice((1, 5, 12, 250)))} | (
        {"x265-params": "log-level=none"} if codec == "libx265" else {}
    )
    video = file.add_stream(codec, rate=rate, options=options)
    video.width, video.height = (2 * chance.randint(24, 60) for _ in range(2))
    video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    uneven = file.format.name in ("mp4", "mov", "matroska") and chance.random() < 0.3
    base = Fraction(1, chance.choice((1000, 90000))) if uneven else 1 / rate
    video.codec_context.time_base = base
    audio = None
    if sound:
        audio = file.add_stream(sound, rate=chance.choice((22050, 44100, 48000)), layout=chance.choice(LAYOUTS))
    frames = chance.randint(1, 30)
    noise = np.random.default_rng(chance.randrange(2**32))
    picture = noise.integers(0, 255, (video.height // 8 + 1, (video.width + 4 * frames) // 8 + 1, 3)).astype(np.uint8)
    picture = picture.repeat(8, 0).repeat(8, 1)
    time = Fraction(chance.choice((0, 0, 1, 100)))
    for index in range(frames):
        pixels = np.ascontiguousarray(picture[: video.height, 4 * index : 4 * index + video.width])
        frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
        frame.pts, frame.time_base = round(time / base), base
        time += chance.choice((1, 1, 2, 5)) / rate if uneven else 1 / rate
        file.mux(video.encode(frame))
    file.mux(video.encode(None))
    if audio:
        channels = audio.codec_context.layout.nb_channels
        samples = noise.normal(0, 0.1, (channels, int(audio.rate * frames / rate))).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples.T.reshape(1, -1), "flt", audio.codec_context.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = audio.rate, 0, Fraction(1, audio.rate)
        fifo = av.AudioFifo()
        fifo.write(frame)
        size = audio.codec_context.frame_size or 1024
        while part := fifo.read(size) or fifo.read(0, partial=True):
            file.mux(audio.encode(part))
        file.mux(audio.encode(None))


def make(chance: random.Random, path: Path) -> None:
    """A whole video, or one with up to three damages."""
    content = bytearray(whole(chance))
    for _ in range(chance.choice((0, 0, 1, 2, 3))):
        place, count = chance.randrange(len(content)), chance.choice((1, 4, 64, 1024))
        content[place : place + count] = chance.choice(
            (b"", chance.randbytes(count), bytes(count), bytes(content[: count * 8]), bytes(content[place:]))
        )
    path.write_bytes(content)


def judge(path: Path, seed: int, number: int) -> str:
    chance = random.Random(f"judge {seed} {number}")
    is_whole = path.read_bytes() == _again(seed, number)
    window = chance.choice((Window(), Window(), Window(0.2), Window(0.1, 0.4)))
    end = chance.choice(("stop", "hold", "loop"))
    plan = chance.choice(
        (
            Plan(chance.randint(0, 2), end),
            Plan(1, end, slow=True),
            Plan(0, end, Fraction(chance.choice(RATES))),
            Plan(0, end, Fraction(30), curve=CURVE),
        )
    )
    task = Task(plan, SourceAnalysis(end, CutDetector(), chance.random() < 0.3), chance.random() < 0.2)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "made.mp4")
        try:
            video = VideoFile(str(path), window, most_pixels=2**20)
            sound = task.sound(video)
            shown = []
            interpolate_video(
                video,
                target,
                plan=plan,
                analysis=task.analysis,
                interpolate=Engine(Paced(0), torch.device("cpu")).interpolate,
                sound=sound.tracks,
                delay=task.delay(video, sound),
                poll=lambda: None,
                shown=shown.append,
            )
        except (UnreadableVideoError, SoundError) as error:
            str(error).encode()
            if target.exists():
                return f"{FAULT}: a file is left after {type(error).__name__}"
            if is_whole and "has no frames" not in str(error):
                return f"{FAULT}: a whole video is refused: {error}"
            return f"{type(error).__name__}: {str(error)[:40]}"
        with av.open(str(target)) as made:
            times = [frame.pts or 0 for frame in made.decode(video=0)]
        if len(times) != len(shown) or times != sorted(set(times)):
            return f"{FAULT}: {len(shown)} frames were made, {len(times)} are in the file"
        if is_whole and video.timing.constant and len(times) != plan.count(video.timing.frames, video.timing.rate):
            return f"{FAULT}: {len(times)} frames for a plan of {plan.count(video.timing.frames, video.timing.rate)}"
    return "made, of a whole video" if is_whole else "made, of a damaged video"


def _again(seed: int, number: int) -> bytes:
    """The video before it was damaged."""
    return whole(random.Random(f"{seed} {number}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run(make, judge, "clip.video", arguments.files, arguments.seed)
