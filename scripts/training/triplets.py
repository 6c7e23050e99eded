"""Triplets to train on: shots with motion whose middle frame lies in the middle of the way, by optical flow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from training.clips import Clip, grey, in_the_middle
from training.optical_flow import time_between

Triplets = Mapping[str, Mapping[int, Sequence[int]]]
"""By clip, and by how far apart the frames are: the first frames."""


def even_triplets(clips: Sequence[Clip], strides: Iterable[int], cache: Path) -> Triplets:
    """Looking at every triplet takes some minutes: what was seen is kept in `cache`, a JSON file."""
    strides = sorted(set(strides))
    times = json.loads(cache.read_text()) if cache.exists() else {}
    missing = [clip for clip in clips if not {str(stride) for stride in strides} <= set(times.get(clip.name, ()))]
    if missing:
        with ThreadPoolExecutor() as threads:
            found = threads.map(lambda clip: middle_times(clip, strides), missing)
            times |= {clip.name: by_stride for clip, by_stride in zip(missing, found, strict=True)}
        cache.write_text(json.dumps(times))
    return {
        clip.name: {
            stride: [int(first) for first, time in times[clip.name][str(stride)].items() if in_the_middle(time)]
            for stride in strides
        }
        for clip in clips
    }


def middle_times(clip: Clip, strides: Iterable[int]) -> dict[str, dict[str, float | None]]:
    """By stride and first frame of each triplet with motion in one shot: when its middle was taken, 0..1."""
    frames = [grey(np.ascontiguousarray(frame)) for frame in clip.frames]
    return {
        str(stride): {
            str(first): time_between(*frames[first : first + 2 * stride + 1 : stride])
            for first in range(len(frames) - 2 * stride)
            if clip.moves(first, first + 2 * stride)
        }
        for stride in strides
    }
