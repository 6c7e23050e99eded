"""What is looked for in the source frames before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from .plan import End
from .repeats import exact_repeats, without_repeats
from .sources import Source, closed, moving


@dataclass(frozen=True)
class Look:
    """A reading of source frames: where cuts and repeats are, and what follows the last."""

    end: End = "stop"
    cuts: Callable[[Iterable[Source]], Iterator[Source]] | None = None
    """Marks the cuts; None looks for none."""
    replace_repeats: bool = False
    """Whether frames that repeat the one before are dropped, for new ones in their place; held otherwise."""

    def __call__(self, frames: Iterable[Tensor], beginning: Tensor | None = None) -> Iterator[Source]:
        """beginning: the first frame of all, where that is not the first of these."""
        sources = moving(frames)
        if self.cuts:
            sources = self.cuts(sources)
        sources = without_repeats(sources) if self.replace_repeats else exact_repeats(sources)
        return closed(sources, self.end, beginning)
