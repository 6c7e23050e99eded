"""Motion found on smaller frames, and used at full size.

A network knows motion of the size that its training showed, and its cost grows with the pixels that it sees. So motion
is found on frames of a half and a quarter of the size too, and these are combined by how well the frames agree; the
frames themselves are warped and merged at full size. Large motion is not looked for in full: little of it is found
there.
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
from .combined_motion import combined, disagreement, reduced, shares, warped_picture
from .fast.model import FastAMT
from .network.model import Motion
from .network.padding import Padding
from .overlays import find_overlay, without

SCALES = (1, 2, 4)
"""Motion is found on frames of 1/scale of the size."""
SMALLEST = 448
"""Pixels of the longer side. Frames up to this are what the weights were trained on: their motion is found in full."""
FOUR_K = 2560
"""Pixels of the longer side. On frames from this on, motion is also looked for at an eighth of the size."""
REACH = {1: 16.0, 2: 112.0}
"""Pixels between the frames. Further motion is not looked for at these scales: they cost most, and find least of it."""
COMBINED, COMBINED_AT_TIMES = 3.3, 5
"""Times the motion of the whole frame in memory; the second where the network is asked for each time anew."""
STEADY = 1.2
"""The scales of the pair before are kept within this factor of their reach, so that a clip does not pulse."""


@dataclass(frozen=True)
class _Found:
    """The motion of some pairs of a batch, of one scale or of several combined."""

    samples: list[int]
    motion_at: Callable[[Tensor], Motion]
    """By timesteps, one for each of the pairs."""
    is_combined: bool = False


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
        """The largest scale of the pair before."""

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
        if self._scale_for(*frame0.shape[-2:]) == 1:
            self.used[1] += len(frame0)
            if self._is_asked_for_times:
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
            return self._picture(pair.frame0, pair.frame1, pair.found[0], timestep)
        made = torch.empty_like(pair.frame0)
        for part in pair.found:
            frame0, frame1 = pair.frame0[part.samples], pair.frame1[part.samples]
            made[part.samples] = self._picture(frame0, frame1, part, timestep[part.samples])
        return made

    def _picture(self, frame0: Tensor, frame1: Tensor, found: _Found, timestep: Tensor) -> Tensor:
        motion = found.motion_at(timestep)
        picture = self.network.merge(frame0, frame1, motion)
        if found.is_combined:
            picture = picture.add_(warped_picture(frame0, frame1, motion)).div_(2).clamp_(0, 1)
        return picture

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
        # Motion that is carried is held whole: two flows, a mask and a residual for each field, in float32. What is
        # combined is held beside what it is made of.
        held = 1 if self.carried else 0
        if self._scale_for(height, width) is None:
            held = COMBINED_AT_TIMES if self._is_asked_for_times else COMBINED
        return used + int(held * 8 * 4 * self.network.config.fields * height * width)

    @property
    def _is_asked_for_times(self) -> bool:
        """Whether the network finds the motion of each time itself."""
        return self.network.any_time and not self.carried

    def begin_part(self) -> None:
        """The next pair is judged as if it were the first."""
        self._last = None

    def _scale_for(self, height: int, width: int) -> int | None:
        return 1 if self.scale is None and max(height, width) <= SMALLEST else self.scale

    def _is_middle(self, timestep: Tensor) -> bool:
        return timestep.device.type == "cpu" and bool((timestep == MIDDLE).all())

    def _find(self, frame0: Tensor, frame1: Tensor) -> Iterable[_Found]:
        everything = list(range(len(frame0)))
        if self.scale is not None:
            self.used[self.scale] += len(frame0)
            yield self._at(self.scale, everything, frame0, frame1)
            return
        scales = SCALES if max(frame0.shape[-2:]) < FOUR_K else (*SCALES, 2 * SCALES[-1])
        coarsest = scales[-1]
        found = self._at(coarsest, everything, frame0, frame1)
        # One look at numbers of the device for the whole batch, before the pixels are made.
        chosen = [self._largest(way) for way in _way(_middle_of(found), coarsest).tolist()]
        for largest in sorted(set(chosen)):
            samples = [sample for sample in everything if chosen[sample] == largest]
            some0, some1, known = frame0, frame1, {coarsest: found}
            if samples != everything:
                some0, some1, known = frame0[samples], frame1[samples], {}
            wanted = scales[scales.index(largest) :]
            parts = {scale: known.get(scale) or self._at(scale, samples, some0, some1) for scale in wanted}
            for scale in parts:
                self.used[scale] += len(samples)
            yield self._combined(samples, some0, some1, parts)

    def _largest(self, way: float) -> int:
        """The largest scale to look at, by how far things move in pixels."""

        def reach(scale: int) -> float:
            if not self.any_time or self._last is None:  # halvings of a gap are no neighbours in time
                return REACH[scale]
            return REACH[scale] * (STEADY if self._last <= scale else 1 / STEADY)

        self._last = next((scale for scale in REACH if way <= reach(scale)), SCALES[-1])
        return self._last

    def _combined(self, samples: list[int], frame0: Tensor, frame1: Tensor, parts: dict[int, _Found]) -> _Found:
        middles = {scale: _middle_of(part) for scale, part in parts.items()}
        small0, small1 = reduced(frame0), reduced(frame1)
        counted = shares({scale: disagreement(small0, small1, found, scale) for scale, found in middles.items()})
        if not self._is_asked_for_times:
            return _Found(samples, self._carried(combined(middles, counted)), is_combined=True)

        def at(timestep: Tensor) -> Motion:
            return combined({scale: part.motion_at(timestep) for scale, part in parts.items()}, counted)

        return _Found(samples, at, is_combined=True)

    def _at(self, scale: int, samples: list[int], frame0: Tensor, frame1: Tensor) -> _Found:
        """Motion found on the frames at 1/scale of their size; its fields are of that size."""
        small0, small1 = (functional.avg_pool2d(frame[:, :3], scale) for frame in (frame0, frame1))
        size = (small0.shape[-2], small0.shape[-1])
        padding = self.network.padding
        opened = self.network.open_pair(padding.pad(small0), padding.pad(small1))

        def at(timestep: Tensor) -> Motion:
            return self.network.motion_at(opened, timestep).map(lambda field: padding.crop(field, size))

        found = _Found(samples, at)
        return _Found(samples, self._carried(_middle_of(found))) if self.carried else found

    def _carried(self, middle: Motion) -> Callable[[Tensor], Motion]:
        def at(timestep: Tensor) -> Motion:
            timestep = self.network.check_timestep(timestep)
            return middle if self._is_middle(timestep) else carry(middle, timestep)

        return at


def _middle_of(found: _Found) -> Motion:
    return found.motion_at(torch.full((len(found.samples),), MIDDLE))


def _way(motion: Motion, scale: int) -> Tensor:
    """How far the fastest fiftieth of the picture moves between the frames, [b], in pixels of the full size."""
    way = (motion.flow1 - motion.flow0).mean(dim=1).norm(dim=1, keepdim=True) * scale
    return functional.avg_pool2d(way, 2).flatten(1).quantile(0.98, dim=1)


def in_words(used: Counter[int]) -> str:
    """At which part of the size motion was found, for people; empty where it was found in full."""
    parts = " and ".join(f"1/{scale}" for scale in sorted(used) if scale > 1)
    if not parts:
        return ""
    return f"motion found at the full size and {parts} of it" if used[1] else f"motion found at {parts} of the size"
