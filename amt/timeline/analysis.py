"""Analyses the source frames before anything is made of them: cuts, repeated frames, and what follows the last one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from .plan import End
from .repair import without
from .repeats import exact_repeats, without_repeats
from .sources import Source, as_sources, with_end


@dataclass(frozen=True)
class SourceAnalysis:
    """What is looked for in the source frames. Called with frames, it gives them as sources."""

    end: End = "stop"
    """What follows the last frame."""
    cuts: Callable[[Iterable[Source]], Iterator[Source]] | None = None
    """Marks the cuts, as a `CutDetector` does. None: no cuts are looked for."""
    replace_repeats: bool = False
    """Whether frames that repeat the one before are dropped, so that new ones take their place; held otherwise."""
    bad: frozenset[int] = frozenset()
    """The numbers of frames that are dropped unseen, so that new ones take their place."""

    def __call__(self, frames: Iterable[Tensor], first_frame: Tensor | None = None, first: int = 0) -> Iterator[Source]:
        """The sources of frames [h, w, c], in order, taken a few ahead.

        first_frame: that of the whole clip, where these frames are a later part of it.
        first: the number of the first of these frames in the whole clip.
        """
        # A damaged frame resembles none of its neighbours: it would be taken for two cuts.
        sources = without(as_sources(frames), self.bad, first)
        if self.cuts:
            sources = self.cuts(sources)
        sources = with_end(sources, self.end, first_frame, {number - first for number in self.bad})
        # Behind the end: what leads back to the first frame also replaces repeats of the last one.
        return without_repeats(sources) if self.replace_repeats else exact_repeats(sources)
