"""Frames that carry their number in big black and white blocks, which survive encoding, and a network that counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from amt_frame_interpolation.amt.network.padding import Padding
from opened_pairs import OpenedPairs
from torch import Tensor

BITS = 16
PARTS = 256
"""Numbers are whole ones, or parts of this."""
BLOCK = 16
HEIGHT, WIDTH = 4 * BLOCK, 4 * BLOCK


def frame(number: Fraction | float) -> Tensor:
    """[64, 64, 3], float32, 0..1."""
    return _frames(torch.tensor([round(number * PARTS)]))[0]


def _frames(values: Tensor) -> Tensor:
    bits = (values[:, None] >> torch.arange(BITS)) & 1
    blocks = bits.reshape(-1, 4, 4).float()
    return blocks.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)[..., None].expand(-1, -1, -1, 3).contiguous()


def _values(frames: Tensor) -> Tensor:
    """[n, h, w, ...] -> [n]; reads the middle of each block."""
    middle = frames[:, BLOCK // 2 : HEIGHT : BLOCK, BLOCK // 2 : WIDTH : BLOCK, 0]
    return ((middle > 0.5).long().flatten(1) << torch.arange(BITS)).sum(dim=1)


def number(frame: Tensor | np.ndarray) -> Fraction:
    """What a frame, float 0..1 or uint8, says."""
    frame = torch.as_tensor(frame)
    frame = frame if frame.is_floating_point() else frame.float() / torch.iinfo(frame.dtype).max
    return Fraction(int(_values(frame[None])), PARTS)


class Counter(OpenedPairs):
    """A network that makes the frame with the number that lies between."""

    padding = Padding(multiple_of=8, minimum=16, centred=False)

    def __init__(self, any_time: bool = False) -> None:
        self.any_time = any_time
        self.calls = 0

    def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        self.calls += len(frame0)
        value0, value1 = (_values(frame.permute(0, 2, 3, 1)) for frame in (frame0, frame1))
        made = _frames(torch.round(value0 + (value1 - value0) * timestep.double()).long()).permute(0, 3, 1, 2)
        whole = frame0.clone()
        whole[:, :3, :HEIGHT, :WIDTH] = made
        return whole


def damage(path: Path, number: int) -> None:
    """Fills a packet of the picture with zeros."""
    with av.open(str(path)) as container:
        packet = next(packet for packet in container.demux(video=0) if packet.pts == number)
    content = bytearray(path.read_bytes())
    start = content.index(bytes(packet), packet.pos)
    content[start : start + packet.size] = bytes(packet.size)
    path.write_bytes(content)


def write(
    path: Path,
    numbers: Iterable[Fraction | float],
    *,
    rate: Fraction | int = 24,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    b_frames: int = 2,
    gop: int = 12,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    sound: np.ndarray | None = None,
    sound_codec: str = "aac",
    sound_rate: int = 48000,
    sound_start: int = 0,
    start: int = 0,
    scene: Tensor | None = None,
    **context: object,
) -> Path:
    """A video of numbered frames, at a constant rate or at `times` in units of `time_base`.

    size: larger than the number's, filled up with grey or with `scene`. sound: float32 [2, samples], from sample
    `sound_start` on. start: of the picture, in frames.
    """
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(
            codec, rate=rate, options={"crf": "12"} if codec.startswith("libx26") else {}
        )
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.gop_size = gop
        tick = time_base or 1 / Fraction(rate)
        stream.codec_context.time_base = tick
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        voice: Any = container.add_stream(sound_codec, rate=sound_rate, layout="stereo") if sound is not None else None
        for index, value in enumerate(numbers):
            picture = torch.full((*size, 3), 0.5) if scene is None else scene.clone()
            picture[:HEIGHT, :WIDTH] = frame(value)
            shown = av.VideoFrame.from_ndarray((picture.numpy() * 255).round().astype(np.uint8), format="rgb24")
            shown.pts, shown.time_base = start + (index if times is None else times[index]), tick
            container.mux(stream.encode(shown))
        if voice is not None and sound is not None:
            planar = voice.codec_context.format.is_planar
            kind = {"flt": np.float32, "s16": np.int16, "s32": np.int32}[voice.codec_context.format.name.rstrip("p")]
            scale = 1 if kind == np.float32 else np.iinfo(kind).max
            samples = (sound * scale).astype(kind)
            data = samples if planar else np.ascontiguousarray(samples.T.reshape(1, -1))
            heard = av.AudioFrame.from_ndarray(data, format=voice.codec_context.format.name, layout="stereo")
            heard.sample_rate, heard.pts, heard.time_base = sound_rate, sound_start, Fraction(1, sound_rate)
            container.mux(voice.encode(heard))
            container.mux(voice.encode(None))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> list[tuple[Fraction, Fraction]]:
    """(time in seconds, number) of every frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            (
                Fraction(picture.time_base or 0) * (picture.pts or 0),
                number(picture.to_ndarray(format="gray")[..., None]),
            )
            for picture in container.decode(stream)
        ]


def length(path: Path) -> Fraction:
    """The picture's duration in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return Fraction(stream.time_base or 0) * (stream.duration or 0)


def tones(seconds: float, rate: int = 48000) -> np.ndarray:
    """[2, samples]: a rising tone, and its opposite."""
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * (200 + 150 * time) * time)
    return np.stack([wave, -wave]).astype(np.float32)


def heard(path: Path, index: int = 0) -> tuple[Fraction, np.ndarray]:
    """When the sound begins, in seconds, and its samples [channels, samples]."""
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.audio[index]))
        return Fraction(frames[0].time_base or 0) * (frames[0].pts or 0), np.concatenate(
            [frame.to_ndarray() for frame in frames], axis=1
        )


def packets(path: Path, index: int = 0) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[index]) if packet.size]
