"""Carries out a timeline: takes source frames as they come and yields the output's frames in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from .network.padding import Padding
from .out_of_memory import is_out_of_memory
from .timeline import dyadic
from .timeline.sources import Gap, Source, moving

HALF = Fraction(1, 2)


class Interpolator(Protocol):
    """A network, as the engine sees it."""

    @property
    def padding(self) -> Padding:
        """The sizes that it takes."""
        ...

    @property
    def any_time(self) -> bool:
        """Whether it may be asked for any timestep, or for 0.5 alone."""
        ...

    def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor, /) -> Tensor:
        """Padded frames [b, c, h, w] and timesteps [b] -> [b, c, h, w] float32."""
        ...


class PairTooLargeError(RuntimeError):
    """Not even one pair of frames fits into memory."""


class NotFiniteError(RuntimeError):
    """The network gave NaN or infinite pixels."""


@dataclass(frozen=True)
class _Frame:
    padded: Tensor
    """[1, c, h, w] on the network's device."""
    size: tuple[int, int]
    """(height, width) without the padding."""
    source: Tensor | None = None
    """The source frame that it was made of, which is what is shown."""


@dataclass(frozen=True)
class _Gap:
    frame0: _Frame
    frame1: _Frame
    times: tuple[Fraction, ...]
    """What is wanted between the two, ascending, 0 < time < 1."""


def _nothing() -> None:
    pass


@dataclass
class Engine:
    """A network with what is needed to run it over frames."""

    network: Interpolator
    device: torch.device
    batch: int = 1
    """Pairs to give the network at once; halved, for good, when memory runs out."""
    before_call: Callable[[], None] = field(default=_nothing)
    """Called before each call of the network; what it raises ends the work."""
    free_memory: Callable[[], None] = field(default=_nothing)
    """Called after memory ran out, before the next try."""

    def run(self, frames: Iterable[Tensor], positions: Iterable[Fraction]) -> Iterator[Tensor]:
        """Yields the frame at each position, in order, taking all gaps for motion; see `fill`."""
        return self.fill(moving(frames), positions)

    def fill(self, sources: Iterable[Source], positions: Iterable[Fraction]) -> Iterator[Tensor]:
        """Yields the frame at each position, in order. In a gap that is no motion, the nearer frame is held.

        sources: frames [h, w, c], float 0..1 or uint8, c >= 3, all of one size; taken no earlier than needed.
        positions: ascending, from 0; those behind the last source are left out.
        A position that is a source frame yields that very tensor; others yield new ones, float32, on the CPU.
        """
        for frame in self._fill(self._items(sources, iter(positions))):
            if frame.source is not None:
                yield frame.source
            else:
                yield self.network.padding.crop(frame.padded[0], frame.size).permute(1, 2, 0).cpu()

    def between(self, frame0: Tensor, frame1: Tensor, times: Sequence[Fraction]) -> Iterator[Tensor]:
        """Yields the frames at these times between two, ascending: [1, c, h, w] padded and on the network's device."""
        size = (frame0.shape[2], frame0.shape[3])
        gap = _Gap(_Frame(frame0, size), _Frame(frame1, size), tuple(times))
        for frame in self._fill(self._requests(gap)):
            yield frame.padded

    def _items(self, sources: Iterable[Source], positions: Iterator[Fraction]) -> Iterator[_Frame | _Gap]:
        """Source frames to show and gaps to fill, in the output's order."""
        position = next(positions, None)
        last = None
        for source in sources:
            if position is None:
                return
            frame = self._prepare(source.frame)
            if last is not None:
                start, frame0 = last
                times: list[Fraction] = []
                while position is not None and position < source.position:
                    times.append((position - start) / (source.position - start))
                    position = next(positions, None)
                if source.gap is Gap.MOTION:
                    yield from self._requests(_Gap(frame0, frame, tuple(times)))
                else:
                    yield from (frame0 if time <= HALF else frame for time in times)
            while position == source.position:
                yield frame
                position = next(positions, None)
            last = source.position, frame

    def _prepare(self, source: Tensor) -> _Frame:
        frame = source.to(self.device).permute(2, 0, 1)[None]
        frame = frame.float() if source.is_floating_point() else frame.float() / 255
        return _Frame(self.network.padding.pad(frame).contiguous(), (source.shape[0], source.shape[1]), source)

    def _requests(self, gap: _Gap) -> Iterator[_Frame | _Gap]:
        """The gap in the form that the network can be asked in."""
        if self.network.any_time:
            for time in gap.times:
                yield _Gap(gap.frame0, gap.frame1, (time,))
            return
        times = [dyadic(time) for time in gap.times]
        inner = tuple(time for time in times if 0 < time < 1)
        yield from [gap.frame0] * times.count(Fraction(0))
        if inner:
            yield _Gap(gap.frame0, gap.frame1, inner)
        yield from [gap.frame1] * times.count(Fraction(1))

    def _fill(self, items: Iterable[_Frame | _Gap]) -> Iterator[_Frame]:
        """Puts frames in the place of gaps: halves up to `batch` gaps at once, then the halves of those, depth first.

        That way a pair with n passes to go holds about n * batch frames, not 2^n.
        """
        for group in self._groups(items):
            gaps = [item for item in group if isinstance(item, _Gap)]
            made = iter(self._make(gaps))
            parts: list[_Frame | _Gap] = []
            for item in group:
                parts += self._halves(item, next(made)) if isinstance(item, _Gap) else [item]
            if any(isinstance(part, _Gap) for part in parts):
                yield from self._fill(parts)
            else:
                yield from (part for part in parts if isinstance(part, _Frame))

    def _groups(self, items: Iterable[_Frame | _Gap]) -> Iterator[list[_Frame | _Gap]]:
        group: list[_Frame | _Gap] = []
        gaps = 0
        for item in items:
            group.append(item)
            gaps += isinstance(item, _Gap)
            if gaps >= self.batch:
                yield group
                group, gaps = [], 0
        if group:
            yield group

    def _halves(self, gap: _Gap, made: _Frame) -> list[_Frame | _Gap]:
        if self.network.any_time:
            return [made]
        before = tuple(2 * time for time in gap.times if time < HALF)
        after = tuple(2 * time - 1 for time in gap.times if time > HALF)
        parts: list[_Frame | _Gap] = []
        if before:
            parts.append(_Gap(gap.frame0, made, before))
        parts += [made] * gap.times.count(HALF)
        if after:
            parts.append(_Gap(made, gap.frame1, after))
        return parts

    def _make(self, gaps: Sequence[_Gap]) -> list[_Frame]:
        made: list[_Frame] = []
        while len(made) < len(gaps):
            self.before_call()
            part = gaps[len(made) : len(made) + self.batch]
            try:
                made += self._call(part)
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the except block, where the error no longer holds the failed call's tensors.
            self.free_memory()
            if len(part) == 1:
                height, width = part[0].frame0.padded.shape[-2:]
                raise PairTooLargeError(
                    f"a pair of frames of {width} x {height} pixels does not fit into the memory of {self.device}. "
                    "Make the frames smaller, close what else uses that memory, use AMT-S or half precision, "
                    "or start ComfyUI with --cpu."
                )
            self.batch = len(part) // 2
        return made

    @torch.inference_mode()
    def _call(self, gaps: Sequence[_Gap]) -> list[_Frame]:
        frame0 = torch.cat([gap.frame0.padded for gap in gaps])
        frame1 = torch.cat([gap.frame1.padded for gap in gaps])
        times = [gap.times[0] if self.network.any_time else HALF for gap in gaps]
        timestep = torch.tensor([float(time) for time in times], device=self.device)
        made = self.network(frame0, frame1, timestep)
        if not bool(made.isfinite().all()):
            raise NotFiniteError(
                "the network gave pixels that are not finite numbers. With precision fp16 or bf16, load the model with "
                "precision fp32; if it is fp32 already, the checkpoint is damaged."
            )
        return [_Frame(frame, gap.frame0.size) for frame, gap in zip(made.split(1), gaps, strict=True)]
