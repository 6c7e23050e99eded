"""Motion found on smaller frames, and used at full size.

A network knows motion of the size that its training showed, and its cost grows with the pixels that it sees. So motion
is found on frames of a half or a quarter of the size where it is large; the frames themselves are warped and merged at
full size. Which scale suits a pair is told by the pair: how far things move, and at which scale the two frames, warped
to the middle, agree best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .any_time import MIDDLE, carry
from .fast.model import FastAMT
from .network.model import Motion
from .network.padding import Padding
from .network.sampling import warp
from .overlays import find_overlay, without

SCALES = (1, 2, 4)
"""Motion is found on frames of 1/scale of the size."""
SMALLEST = 448
"""Pixels of the longer side. Frames up to this are what the weights were trained on: their motion is found in full."""
LARGE = 9.0
"""Pixels between the frames. Motion above this is found better on smaller frames."""
DOUBT = 1.15
"""Small motion is found in full, unless the warped frames differ so many times as much as at half the size."""
COARSER = 0.9
"""A coarser scale has to agree so much better."""
STEADY = 1.2
"""The scale of the pair before is kept where the figures are within this factor, so that a clip does not pulse."""
COMPARED_AT = 4
"""Warped frames are compared at a quarter of the size: details are made by the frames, not by their motion."""


@dataclass(frozen=True)
class _Found:
    """The motion of some pairs of a batch, all at one scale."""

    samples: list[int]
    motion_at: Callable[[Tensor], Motion]
    """By timesteps, one for each of the pairs."""


class _Overlay(NamedTuple):
    """What stands still in front of the motion."""

    where: Tensor
    """[b, 1, h, w], 0 or 1."""
    still: Tensor
    """[b, c, h, w]."""


@dataclass
class OpenedPair:
    """Frames [b, c, h, w], and their motion. In full, and for the middle alone, it may never be needed."""

    frame0: Tensor
    frame1: Tensor
    overlay: _Overlay | None
    """It is not in the frames."""
    found: list[_Found] | None = None
    opened: Any = None
    """By the network itself, where that can be asked for any time and sees the frames in full."""


class ScaledAMT:
    """An AMT network whose motion is found at a scale: an `AnyTimeInterpolator`, or an `Interpolator` of the middle."""

    def __init__(self, network: FastAMT, scale: int | None = None, *, carried: bool = False) -> None:
        """scale: one of SCALES, or None for what suits each pair.

        carried: whether the motion of the middle is carried to other times; else `network.any_time` tells whether it
        can be asked for them.
        """
        self.network = network
        self.scale = scale
        self.carried = carried
        self.used: Counter[int] = Counter()
        """How many pairs had their motion found at which scale."""
        self._last: int | None = None

    @property
    def padding(self) -> Padding:
        return self.network.padding

    @property
    def any_time(self) -> bool:
        return self.carried or self.network.any_time

    def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        return self.frame_at(self.open_pair(frame0, frame1), timestep)

    def open_pair(self, frame0: Tensor, frame1: Tensor) -> OpenedPair:
        """Padded frames as `AMT.open_pair` takes them. Raises ValueError as that does."""
        frame0, frame1 = frame0.float(), frame1.float()
        overlay = None
        if (where := find_overlay(frame0, frame1)) is not None:
            overlay = _Overlay(where, (frame0 + frame1) / 2)
            frame0, frame1 = without(frame0, where), without(frame1, where)
        pair = OpenedPair(frame0, frame1, overlay)
        if self._scale_for(frame0) == 1:
            self.used[1] += len(frame0)
            if self.network.any_time and not self.carried:
                pair.opened = self.network.open_pair(frame0, frame1)
        else:
            pair.found = list(self._find(frame0, frame1))
        return pair

    def frame_at(self, pair: OpenedPair, timestep: Tensor) -> Tensor:
        """The frames [b, c, h, w] float32 at timesteps [b] or [1], which lie on the CPU."""
        made = self._moved(pair, timestep)
        return made if pair.overlay is None else torch.where(pair.overlay.where > 0, pair.overlay.still, made)

    def _moved(self, pair: OpenedPair, timestep: Tensor) -> Tensor:
        if pair.opened is not None:
            return self.network.frame_at(pair.opened, timestep)
        timestep = timestep.expand(len(pair.frame0))
        if pair.found is None:
            if self._is_middle(timestep):
                return self.network(pair.frame0, pair.frame1, timestep)
            everything = list(range(len(pair.frame0)))
            pair.found = [self._at(1, everything, pair.frame0, pair.frame1)]
        if len(pair.found) == 1:
            return self.network.merge(pair.frame0, pair.frame1, pair.found[0].motion_at(timestep))
        made = torch.empty_like(pair.frame0)
        for part in pair.found:
            motion = part.motion_at(timestep[part.samples])
            frame0, frame1 = pair.frame0[part.samples], pair.frame1[part.samples]
            made[part.samples] = self.network.merge(frame0, frame1, motion)
        return made

    def motion(self, frame0: Tensor, frame1: Tensor) -> Motion:
        """The motion in the middle of one pair, at full size."""
        pair = self.open_pair(frame0, frame1)
        (found,) = pair.found or [self._at(1, [0], pair.frame0, pair.frame1)]
        motion = found.motion_at(torch.tensor([MIDDLE]))
        return motion.enlarged(frame0.shape[-1] // motion.flow0.shape[-1])

    def memory_used(self, size: tuple[int, int], device: torch.device) -> int:
        """About how many bytes one pair of frames of (height, width) = size takes on the device."""
        height, width = size
        used = self.network.memory_used(size, device=device)
        # Motion that is carried is held whole: two flows, a mask and a residual for each field, in float32.
        return used + (8 * 4 * self.network.config.fields * height * width if self.carried else 0)

    def begin_part(self) -> None:
        """The next pair is judged as if it were the first."""
        self._last = None

    def _scale_for(self, frame: Tensor) -> int | None:
        return 1 if self.scale is None and max(frame.shape[-2:]) <= SMALLEST else self.scale

    def _is_middle(self, timestep: Tensor) -> bool:
        return timestep.device.type == "cpu" and bool((timestep == MIDDLE).all())

    def _find(self, frame0: Tensor, frame1: Tensor) -> Iterable[_Found]:
        everything = list(range(len(frame0)))
        if self.scale is not None:
            self.used[self.scale] += len(frame0)
            yield self._at(self.scale, everything, frame0, frame1)
            return
        found = {scale: self._at(scale, everything, frame0, frame1) for scale in SCALES[1:]}
        middles = {scale: _middle_of(part) for scale, part in found.items()}
        figures = torch.stack(
            [
                _way(middles[SCALES[-1]], SCALES[-1]),
                *(_disagreement(frame0, frame1, middles[scale], scale) for scale in SCALES[1:]),
            ]
        )
        small: list[int] = []
        chosen: list[int] = []
        # One look at numbers of the device for the whole batch, before the pixels are made.
        for sample, (way, half, quarter) in enumerate(figures.T.tolist()):
            scale = self._choose(way, half, quarter)
            chosen.append(scale)
            if scale == 1:
                small.append(sample)
        if small:
            full = self._at(1, small, frame0[small], frame1[small])
            differs = _disagreement(frame0[small], frame1[small], _middle_of(full), 1)
            kept = (differs <= DOUBT * figures[1][small]).tolist()
            samples = [sample for sample, keep in zip(small, kept, strict=True) if keep]
            for sample in set(small) - set(samples):
                chosen[sample] = 2
            if samples == small:
                found[1] = full
            elif samples:
                found[1] = self._at(1, samples, frame0[samples], frame1[samples])
        for scale in set(chosen):
            samples = [sample for sample in everything if chosen[sample] == scale]
            self.used[scale] += len(samples)
            part = found[scale]
            yield part if part.samples == samples else self._at(scale, samples, frame0[samples], frame1[samples])
        self._last = chosen[-1]

    def _choose(self, way: float, half: float, quarter: float) -> int:
        """The scale of a pair, by how far things move in pixels, and how the warped frames differ at two scales."""
        large, coarser = LARGE, COARSER
        if self.any_time and self._last is not None:  # halvings of a gap are no neighbours in time
            large *= STEADY if self._last == 1 else 1 / STEADY
            coarser *= STEADY if self._last == 4 else 1
        if way <= large:
            self._last = 1
        else:
            self._last = 4 if quarter < coarser * half else 2
        return self._last

    def _at(self, scale: int, samples: list[int], frame0: Tensor, frame1: Tensor) -> _Found:
        """Motion found on the frames at 1/scale of their size; its fields are of that size."""
        small0, small1 = (functional.avg_pool2d(frame[:, :3], scale) for frame in (frame0, frame1))
        size = (small0.shape[-2], small0.shape[-1])
        padding = self.network.padding
        opened = self.network.open_pair(padding.pad(small0), padding.pad(small1))

        def at(timestep: Tensor) -> Motion:
            return self.network.motion_at(opened, timestep).map(lambda field: padding.crop(field, size))

        if not self.carried:
            return _Found(samples, at)
        middle = at(torch.tensor([MIDDLE]).expand(len(frame0)))

        def carried(timestep: Tensor) -> Motion:
            timestep = self.network.check_timestep(timestep)
            return middle if self._is_middle(timestep) else carry(middle, timestep)

        return _Found(samples, carried)


def _middle_of(found: _Found) -> Motion:
    return found.motion_at(torch.full((len(found.samples),), MIDDLE))


def _way(motion: Motion, scale: int) -> Tensor:
    """How far the fastest fiftieth of the picture moves between the frames, [b], in pixels of the full size."""
    way = (motion.flow1 - motion.flow0).mean(dim=1).norm(dim=1, keepdim=True) * scale
    return functional.avg_pool2d(way, 2).flatten(1).quantile(0.98, dim=1)


def _disagreement(frame0: Tensor, frame1: Tensor, motion: Motion, scale: int) -> Tensor:
    """How much the two frames differ when both are warped to the middle, [b]."""
    warped: list[Tensor] = []
    for frame, flow in ((frame0, motion.flow0), (frame1, motion.flow1)):
        small = functional.avg_pool2d(frame[:, :3], COMPARED_AT)
        ratio = COMPARED_AT // scale
        warped.append(warp(small, functional.avg_pool2d(flow.mean(dim=1), ratio) / ratio))
    return (warped[0] - warped[1]).abs().mean(dim=(1, 2, 3))


def in_words(used: Counter[int]) -> str:
    """At which part of the size motion was found, for people; empty where it was found in full."""
    parts = " and ".join(f"1/{scale}" for scale in sorted(used) if scale > 1)
    if not parts:
        return ""
    return f"motion found at the full size and {parts} of it" if used[1] else f"motion found at {parts} of the size"
