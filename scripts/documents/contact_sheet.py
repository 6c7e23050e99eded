"""A video's frames on one picture: `python scripts/documents/contact_sheet.py VIDEO SHEET.png`. Needs PyAV and Pillow.

Prints one line that describes the video.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import av
from PIL import Image, ImageDraw

MOST = 40
"""Tiles on a sheet; of a longer video, evenly spaced frames with the first and the last are shown."""


def read_frames(video: Path) -> tuple[list[tuple[int, Image.Image]], int, float]:
    """(index, picture) of the frames to show, how many frames there are, and the frame rate (0 if unknown)."""
    with av.open(str(video)) as container:  # counted first: containers give wrong or no counts
        count = sum(1 for _ in container.decode(video=0))
    shown = {round(i * (count - 1) / (MOST - 1)) for i in range(MOST)} if count > MOST else set(range(count))
    with av.open(str(video)) as container:
        rate = float(container.streams.video[0].average_rate or 0)
        frames = [(i, frame.to_image()) for i, frame in enumerate(container.decode(video=0)) if i in shown]
    return frames, count, rate


def sheet(frames: list[tuple[int, Image.Image]], rate: float, *, width: int = 1600, gap: int = 4) -> Image.Image:
    """The frames in rows, each with its number and time."""
    columns = min(len(frames), max(3, math.ceil(math.sqrt(len(frames)))))
    rows = math.ceil(len(frames) / columns)
    size = frames[0][1].size
    scale = min(1.0, (width - gap * (columns + 1)) / columns / size[0])
    tile = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    label = 14
    picture = Image.new("RGB", (gap + columns * (tile[0] + gap), gap + rows * (tile[1] + label + gap)), (24, 24, 24))
    draw = ImageDraw.Draw(picture)
    for place, (index, frame) in enumerate(frames):
        x = gap + place % columns * (tile[0] + gap)
        y = gap + place // columns * (tile[1] + label + gap)
        picture.paste(frame.resize(tile, Image.Resampling.LANCZOS), (x, y))
        time = f"  {index / rate:.3f} s" if rate else ""
        draw.text((x + 2, y + tile[1] + 1), f"{index}{time}", fill=(220, 220, 220))
    return picture


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    video, target = map(Path, arguments)
    frames, count, rate = read_frames(video)
    if not frames:
        print(f"{video} has no frames.", file=sys.stderr)
        return 1
    sheet(frames, rate).save(target)
    width, height = frames[0][1].size
    length = f", {rate:g} fps, {count / rate:.2f} s" if rate else ""
    print(f"{count} frames, {width} x {height}{length}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
