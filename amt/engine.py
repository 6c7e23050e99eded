"""Carries out a timeline: takes source frames as they come and yields the output's frames in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import TypeVar, cast

import torch
from torch import Tensor

from .interpolator import AnyTimeInterpolator, Interpolator
from .out_of_memory import PairTooLargeError, is_out_of_memory
from .requests import Frame, Request, batched, made_frames, timestep_of
from .timeline import dyadic_times
from .timeline.sources import Gap, Source, as_sources
from .transfer import Done, Download, to_bytes, transfer_for
from .transparency import Backdrop, is_transparent

HALF = Fraction(1, 2)
MOST_HELD = 32
"""How many made frames may wait for frames before them, where several pairs are open at once."""

T = TypeVar("T")


class NotFiniteError(RuntimeError):
    """The network gave NaN or infinite pixels."""

    def __init__(self) -> None:
        super().__init__(
            "the network gave pixels that are not finite numbers. With precision fp16 or bf16, load the model with "
            "precision fp32; if it is fp32 already, the checkpoint is damaged."
        )


def _nothing() -> None:
    pass


@dataclass
class Engine:
    """A network with what is needed to run it over frames."""

    network: Interpolator | AnyTimeInterpolator
    device: torch.device
    batch: int = 1
    """Pairs to give the network at once; halved, for good, when memory runs out."""
    before_call: Callable[[], None] = field(default=_nothing)
    """Called before each call of the network; what it raises ends the work."""
    free_memory: Callable[[], None] = field(default=_nothing)
    """Called after memory ran out, before the next try."""
    begin_part: Callable[[], None] = field(default=_nothing)
    """Called before the first pair of each part of the output (`timeline.segments`) but the first: what the network
    carries from pair to pair ends here."""
    as_bytes: bool = False
    """Whether made frames are uint8, a quarter of the bytes to move from the device."""

    def __post_init__(self) -> None:
        self._transfer = transfer_for(self.device)
        self._calls = 0

    def run(self, frames: Iterable[Tensor], positions: Iterable[Fraction]) -> Iterator[Tensor]:
        """Yields the frame at each position, with motion between all frames; see `interpolate`."""
        return self.interpolate(as_sources(frames), positions)

    def interpolate(self, sources: Iterable[Source], positions: Iterable[Fraction]) -> Iterator[Tensor]:
        """Yields the frame at each position, in order. Where there is no motion in a gap, the nearer frame is held.

        sources: frames [h, w, c], float 0..1 or uint8, c >= 3, all of one size; taken no earlier than needed.
        positions: ascending, from 0; those behind the last source are left out.
        A position that is a source frame yields that very tensor; others yield new ones, float32 or uint8, on the CPU.
        Raises PairTooLargeError, NotFiniteError, and whatever the network or `before_call` raises.
        """
        backdrop: list[Backdrop] = []
        waiting: deque[tuple[int, Download]] = deque()
        for frame in self._made(self._items(sources, iter(positions), backdrop)):
            waiting.append((self._calls, self._shown(frame, *backdrop)))
            # A device that still works on a frame is given the next call first: it does not wait for the host.
            while waiting and (waiting[0][0] < self._calls or len(waiting) > MOST_HELD or waiting[0][1].is_done()):
                yield _on_host(waiting.popleft()[1])
        while waiting:
            yield _on_host(waiting.popleft()[1])

    def between(self, frame0: Tensor, frame1: Tensor, times: Sequence[Fraction]) -> Iterator[Tensor]:
        """Yields the frames at these times between two, ascending: [1, c, h, w] padded and on the network's device."""
        size = (frame0.shape[2], frame0.shape[3])
        request = Request(Frame(frame0, size), Frame(frame1, size), tuple(times))
        for frame in self._made(self._askable(request)):
            _check(frame.finite)
            yield frame.padded

    def _items(
        self, sources: Iterable[Source], positions: Iterator[Fraction], backdrop: list[Backdrop]
    ) -> Iterator[Frame | Request | None]:
        """Source frames to show and requests for frames between them, in the output's order; None between parts.

        backdrop: gets the one that frames are laid over, from the first transparent one on.
        """
        position = next(positions, None)
        last = None
        for source in sources:
            if position is None:
                return
            if not backdrop and is_transparent(source.frame):
                backdrop.append(Backdrop.for_frame(source.frame))
            frame = self._prepare(source.frame, *backdrop)
            if last is not None:
                start, frame0 = last
                times: list[Fraction] = []
                while position is not None and position < source.position:
                    times.append((position - start) / (source.position - start))
                    position = next(positions, None)
                if source.gap is Gap.MOTION:
                    yield from self._askable(Request(frame0, frame, tuple(times)))
                else:
                    yield from (frame0 if time <= HALF else frame for time in times)
                if source.begins_part:
                    yield None
            while position == source.position:
                yield frame
                position = next(positions, None)
            last = source.position, frame

    def _prepare(self, source: Tensor, backdrop: Backdrop | None = None) -> Frame:
        frame = self._transfer.upload(source).permute(2, 0, 1)[None]
        frame = frame.float() if source.is_floating_point() else frame.float() / 255
        frame = backdrop.put_behind(frame) if backdrop else frame
        return Frame(self.network.padding.pad(frame).contiguous(), (source.shape[0], source.shape[1]), source)

    def _shown(self, frame: Frame, backdrop: Backdrop | None = None) -> Download:
        if frame.source is not None:
            return Done([frame.source])
        made = backdrop.take_away(frame.padded) if backdrop else frame.padded
        made = self.network.padding.crop(made[0], frame.size).permute(1, 2, 0)
        assert frame.finite is not None
        return self._transfer.download(to_bytes(made) if self.as_bytes else made, frame.finite)

    def _askable(self, request: Request) -> Iterator[Frame | Request]:
        """The request with times that the network can be asked for: any, or those that halvings lead to."""
        times = request.times
        if not self.network.any_time:
            times = tuple(dyadic_times(times))
        inner = tuple(time for time in times if 0 < time < 1)
        yield from [request.frame0] * times.count(Fraction(0))
        if inner:
            yield Request(request.frame0, request.frame1, inner)
        yield from [request.frame1] * times.count(Fraction(1))

    def _made(self, items: Iterable[Frame | Request | None]) -> Iterator[Frame]:
        """The items, with frames in the place of requests."""
        for group in self._groups(items):
            yield from self._at_exact_times(group) if self.network.any_time else self._by_halving(group)

    def _groups(self, items: Iterable[Frame | Request | None]) -> Iterator[list[Frame | Request]]:
        """Runs of items with up to `batch` requests, all of one part."""
        group: list[Frame | Request] = []
        requests = 0
        for item in items:
            if item is None:
                yield group
                group, requests = [], 0
                self.begin_part()
                continue
            group.append(item)
            requests += isinstance(item, Request)
            if requests >= self.batch:
                yield group
                group, requests = [], 0
        if group:
            yield group

    # Any time: each pair is opened once.

    def _at_exact_times(self, group: Sequence[Frame | Request]) -> Iterator[Frame]:
        made = self._frames([item for item in group if isinstance(item, Request)])
        for item in group:
            if isinstance(item, Request):
                yield from islice(made, len(item.times))
            else:
                yield item

    def _frames(self, requests: list[Request]) -> Iterator[Frame]:
        """The frames of all requests, one request after the other."""
        while requests:
            longest = max(len(request.times) for request in requests[: self.batch])
            part = requests[: max(1, min(self.batch, MOST_HELD // longest))]
            steps = self._steps(part)
            made: list[list[Frame]] = []
            while step := self._unless_out_of_memory(lambda steps=steps: next(steps, [])):
                if len(part) == 1:
                    yield from step  # At once: a pair may be asked for hundreds of frames.
                else:
                    made.append(step)
            if step is None:
                self._use_less_memory(part)
                continue
            for index, request in enumerate(part):
                yield from (step[index] for step in made[: len(request.times)])
            requests = requests[len(part) :]

    def _steps(self, requests: Sequence[Request]) -> Iterator[list[Frame]]:
        """The frames at the first time of each request, then those at the second times, and so on.

        A request that has no more times gives its last frame again.
        """
        network = cast(AnyTimeInterpolator, self.network)
        pair = None
        for index in range(max(len(request.times) for request in requests)):
            times = [request.times[min(index, len(request.times) - 1)] for request in requests]
            self._begin_call()
            with torch.inference_mode():
                if index == 0:
                    pair = network.open_pair(*batched(requests))
                made = network.frame_at(pair, timestep_of(times))
            yield made_frames(made, requests)

    # The middle alone: each request is halved, and its halves are requests again.

    def _by_halving(self, group: Sequence[Frame | Request]) -> Iterator[Frame]:
        """Halves all requests of the group at once, and goes on with the parts of that, depth first.

        That way a pair with n halvings to go holds about n * batch frames, not 2^n.
        """
        middles = iter(self._middles([item for item in group if isinstance(item, Request)]))
        parts: list[Frame | Request] = []
        for item in group:
            parts += self._halves(item, next(middles)) if isinstance(item, Request) else [item]
        if any(isinstance(part, Request) for part in parts):
            yield from self._made(parts)
        else:
            yield from (part for part in parts if isinstance(part, Frame))

    def _halves(self, request: Request, middle: Frame) -> list[Frame | Request]:
        before = tuple(2 * time for time in request.times if time < HALF)
        after = tuple(2 * time - 1 for time in request.times if time > HALF)
        parts: list[Frame | Request] = []
        if before:
            parts.append(Request(request.frame0, middle, before))
        parts += [middle] * request.times.count(HALF)
        if after:
            parts.append(Request(middle, request.frame1, after))
        return parts

    def _middles(self, requests: Sequence[Request]) -> list[Frame]:
        network = cast(Interpolator, self.network)
        made: list[Frame] = []

        @torch.inference_mode()
        def call(part: Sequence[Request]) -> list[Frame]:
            return made_frames(network(*batched(part), timestep_of([HALF] * len(part))), part)

        while len(made) < len(requests):
            part = requests[len(made) : len(made) + self.batch]
            self._begin_call()
            frames = self._unless_out_of_memory(lambda part=part: call(part))
            if frames is None:
                self._use_less_memory(part)
            else:
                made += frames
        return made

    def _begin_call(self) -> None:
        self.before_call()
        self._calls += 1

    # Memory

    def _unless_out_of_memory(self, work: Callable[[], T]) -> T | None:
        """What the work gives; None where memory ran out."""
        try:
            return work()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the except block, where the error no longer holds the tensors of the work.
        self.free_memory()
        return None

    def _use_less_memory(self, part: Sequence[Request]) -> None:
        """Halves the batch after memory ran out for this many requests. Raises PairTooLargeError where it was one."""
        if len(part) == 1:
            height, width = part[0].frame0.padded.shape[-2:]
            raise PairTooLargeError(height, width, self.device)
        self.batch = len(part) // 2


def _on_host(shown: Download) -> Tensor:
    """Raises NotFiniteError."""
    frame, *finite = shown.wait()
    _check(*finite)
    return frame


def _check(finite: Tensor | None = None) -> None:
    if finite is not None and not bool(finite):
        raise NotFiniteError
