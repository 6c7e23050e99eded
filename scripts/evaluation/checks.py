"""What the bundled weights must reach, each with its bar, the figure and the same figure of the other methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from training.clips import Clip, Window

from .methods import Method, Pairwise
from .metrics import detail, grid_prominence, psnr


@dataclass(frozen=True)
class Check:
    what: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None
    """The bar: one of the two, or none."""
    beside: Mapping[str, float] = field(default_factory=dict)
    """The same figure of other methods."""

    @property
    def met(self) -> bool:
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)


TIMES = 8
"""Frames are made at all multiples of 1 / TIMES between two."""


def identity(method: Pairwise, frames: Sequence[np.ndarray]) -> Check:
    worst = min(
        psnr(made, frame.astype(np.float32) / 255)
        for frame in frames
        for made in method.between(frame, frame, TIMES - 1)
    )
    return Check(
        f"The same frame twice in, that frame out (the worst of {len(frames)} frames at {TIMES - 1} times)",
        worst,
        "dB",
        least=45,
    )


def fine_detail(name: str, methods: Mapping[str, Pairwise], triplets: Sequence[np.ndarray]) -> Check:
    """Of frames made in the middle of triplets (uint8), beside that of the hidden frame itself."""
    values: dict[str, list[float]] = {other: [] for other in (*methods, "the hidden frame")}
    for triplet in triplets:
        frame0, truth, frame1 = triplet.astype(np.float32) / 255
        given = (detail(frame0) + detail(frame1)) / 2
        made = {other: method.between(triplet[0], triplet[2], 1)[0] for other, method in methods.items()}
        for other, frame in {**made, "the hidden frame": truth}.items():
            values[other].append(100 * detail(frame) / given)
    means = {other: float(np.mean(found)) for other, found in values.items()}
    return Check("Fine detail of made frames, of that of the given ones", means.pop(name), "%", beside=means)


def even_steps(name: str, methods: Mapping[str, Pairwise]) -> Check:
    """A texture that pans by 9 pixels, and eight frames made between: each step should be one pixel."""
    texture = _texture(np.random.default_rng(1), 320)
    frame0, frame1 = texture[32:288, 20:276], texture[32:288, 29:285]
    values = {}
    for other, method in methods.items():
        made = [frame0 / np.float32(255), *method.between(frame0, frame1, TIMES), frame1 / np.float32(255)]
        inner = [grey.mean(axis=-1, dtype=np.float32)[16:-16, 16:-16] for grey in made]
        window = cv2.createHanningWindow(inner[0].shape[::-1], cv2.CV_32F)
        steps = [abs(cv2.phaseCorrelate(before, after, window)[0][0]) for before, after in pairwise(inner)]
        values[other] = float(100 * np.abs(np.array(steps) / np.mean(steps) - 1).max())
    value = values.pop(name)
    return Check(f"A slow pan made at {TIMES} times: a step differs from their mean by", value, "%", None, 10, values)


def still_background(name: str, methods: Mapping[str, Method]) -> Check:
    frames, background = moving_disc()
    scene = Clip("disc", frames, np.ones(len(frames) - 1), np.zeros(len(frames) - 1, bool))
    window = Window("disc", tuple(range(8, 17)), "")
    values = {}
    for other, method in methods.items():
        made = np.concatenate((frames[[8]] / np.float32(255), method(scene, window), frames[[16]] / np.float32(255)))
        values[other] = float(made[:, background].std(axis=0).mean() * 255)
    value = values.pop(name)
    return Check(
        "A still background under a moving disc: standard deviation over time", value, "levels", None, 0.5, values
    )


def moving_disc() -> tuple[np.ndarray, np.ndarray]:
    """A textured disc that moves 4 pixels a frame over a still textured background.

    Frames uint8 [25, 256, 256, 3], and the pixels [256, 256] that it never covers.
    """
    random = np.random.default_rng(0)
    background, disc = _texture(random, 256), _texture(random, 64)
    y, x = np.indices((256, 256), dtype=np.float32)
    frames, covered = [], np.zeros((256, 256), bool)
    for i in range(25):
        left = 48 + 4 * i
        inside = (x - left - 32) ** 2 + (y - 128) ** 2 < 30**2
        frame = background.copy()
        frame[96:160, left : left + 64] = np.where(
            inside[96:160, left : left + 64, None], disc, background[96:160, left : left + 64]
        )
        frames.append(frame)
        covered |= inside
    return np.stack(frames), ~covered


def _texture(random: np.random.Generator, size: int) -> np.ndarray:
    """Noise of all scales in colour, as in natural images: uint8 [size, size, 3]."""
    image = np.zeros((size, size, 3), np.float32)
    for cells in (4, 8, 16, 32, size // 2):
        noise = random.standard_normal((cells, cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC) / cells**0.5
    image = (image - image.mean()) / image.std()
    return (127 + 45 * image).clip(0, 255).astype(np.uint8)


def full_hd(name: str, methods: Mapping[str, Pairwise], triplets: Sequence[np.ndarray]) -> list[Check]:
    """Grid and colour at 1920 x 1080, on a mosaic of triplets: real motion with known middles, not blown up."""
    frame0, truth, frame1 = (frame.astype(np.float32) / 255 for frame in mosaic(triplets))
    usual = grid_prominence(truth)
    # Colours change little and evenly: at the other times the mean colour lies between those of the neighbours.
    means = [frame.mean(axis=(0, 1)) for frame in (frame0, truth, frame1)]
    wanted = [(means[0] + means[1]) / 2, means[1], (means[1] + means[2]) / 2]
    grid, colour = {}, {}
    for other, method in methods.items():
        first, _, last = mosaic(triplets)
        made = method.between(first, last, len(wanted))
        prominences = [grid_prominence(frame) for frame in made]
        grid[other] = max(prominence[period] - usual[period] for prominence in prominences for period in usual)
        shifts = [frame.mean(axis=(0, 1)) - mean for frame, mean in zip(made, wanted, strict=True)]
        colour[other] = float(np.abs(shifts).max() * 255)
    return [
        Check(
            "A grid at 1080p, at three times: most that 2, 4, 8 or 16 pixels stand out over the truth",
            grid.pop(name),
            "dB",
            None,
            1,
            grid,
        ),
        Check(
            "A colour shift at 1080p, at three times: mean error of the worst channel",
            colour.pop(name),
            "levels",
            None,
            0.5,
            colour,
        ),
    ]


def mosaic(triplets: Sequence[np.ndarray]) -> np.ndarray:
    """Triplets side by side and cut to 1920 x 1080: uint8 [3, 1080, 1920, 3]."""
    height, width = triplets[0].shape[1:3]
    columns, rows = -(-1920 // width), -(-1080 // height)
    tiles = [triplets[i % len(triplets)] for i in range(rows * columns)]
    lines = [np.concatenate(tiles[row * columns : (row + 1) * columns], axis=2) for row in range(rows)]
    return np.concatenate(lines, axis=1)[:, :1080, :1920]
