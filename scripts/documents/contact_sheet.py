"""A video's frames on one picture, each with its number and time, and a line that describes the video.

Needs PyAV and Pillow. scripts/comfyui.py shows with it what the demo has made.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import av
from PIL import Image

from documents.tiles import GAP, tiles

MOST = 40
"""Tiles on a sheet; of a longer video, evenly spaced frames with the first and the last are shown."""
WIDTH = 1600


def read_frames(video: Path) -> tuple[list[tuple[int, Image.Image]], int, float]:
    """(index, picture) of the frames to show, how many frames there are, and the frame rate (0 if unknown)."""
    with av.open(str(video)) as container:  # counted first: containers give wrong or no counts
        count = sum(1 for _ in container.decode(video=0))
    shown = {round(i * (count - 1) / (MOST - 1)) for i in range(MOST)} if count > MOST else set(range(count))
    with av.open(str(video)) as container:
        rate = float(container.streams.video[0].average_rate or 0)
        frames = [(i, frame.to_image()) for i, frame in enumerate(container.decode(video=0)) if i in shown]
    return frames, count, rate


def sheet(frames: list[tuple[int, Image.Image]], rate: float) -> Image.Image:
    columns = min(len(frames), max(3, math.ceil(math.sqrt(len(frames)))))
    width, height = frames[0][1].size
    scale = min(1.0, (WIDTH / columns - GAP) / width)
    labelled = [(f"{i}  {i / rate:.3f} s" if rate else f"{i}", frame) for i, frame in frames]
    return tiles(labelled, (max(1, round(width * scale)), max(1, round(height * scale))), columns=columns, label=16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("sheet", type=Path, help="PNG or JPEG")
    asked = parser.parse_args()
    frames, count, rate = read_frames(asked.video)
    if not frames:
        sys.exit(f"{asked.video} has no frames.")
    sheet(frames, rate).save(asked.sheet)
    width, height = frames[0][1].size
    length = f", {rate:g} fps, {count / rate:.2f} s" if rate else ""
    print(f"{count} frames, {width} x {height}{length}")
