"""Which checkpoints there are, and where."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath

from ..printable import printable
from .catalogue import BUNDLED, BUNDLED_FOLDER, PUBLISHED, Record, by_name
from .errors import CheckpointNotFoundError

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")


def list_checkpoints(folders: Sequence[Path], *, bundled: Path = BUNDLED_FOLDER / BUNDLED.name) -> list[str]:
    """Names for a menu, the default first: the bundled checkpoint if it is there, the published ones whether or not
    they are, then all other files of weights, each relative to its folder with "/" between subfolders.

    A name that is in several folders is listed once. Folders that do not exist are passed over.
    """
    names = [bundled.name] if bundled.is_file() else []
    names += [record.name for record in PUBLISHED]
    found = {name for folder in folders for name in _files(folder)}
    return names + sorted(found.difference(names, [bundled.name]), key=lambda name: (name.casefold(), name))


def find_checkpoint(
    name: str, folders: Sequence[Path], *, bundled: Path = BUNDLED_FOLDER / BUNDLED.name
) -> Path | Record:
    """The file of that name, in the first folder that has it; or the record of a published one that is to be
    downloaded.

    Raises CheckpointNotFoundError where there is neither, and for names that lead out of the folders.
    """
    relative = _relative(name)
    if name == bundled.name and bundled.is_file():
        return bundled
    for folder in folders:
        path = folder / relative
        if path.is_file():
            return path
    if record := by_name(name, PUBLISHED):
        return record
    places = ", ".join(str(folder) for folder in folders) or "no folder"
    raise CheckpointNotFoundError(
        f"There is no checkpoint {printable(repr(name), 200)} (any more). Looked in {places}. "
        "Put the file back, or refresh the list of models (R) and choose another."
    )


def _files(folder: Path) -> Iterator[str]:
    seen: set[str] = set()
    # Links are followed: models often live on another disk. A link back up would be walked forever, hence `seen`.
    for place, subfolders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for file in files:
            if not file.startswith(".") and file.lower().endswith(SUFFIXES) and "\\" not in file:
                yield Path(place, file).relative_to(folder).as_posix()


def _relative(name: str) -> str:
    """The name as a path below a folder. It comes from a workflow, which may come from anyone."""
    windows = PureWindowsPath(name)  # knows both separators, drives and shares
    if not name or "\0" in name or windows.anchor or windows.drive or ".." in windows.parts:
        raise CheckpointNotFoundError(
            f"{printable(repr(name), 200)} is no checkpoint's name: expected one relative to the folders of models, "
            "such as amt-s.pth or mine/finetuned.safetensors. Choose one from the list."
        )
    if not name.lower().endswith(SUFFIXES):
        raise CheckpointNotFoundError(
            f"{printable(repr(name), 200)} is no checkpoint's name: expected one that ends in {', '.join(SUFFIXES)}. "
            "Choose one from the list."
        )
    return windows.as_posix()
