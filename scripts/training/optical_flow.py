"""Optical flow by OpenCV's DIS (Kroeger et al., ECCV 2016; preset MEDIUM), and what it says about time."""

from __future__ import annotations

import threading

import cv2
import numpy as np

MOTION = 1.0
"""Pixels of way below which a flow says nothing about time."""
LEAST_MOVING = 0.02
"""Share of the pixels that must say something about time."""

_own = threading.local()


def dis_flow(frame0: np.ndarray, frame1: np.ndarray) -> np.ndarray:
    """From uint8 grey frames [h, w]: for each pixel of frame 0 where it goes, [h, w, 2] (x, y)."""
    if not hasattr(_own, "dis"):  # it keeps buffers, which threads can't share
        _own.dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return _own.dis.calc(frame0, frame1, np.zeros((*frame0.shape, 2), np.float32))


def time_between(frame0: np.ndarray, frame: np.ndarray, frame1: np.ndarray) -> float | None:
    """When `frame` was taken, if frame 0 was at 0 and frame 1 at 1; uint8 grey frames [h, w]. See `time_by_flows`."""
    return time_by_flows(dis_flow(frame, frame0), dis_flow(frame, frame1))


def time_by_flows(back: np.ndarray, on: np.ndarray) -> float | None:
    """When a frame was taken, 0..1, by its flows back to the frame at 0 and on to the frame at 1, [h, w, 2].

    The median over the half of the picture that moves most, where it comes from frame 0 and goes on to frame 1 in
    one direction. None where too little moves, or nothing does so steadily.
    """
    way_back, way_on = (np.linalg.norm(way, axis=-1) for way in (back, on))
    way = way_back + way_on
    straight = -(back * on).sum(axis=-1) > 0.9 * way_back * way_on
    steady = straight & (way > max(MOTION, float(np.median(way))))
    if steady.mean() < LEAST_MOVING:
        return None
    return float(np.median(way_back[steady] / way[steady]))


def flows_in_middle(flows: np.ndarray, time: float) -> np.ndarray:
    """The flows back and on, [2, h, w, 2], of the middle of the time, from those of the frame at `time`.

    Motion is taken to be steady: what is at a place in the middle has moved there along its own way.
    """
    way = flows[1] - flows[0]
    y, x = np.indices(way.shape[:2], dtype=np.float32)
    here = way
    for _ in range(3):
        there = (time - 0.5) * here
        here = cv2.remap(way, x + there[..., 0], y + there[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.stack((-here / 2, here / 2))
