"""What is trained on: three frames, the time of the hidden one, and a flow that guides the coarse flows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from training.clips import Clip, grey, in_the_middle
from training.optical_flow import dis_flow, flows_in_middle, time_by_flows
from training.scenes import random_scene

SPANS = (2, 2, 2, 3, 3, 4, 4, 5, 6)
"""Gaps from the first frame of a triplet to the last, each as likely as the next."""
EARLIEST = 1 / 8
"""Hidden frames nearer than this to a given one teach little."""
MIDDLE = 0.4
"""Share of samples whose hidden frame lies in the middle: what is asked for most."""
STILL = 0.03
"""Share of samples that show one frame three times: what stands still must come out as it went in."""
SCENES = 0.25
"""Share of samples made from single frames that are moved along known paths."""
ENLARGED = 0.3
"""Share of crops that are enlarged, up to LARGEST times: motion grows with them."""
LARGEST = 3.0
WIDEST = 64.0
"""Pixels that things move at the most in scenes."""
TRIES = 30
"""Triplets to look at for one of the wanted kind, until any with motion will do."""


@dataclass(frozen=True)
class Batch:
    """Samples of one size."""

    frames: Tensor
    """[b, 3 frames, 3 colours, h, w], 0..1; the second one is hidden, and to be found."""
    times: Tensor
    """When it was taken, [b], 0..1."""
    flows: Tensor
    """From the middle of the time back to the first and on to the last frame, [b, 4, h, w], pixels."""

    def to(self, device: torch.device) -> Batch:
        return Batch(self.frames.to(device), self.times.to(device), self.flows.to(device))


@dataclass(frozen=True)
class _Sample:
    frames: np.ndarray
    """uint8 [3, h, w, 3]."""
    time: float
    flows: np.ndarray
    """[2, h, w, 2]."""


class Samples:
    """Random crops of triplets: where motion is, flipped, transposed, reversed in time, brighter or darker.

    Which time a hidden frame was taken at is measured by optical flow when it is drawn. That takes a twentieth of the
    time of a training step, and the flows are needed anyway.
    """

    def __init__(self, clips: Sequence[Clip], shapes: Sequence[tuple[int, int]], seed: int) -> None:
        """shapes: heights and widths of crops; each batch has one of them."""
        firsts = {clip.name: _firsts(clip) for clip in clips}
        self._clips = [clip for clip in clips if firsts[clip.name]]
        if not self._clips:
            raise ValueError("expected clips with motion over two gaps, got none: nothing can be learned from them")
        self._firsts = firsts
        self._shapes = shapes
        self._random = np.random.default_rng(seed)
        # Long clips give more than short ones, but not in proportion: what they show changes less.
        weights = np.array([math.sqrt(len(clip.frames)) for clip in self._clips])
        self._weights = weights / weights.sum()

    def batch(self, size: int) -> Batch:
        height, width = self._shapes[int(self._random.integers(len(self._shapes)))]
        samples = [self._sample(height, width) for _ in range(size)]
        return Batch(
            torch.from_numpy(np.stack([self._coloured(sample.frames) for sample in samples])),
            torch.tensor([sample.time for sample in samples], dtype=torch.float32),
            torch.from_numpy(np.stack([sample.flows for sample in samples])).permute(0, 1, 4, 2, 3).flatten(1, 2),
        )

    def _sample(self, height: int, width: int) -> _Sample:
        kind = self._random.random()
        if kind < STILL:
            return self._still(height, width)
        if kind < STILL + SCENES:
            return self._scene(height, width)
        return self._triplet(height, width)

    def _clip(self) -> Clip:
        return self._clips[self._random.choice(len(self._clips), p=self._weights)]

    def _time(self) -> float:
        return 0.5 if self._random.random() < MIDDLE else float(self._random.uniform(EARLIEST, 1 - EARLIEST))

    def _picture(self, height: int, width: int) -> np.ndarray:
        frames = self._clip().frames
        return self._turned(self._crop(frames[[self._random.integers(len(frames))]], height, width))[0]

    def _still(self, height: int, width: int) -> _Sample:
        frame = self._picture(height, width)
        return _Sample(np.stack([frame] * 3), self._time(), np.zeros((2, height, width, 2), np.float32))

    def _scene(self, height: int, width: int) -> _Sample:
        pictures = [self._picture(height, width) for _ in range(self._random.integers(1, 3))]
        scene, time = random_scene(pictures, self._random, WIDEST), self._time()
        frames = np.stack([scene.frame(at) for at in (0, time, 1)])
        return _Sample(frames, time, np.stack([scene.flow(0.5, other) for other in (0, 1)]))

    def _triplet(self, height: int, width: int) -> _Sample:
        """Of the triplets that are drawn, the first whose hidden frame lies in the middle, or does not, as wanted."""
        random = self._random
        wants_middle = random.random() < MIDDLE
        other: _Sample | None = None
        for tried in range(10 * TRIES):
            clip = self._clip()
            spans = [span for span in SPANS if span in self._firsts[clip.name] and not (wants_middle and span % 2)]
            if not spans:
                continue
            span = int(random.choice(spans))
            first = int(random.choice(self._firsts[clip.name][span]))
            hidden = first + (span // 2 if wants_middle else int(random.integers(1, span)))
            frames = self._crop(clip.frames[[first, hidden, first + span]], height, width)
            frames = self._turned(frames[::-1] if random.random() < 0.5 else frames)
            greys = [grey(frame) for frame in frames]
            flows = np.stack([dis_flow(greys[1], greys[i]) for i in (0, 2)])
            time = time_by_flows(flows[0], flows[1])
            if time is None or not EARLIEST <= time <= 1 - EARLIEST:
                continue
            middle = in_the_middle(time)
            other = _Sample(frames, 0.5, flows) if middle else _Sample(frames, time, flows_in_middle(flows, time))
            if middle == wants_middle or tried >= TRIES:
                return other
        return other or self._scene(height, width)

    def _crop(self, frames: np.ndarray, height: int, width: int) -> np.ndarray:
        """The place with more motion of two: most of most frames stands still, and what moves most is past finding."""
        random = self._random
        most = LARGEST if random.random() < ENLARGED else 1.0
        # Never less than it takes to fill the crop.
        least = max(height / frames.shape[1], width / frames.shape[2], 1.0)
        scale = least * random.uniform(1, max(1, most / least))
        rows, columns = math.floor(height / scale), math.floor(width / scale)
        places = [
            (int(random.integers(frames.shape[1] - rows + 1)), int(random.integers(frames.shape[2] - columns + 1)))
            for _ in range(2)
        ]
        change = np.abs(frames[-1, ::4, ::4].astype(np.int16) - frames[0, ::4, ::4]).sum(axis=-1)
        top, left = max(
            places,
            key=lambda p: change[p[0] // 4 : (p[0] + rows) // 4, p[1] // 4 : (p[1] + columns) // 4].sum(),
        )
        crops = frames[:, top : top + rows, left : left + columns]
        if (rows, columns) == (height, width):
            return crops
        return np.stack([cv2.resize(crop, (width, height), interpolation=cv2.INTER_CUBIC) for crop in crops])

    def _turned(self, frames: np.ndarray) -> np.ndarray:
        """Flipped, and transposed where that keeps the shape."""
        random = self._random
        if random.random() < 0.5:
            frames = frames[:, ::-1]
        if random.random() < 0.5:
            frames = frames[:, :, ::-1]
        if frames.shape[1] == frames.shape[2] and random.random() < 0.5:
            frames = frames.transpose(0, 2, 1, 3)
        return np.ascontiguousarray(frames)

    def _coloured(self, frames: np.ndarray) -> np.ndarray:
        """uint8 [3, h, w, 3] -> float32 [3, 3, h, w], 0..1, all three frames changed alike."""
        random = self._random
        coloured = frames.transpose(0, 3, 1, 2).astype(np.float32) / 255
        if random.random() < 0.5:
            coloured = coloured[:, random.permutation(3)]
        gamma, gain = random.uniform(0.8, 1.25), random.uniform(0.85, 1.1)
        return np.clip(gain * coloured**gamma, 0, 1, dtype=np.float32)


def _firsts(clip: Clip) -> dict[int, list[int]]:
    """By span: the first frames of windows with motion in one shot; spans that the clip has none of are left out."""
    found = {
        span: [first for first in range(len(clip.frames) - span) if clip.moves(first, first + span)]
        for span in sorted(set(SPANS))
    }
    return {span: firsts for span, firsts in found.items() if firsts}
