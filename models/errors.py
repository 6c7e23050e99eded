"""What can be wrong with a checkpoint. Every message names the file, what was expected and what to do."""

from __future__ import annotations

from ..printable import printable


class CheckpointError(Exception):
    """No checkpoint could be had; the message is for the person who runs the workflow.

    It may name files and tensors, and repeat what a server says, so it is made printable.
    """

    # ComfyUI shows the name of the class before the message, and the module, too, if it is not this one.
    __module__ = "builtins"

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, 8192))

    def __init_subclass__(cls) -> None:
        cls.__module__ = CheckpointError.__module__


class CheckpointNotFoundError(CheckpointError):
    """No file of that name is there, or it is there no more."""


class NotACheckpointError(CheckpointError):
    """The file is empty, a web page, a Git LFS pointer or of some other kind."""


class DamagedCheckpointError(CheckpointError):
    """The file is cut short or contradicts itself."""


class WrongArchitectureError(CheckpointError):
    """The file holds another network."""


class WrongTensorsError(CheckpointError):
    """An AMT network with tensors missing, left over, or of other shapes or types."""


class NonFiniteWeightsError(CheckpointError):
    """Weights that are NaN or infinite."""


class WrongDigestError(CheckpointError):
    """The file is not the published one of that name."""


class DownloadError(CheckpointError):
    """The file could not be fetched; nothing was kept."""


class OfflineError(DownloadError):
    """huggingface_hub is in offline mode."""


class NotPublishedError(DownloadError):
    """The hub has no such file, or does not give it out."""


class DiskFullError(DownloadError):
    """No room in the destination folder."""
