"""Joins segments of one video, made by AMT Video Interpolation with the inputs `segment` and `segments`.

    python scripts/join video.mp4 segment1.mp4 segment2.mp4 segment3.mp4

Nothing is decoded. The sound is that of the first segment, which has all of it. Needs PyAV and torch: run it with
ComfyUI's Python.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import _pack  # noqa: F401  (makes the pack importable)
from amt_frame_interpolation.video.container import UnreadableVideoError
from amt_frame_interpolation.video.encode import WriteError
from amt_frame_interpolation.video.join import JoinError, join_videos


def main() -> None:
    parser = argparse.ArgumentParser("join", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help="the new file")
    parser.add_argument("segments", type=Path, nargs="+", help="in order")
    arguments = parser.parse_args()
    if arguments.video.exists():
        sys.exit(f"{arguments.video} is there already. Choose another name, or remove it first.")
    try:
        join_videos(arguments.segments, arguments.video)
    except (JoinError, UnreadableVideoError, WriteError) as error:
        sys.exit(str(error))


main()
