"""Video Helper Suite's meta batch: a long clip, a part of its frames in each run of the workflow.

Its manager is one object for all runs of a clip. It numbers the runs in the prompt ("requeue"), and its `inputs` are
emptied when a new clip begins; they hold tuples by node id.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..amt.timeline import End

MetaBatch = io.Custom("VHS_BatchManager")


class Seam:
    """What a node needs of the frames before its own, and whether any follow. Without a manager: none and none.

    Raises:
        TypeError: that is no manager.
        ValueError: the frames before are not known.
    """

    def __init__(self, manager: Any, node_id: Any, prompt: Any, end: End) -> None:
        self._manager, self._node_id = manager, node_id
        self.seen = 0
        """How many of the clip's frames were there before."""
        self.end: End = end
        """What follows the last frame of this part."""
        self.beginning: Tensor | None = None
        """The clip's first frame, where that was there before."""
        self._last: Tensor | None = None
        if manager is None:
            return
        try:
            self._run = int(prompt[str(manager.unique_id)]["inputs"].get("requeue", 0))
            kept = manager.inputs.get(node_id)
            if not manager.has_closed_inputs:
                self.end = "stop"
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
            _, self.seen, self.beginning, self._last = kept

    def joined(self, images: Tensor) -> Iterable[Tensor]:
        """The frames, with the one before them."""
        return chain([] if self._last is None else [self._last], images)

    def keep(self, images: Tensor) -> None:
        """For the next part; called when this one is done."""
        if self._manager is not None:
            beginning = images[0] if self.beginning is None else self.beginning
            kept = (self._run, self.seen + len(images), beginning.clone(), images[-1].clone())
            self._manager.inputs[self._node_id] = kept
