"""Video Helper Suite's meta batch: each run of the workflow gets a part of the frames of a long clip.

Its manager is one object for all runs of a clip. It counts the runs in the prompt ("requeue"). Its dictionary `inputs`
has a tuple for each node id, and is emptied when a new clip begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..amt.timeline import End

MetaBatch = io.Custom("VHS_BatchManager")


@dataclass(frozen=True)
class Made:
    """What a node has made of a clip, over all batches."""

    frames: int = 0
    seconds: float = 0
    """How long it worked."""
    batches: int = 0


class BatchInClip:
    """Where a batch lies in its clip: which frames came before it, and whether others follow. Without a manager, the
    batch is the whole clip.

    Raises:
        TypeError: `manager` is no meta batch manager.
        ValueError: the frames before this batch are not known any more.
    """

    def __init__(self, manager: Any, node_id: Any, prompt: Any, end: End) -> None:
        self._manager, self._node_id = manager, node_id
        self.frames_before = 0
        """How many of the clip's frames the earlier batches had."""
        self.end: End = end
        """What follows the last frame of this batch."""
        self.first_frame: Tensor | None = None
        """The clip's first frame, if an earlier batch had it."""
        self._last_frame_before: Tensor | None = None
        self.made = Made()
        """Of the earlier batches."""
        self.goes_on = False
        """Whether other batches follow."""
        if manager is None:
            return
        try:
            self._run = int(prompt[str(manager.unique_id)]["inputs"].get("requeue", 0))
            kept = manager.inputs.get(node_id)
            if not manager.has_closed_inputs:
                self.end = "stop"
                self.goes_on = True
        except (AttributeError, KeyError, TypeError) as error:
            raise TypeError(
                f"meta_batch: expected Video Helper Suite's Meta Batch Manager, got {type(manager).__name__} "
                f"({error!r}). Connect the manager itself, or nothing."
            ) from None
        if self._run:
            if not isinstance(kept, tuple) or kept[0] != self._run - 1:
                raise ValueError(
                    "meta_batch: the last frame of the batch before is not known any more. Queue the workflow again."
                )
            _, self.frames_before, self.first_frame, self._last_frame_before, self.made = kept

    def with_last_frame_before(self, images: Tensor) -> Iterable[Tensor]:
        """The last frame of the batch before, where there was one, and then the frames of this batch."""
        return chain([] if self._last_frame_before is None else [self._last_frame_before], images)

    def remember(self, images: Tensor, made: Made) -> None:
        """Keeps what the next batch needs. Call it when this batch is done: an interrupted run must change nothing.

        made: with this batch.
        """
        if self._manager is not None:
            first = images[0] if self.first_frame is None else self.first_frame
            kept = (self._run, self.frames_before + len(images), first.clone(), images[-1].clone(), made)
            self._manager.inputs[self._node_id] = kept
