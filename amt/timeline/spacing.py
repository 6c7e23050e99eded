"""How the frames of the output are spread over the gaps between given pictures, by length in place of a factor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from .plan import End

_LENGTH = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|sec|seconds?|f|frames?)?", re.IGNORECASE)

MOST_FRAMES = 1_000_000
"""What a typing error asks for is refused before anything is made."""


def gap_count(pictures: int, end: End) -> int:
    """How many gaps the pictures have: with a loop or a held end, the last one has a gap of its own."""
    return pictures - 1 if end == "stop" else pictures


def even_positions(pictures: int, frames: int, end: End) -> list[Fraction]:
    """The positions of `frames` frames that are evenly spread over all pictures.

    They begin at the first picture and, where the end is to stop, end at the last one.
    """
    if frames < 1:
        raise ValueError(f"expected at least one frame, got {frames}")
    steps = frames - 1 if end == "stop" else frames
    gaps = gap_count(pictures, end)
    return [Fraction(gaps * k, max(steps, 1)) for k in range(frames)]


def gap_positions(lengths: Sequence[int], end: End) -> list[Fraction]:
    """The positions where gap i has lengths[i] frames, the picture that it begins with counted in."""
    positions = [gap + Fraction(k, length) for gap, length in enumerate(lengths) for k in range(length)]
    return [*positions, Fraction(len(lengths))] if end == "stop" else positions


def gap_lengths(text: str, gaps: int, rate: Fraction | None) -> list[int]:
    """Reads "2 s, 0.5 s, 12 frames": for every gap its length in frames. One length alone is that of every gap.

    rate: frames a second of the result, which lengths in seconds need. Seconds are rounded where they add up, so that
    no error grows along the list. Raises ValueError.
    """
    parts = [part.strip() for part in re.split(r"[,;\n]", text) if part.strip()]
    if len(parts) == 1:
        parts *= gaps
    if len(parts) != gaps:
        raise ValueError(f"expected one length, or {gaps}, one for every gap; got {len(parts)}: {text.strip()}")
    end, shown = Fraction(0), 0
    lengths: list[int] = []
    for part in parts:
        found = _LENGTH.fullmatch(part)
        if not found:
            raise ValueError(f'expected lengths like "2 s" or "12 frames", got "{part}"')
        value, in_frames = Fraction(found[1]), (found[2] or "s").lower().startswith("f")
        if not in_frames and rate is None:
            raise ValueError(f'expected the frame rate of the result, which "{part}" needs, or lengths in frames')
        if in_frames and value.denominator > 1:
            raise ValueError(f'expected a whole number of frames, got "{part}"')
        end += value if in_frames or rate is None else value * rate
        length = round(end) - shown
        if length < 1:
            raise ValueError(f'expected at least one frame a gap; at this frame rate "{part}" is less')
        if end > MOST_FRAMES:
            raise ValueError(f"expected up to {MOST_FRAMES} frames in all, got more by {text.strip()}")
        shown += length
        lengths.append(length)
    return lengths
