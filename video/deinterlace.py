"""Deinterlacing. In an interlaced frame the odd and the even lines were filmed one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain

import av
import av.filter
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as NothingMore

Timed = tuple[int, av.VideoFrame]
"""When a frame is shown, and the frame."""


def deinterlaced(frames: Iterable[Timed]) -> Iterator[Timed]:
    """As many frames, at the same times. Frames that are not interlaced stay as they are. All must have one size."""
    graph: av.filter.Graph | None = None
    times: deque[int] = deque()
    for timed in chain(frames, [None]):
        if graph is None:
            if timed is None or not timed[1].interlaced_frame:
                if timed is not None:
                    yield timed
                continue
            graph = _graph(timed[1])
        if timed is not None:
            times.append(timed[0])
        graph.push(None if timed is None else timed[1])
        with suppress(NothingYet, NothingMore):
            while times:
                made = graph.pull()
                assert isinstance(made, av.VideoFrame)
                yield times.popleft(), made


def _graph(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    filter_ = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(filter_)
    filter_.link_to(sink)
    graph.configure()
    return graph
