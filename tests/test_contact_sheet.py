"""The contact sheet of a video: its frames, in order, on one picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from documents import contact_sheet
from PIL import Image
from setup.install import ROOT

COMMAND = [sys.executable, ROOT / "scripts" / "documents", "contact_sheet"]


def write_video(path: Path, frames: int, size: tuple[int, int] = (64, 48)) -> Path:
    """A video whose frame i is grey of a level that grows with i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for i in range(frames):
            level = round(20 + 200 * i / max(1, frames - 1))
            picture = np.full((size[1], size[0], 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("frames", [1, 2, 9, 33])
def test_every_frame_of_a_short_video_in_order(tmp_path: Path, frames: int) -> None:
    shown, count, rate = contact_sheet.read_frames(write_video(tmp_path / "v.mp4", frames))
    assert ([i for i, _ in shown], count, rate) == (list(range(frames)), frames, 24.0)
    levels = [np.asarray(picture).mean() for _, picture in shown]
    assert levels == sorted(levels)


def test_a_long_video_is_sampled_from_end_to_end(tmp_path: Path) -> None:
    shown, count, _ = contact_sheet.read_frames(write_video(tmp_path / "v.mp4", 101))
    places = [i for i, _ in shown]
    assert (count, len(places), places[0], places[-1]) == (101, contact_sheet.MOST, 0, 100)
    assert set(np.diff(places)) <= {2, 3}


def test_the_tiles_show_the_frames(tmp_path: Path) -> None:
    video, target = write_video(tmp_path / "v.mp4", 5), tmp_path / "sheet.png"
    done = subprocess.run([*COMMAND, video, target], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "5 frames, 64 x 48, 24 fps, 0.21 s"
    with Image.open(target) as picture:
        sheet = np.asarray(picture.convert("L")).astype(float)
    gap, width, height = 4, 64, 48 + 16
    for i in range(5):
        y, x = i // 3 * (height + gap) + 24, i % 3 * (width + gap) + 32
        assert abs(sheet[y, x] - (20 + 50 * i)) <= 4


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_text("no video", "utf-8")
    command = [*COMMAND, tmp_path / "v.mp4", tmp_path / "sheet.png"]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert not (tmp_path / "sheet.png").exists()
