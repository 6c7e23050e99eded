"""Bad frames of a clip: named by number, left out of the sources, and so made anew out of the good ones around them.

The engine makes whatever lies between two sources, however far apart they are. Repeated frames that are replaced
(`repeats`) are left out in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence

from .plan import End
from .sources import Source

EXAMPLE = "12, 40-43"
_RUN = re.compile(r"(\d{1,9})(?:\s*[-\N{EN DASH}]\s*(\d{1,9}))?")


def frame_runs(text: str) -> list[range]:
    """Reads "12, 40-43": numbers of frames, and runs of them with both ends. Raises ValueError."""
    runs: list[range] = []
    for part in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        found = _RUN.fullmatch(part)
        if not found:
            raise ValueError(f'expected numbers of frames, and runs of them, like "{EXAMPLE}", got "{part}"')
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise ValueError(f'expected runs from the lower number to the higher one, got "{part}"')
        runs.append(range(first, last + 1))
    return runs


def bad_frames(runs: Sequence[range], frames: int, end: End) -> frozenset[int]:
    """The frames of the runs, in a clip of so many frames.

    Raises ValueError where there is no such frame, or no good one to make it from.
    """
    for run in runs:
        if run[-1] >= frames:
            raise ValueError(f"expected frames from 0 to {frames - 1}, which there are, got {run[-1]}")
    bad = frozenset(number for run in runs for number in run)
    if 0 in bad:
        raise ValueError("frame 0 is the first one: there is none before it to make it from. Cut it off instead")
    if frames - 1 in bad and end != "loop":  # in a loop the first frame follows
        raise ValueError(
            f"frame {frames - 1} is the last one: there is none behind it to make it from. Cut it off instead"
        )
    return bad


def without(sources: Iterable[Source], bad: Container[int], first: int = 0) -> Iterator[Source]:
    """The sources but the bad ones. first: the number of the frame that has position 0."""
    return (source for source in sources if first + int(source.position) not in bad)
