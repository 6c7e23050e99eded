"""Sound at the speed of the picture: as long as that, with its pitch kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain, pairwise
from typing import cast

import av
import av.filter
import numpy as np
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as NothingMore

from ..amt.timeline.curve import SpeedCurve
from .samples import PACKED, audio_frame, samples_of, silence

STEP = Fraction(1, 20)
"""Seconds of sound that are heard at one speed; then it may change."""
NOTICEABLE = 1e-3
"""A change of the speed by less is not worth a command."""


def at_speed(pieces: Iterable[np.ndarray], curve: SpeedCurve | None, rate: int, layout: str) -> Iterator[np.ndarray]:
    """What is heard when the sound follows the curve; None is as fast as it is.

    pieces: float32 [samples, channels]. The result ends when the curve shows what the last sample belongs to, or up
    to a tenth of a second later where the speed falls suddenly.
    """
    if curve is None:
        yield from pieces
        return
    speed = float(curve.keys[0].speed)
    # One filter goes down to half the speed, so slower sound takes a row of them.
    slowest, fastest = (float(most(key.speed for key in curve.keys)) for most in (min, max))
    filters = max(1, math.ceil(-math.log2(slowest)))
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate, format=PACKED, layout=layout, time_base=Fraction(1, rate))
    tempos = [graph.add("atempo", _tempo(speed, filters)) for _ in range(filters)]
    row = [source, *tempos, graph.add("aformat", f"sample_fmts={PACKED}"), graph.add("abuffersink")]
    for step, following in pairwise(row):
        step.link_to(following)
    graph.configure()
    taken = given = 0
    heard = wanted = 0.0
    for piece in chain(_regrouped(pieces, int(STEP * rate)), [None]):
        frame = None
        if piece is not None:
            # The filter fails where so few samples come that it would give none of them.
            padding = max(0, math.ceil(fastest) - len(piece))
            frame = audio_frame(np.pad(piece, ((0, padding), (0, 0))), rate, layout)
            frame.pts = taken
            taken += len(piece)
            heard, wanted = wanted, curve.output_time(Fraction(taken, rate))
            # Times are known to a microsecond, so the speed of a few samples can come out beyond the curve's.
            new_speed = min(max(len(piece) / rate / (wanted - heard), slowest), fastest) if wanted > heard else speed
            if abs(new_speed / speed - 1) > NOTICEABLE:
                speed = new_speed
                for tempo in tempos:
                    tempo.process_command("tempo", _tempo(speed, filters))
        source.push(frame)
        with suppress(NothingYet, NothingMore):
            while True:
                made = samples_of(cast(av.AudioFrame, row[-1].pull()))
                # Only at the end is it known how many there should be: before, the filters may be a little ahead.
                made = made if piece is not None else made[: max(0, round(wanted * rate) - given)]
                given += len(made)
                if len(made):  # no encoder takes a frame without samples
                    yield made
    yield from silence(round(wanted * rate) - given, rate, layout)  # the filters swallow a little at the end


def _tempo(speed: float, filters: int) -> str:
    return f"{speed ** (1 / filters):.6f}"


def _regrouped(pieces: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples in pieces of this size; the last one may be shorter."""
    held: list[np.ndarray] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) >= size:
            joined = np.concatenate(held)
            whole = len(joined) // size * size
            yield from np.split(joined[:whole], whole // size)
            held = [joined[whole:]]
    if sum(map(len, held)):
        yield np.concatenate(held)
