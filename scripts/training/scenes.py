"""Scenes made from still pictures: layers that move along known smooth paths, so that flows and times are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

STEPS = 6
"""Of the fixed point that undoes a smooth warp; each divides the error by more than 5."""


@dataclass(frozen=True)
class Path:
    """Where the points of a picture go: a pan, a zoom and a turn around `centre`, and a smooth warp on top.

    Time runs from 0 to 1 and the picture is as it was found at 1/2.
    """

    centre: tuple[float, float]
    """(x, y), pixels."""
    pan: tuple[float, float]
    """Pixels from time 0 to time 1."""
    zoom: float
    """How many times larger things are at time 1 than at time 0."""
    turn: float
    """Radians from time 0 to time 1."""
    warp: np.ndarray
    """How far each pixel [h, w, 2] moves besides, in the same time. Its slope must stay below 0.2."""

    def places(self, points: np.ndarray, time: float) -> np.ndarray:
        """Where `points` of the picture, [h, w, 2] (x, y), are at `time`."""
        since = time - 0.5
        matrix, centre = self._matrix(since), np.asarray(self.centre, np.float32)
        moved = (points - centre) @ matrix.T + centre + since * np.asarray(self.pan, np.float32)
        return moved + since * self._warp_at(points)

    def points(self, places: np.ndarray, time: float) -> np.ndarray:
        """Which points of the picture are at `places` at `time`: undoes `places`."""
        since = time - 0.5
        back, centre = np.linalg.inv(self._matrix(since)), np.asarray(self.centre, np.float32)
        target = places - since * np.asarray(self.pan, np.float32) - centre
        points = target @ back.T + centre
        for _ in range(STEPS if self.warp.any() else 0):
            points = (target - since * self._warp_at(points)) @ back.T + centre
        return points.astype(np.float32)

    def _matrix(self, since: float) -> np.ndarray:
        cosine, sine = np.cos(self.turn * since), np.sin(self.turn * since)
        return (self.zoom**since * np.array([[cosine, -sine], [sine, cosine]])).astype(np.float32)

    def _warp_at(self, points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0].astype(np.float32), points[..., 1].astype(np.float32)
        return cv2.remap(self.warp, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@dataclass(frozen=True)
class Layer:
    """A picture, uint8 [h, w, 3], what of it is shown, [h, w] of 0..1, and how it moves."""

    picture: np.ndarray
    shown: np.ndarray | None
    """None: all of it, and its mirror images where it ends."""
    path: Path


class Scene:
    """Layers over one another, the last on top; all pictures of one size, which is that of the frames."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        height, width = layers[0].picture.shape[:2]
        self._grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)

    def frame(self, time: float) -> np.ndarray:
        """uint8 [h, w, 3]."""
        return self._look(time)[0].round().clip(0, 255).astype(np.uint8)

    def flow(self, time: float, other: float) -> np.ndarray:
        """From each pixel of the frame at `time` to where its point is at the `other` one: [h, w, 2], pixels (x, y)."""
        return self._look(time, other)[1]

    def _look(self, time: float, other: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
        frame, flow = np.zeros((), np.float32), np.zeros_like(self._grid)
        for layer in self._layers:
            points = layer.path.points(self._grid, time)
            x, y = points[..., 0], points[..., 1]
            seen = cv2.remap(layer.picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
            way = layer.path.places(points, other) - self._grid
            if layer.shown is None:
                frame, flow = seen.astype(np.float32), way
                continue
            shown = cv2.remap(layer.shown, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)[..., None]
            frame = frame + shown * (seen - frame)
            flow = np.where(shown > 0.5, way, flow)
        return frame, flow.astype(np.float32)


def random_scene(pictures: Sequence[np.ndarray], random: np.random.Generator, most: float) -> Scene:
    """Moves the first picture, uint8 [h, w, 3], and a soft-edged cut-out of each other one over it.

    most: pixels that things move at the most between the times 0 and 1, about; small ways are as likely as wide ones.
    """
    size = pictures[0].shape[:2]
    centre = (size[1] / 2, size[0] / 2)
    layers = [Layer(pictures[0], None, random_path(size, centre, random, most ** random.uniform(0, 1)))]
    for picture in pictures[1:]:
        shown, centre = cut_out(size, random)
        layers.append(Layer(picture, shown, random_path(size, centre, random, most ** random.uniform(0, 1))))
    return Scene(layers)


def random_path(size: tuple[int, int], centre: tuple[float, float], random: np.random.Generator, way: float) -> Path:
    """A path around `centre` (x, y) for a picture of (height, width) = size that goes about `way` pixels."""
    direction = random.uniform(0, 2 * np.pi)
    radius = min(size) / 2
    # A share of the way for zoom and turn, which move the border by as much.
    zoom, turn = random.normal(0, 0.3 * way / radius, 2)
    amount = min(0.2 * way, radius / 16)
    coarse = random.normal(0, amount, (4, 4, 2)).astype(np.float32)
    warp = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return Path(centre, (way * np.cos(direction), way * np.sin(direction)), float(np.exp(zoom)), float(turn), warp)


def cut_out(size: tuple[int, int], random: np.random.Generator) -> tuple[np.ndarray, tuple[float, float]]:
    """A blob with a soft edge, [h, w] of 0..1, and its centre."""
    height, width = size
    y, x = np.indices(size, dtype=np.float32)
    centre = random.uniform(0.25, 0.75) * width, random.uniform(0.25, 0.75) * height
    radius = random.uniform(0.12, 0.35) * min(size)
    bumps = cv2.resize(
        random.normal(0, 0.35, (5, 5)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    inside = radius * (1 + bumps) - np.hypot(x - centre[0], y - centre[1])
    edge = random.uniform(0.7, 3)
    return (0.5 + inside / (2 * edge)).clip(0, 1), centre
