"""The checkpoints this pack knows, as data.

Digests were collected from public listings, not from the files themselves; `confirmations` counts the
independent ones, and what a mismatch means depends on it (see `Record.pinned`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..amt.network import Config, G, L, S


@dataclass(frozen=True)
class Accuracy:
    """A published figure."""

    dataset: str
    psnr: float
    """Decibels."""
    ssim: float | None
    source: str


@dataclass(frozen=True)
class Record:
    """One checkpoint."""

    name: str
    """File name, in every folder and on the hub."""
    config: Config
    any_time: bool
    """Trained for every time between two frames, or for the middle (0.5) alone."""
    licence: str
    source: str
    """Who made it, and where it is described."""
    trained_on: str
    repo: str | None
    """Repository on Hugging Face; None: comes with the pack."""
    revision: str = "main"
    bytes: int | None = None
    sha256: str | None = None
    confirmations: int = 0
    """Independent sources that give this digest."""
    accuracy: tuple[Accuracy, ...] = ()

    @property
    def url(self) -> str | None:
        """Where a person can download it."""
        return f"https://huggingface.co/{self.repo}/resolve/{self.revision}/{self.name}" if self.repo else None

    @property
    def facts(self) -> str:
        """What a person should know before it is downloaded: its size and its licence."""
        size = f"{self.bytes / 1e6:.1f} MB" if self.bytes else "size not known"
        return f"{self.name} ({size}, {self.licence})"

    @property
    def pinned(self) -> bool:
        """Whether the digest is certain enough to refuse another file of this name."""
        return self.sha256 is not None and (self.repo is None or self.confirmations >= 2)


_AUTHORS = "the paper's authors, https://github.com/MCG-NKU/AMT"
_REPO = "lalala125/AMT"
_LICENCE = "CC BY-NC 4.0"
_METHOD = "https://github.com/MCG-NKU/AMT/blob/main/docs/method.md"
_SECOND_HAND = "a later paper's table, quoted second-hand"

BUNDLED = Record(
    name="amt-s-open.safetensors",
    config=S,
    any_time=False,
    licence="Apache-2.0",
    source="this project",
    trained_on="MIT-licensed clips",
    repo=None,
    bytes=6_001_566,
    sha256="ea5f77d291d76842cb222a5368773fa466f6c7a37022d7ae3d565e227a9c03ff",
)
"""Trained by this project; lies beside this file once it is there."""

PUBLISHED = (
    Record(
        name="amt-s.pth",
        config=S,
        any_time=False,
        licence=_LICENCE,
        source=_AUTHORS,
        trained_on="Vimeo90K triplets",
        repo=_REPO,
        bytes=12_038_359,
        sha256="07e7e03405c213fe4405678db9b42d05671e48c56faf6a441b99bb0047d3cf77",
        confirmations=3,
        accuracy=(
            Accuracy("Vimeo90K", 35.97, None, _METHOD),
            Accuracy("SNU-FILM Hard", 30.60, None, _METHOD),
            Accuracy("SNU-FILM Extreme", 25.30, None, _METHOD),
        ),
    ),
    Record(
        name="amt-l.pth",
        config=L,
        any_time=False,
        licence=_LICENCE,
        source=_AUTHORS,
        trained_on="Vimeo90K triplets",
        repo=_REPO,
        bytes=51_816_419,
        sha256="985a3569f6e9e27d1a45a96ed02518cff9cf5cbee49c88193a84afbd8cf264f3",
        confirmations=1,
        accuracy=(
            Accuracy("Vimeo90K", 36.35, 0.9815, _SECOND_HAND),
            Accuracy("UCF101", 35.39, 0.9698, _SECOND_HAND),
            Accuracy("SNU-FILM Easy", 39.95, 0.9913, _SECOND_HAND),
            Accuracy("SNU-FILM Medium", 36.09, 0.9805, _SECOND_HAND),
            Accuracy("SNU-FILM Hard", 30.75, 0.9384, _SECOND_HAND),
            Accuracy("SNU-FILM Extreme", 25.41, 0.8638, _SECOND_HAND),
        ),
    ),
    Record(
        name="amt-g.pth",
        config=G,
        any_time=False,
        licence=_LICENCE,
        source=_AUTHORS,
        trained_on="Vimeo90K triplets",
        repo=_REPO,
        bytes=122_649_595,
        sha256="a39af8744e8e6db16ebd29cb3dd09596fae38f360d8bb024288b3fe468256d07",
        confirmations=1,
        # UCF101 is left out: two secondary sources disagree on it.
        accuracy=(
            Accuracy("Vimeo90K", 36.53, 0.9817, _SECOND_HAND),
            Accuracy("SNU-FILM Easy", 39.88, 0.9913, _SECOND_HAND),
            Accuracy("SNU-FILM Medium", 36.12, 0.9805, _SECOND_HAND),
            Accuracy("SNU-FILM Hard", 30.78, 0.9385, _SECOND_HAND),
            Accuracy("SNU-FILM Extreme", 25.43, 0.8644, _SECOND_HAND),
        ),
    ),
    Record(
        name="gopro_amt-s.pth",
        config=S,
        any_time=True,
        licence=_LICENCE,
        source=_AUTHORS,
        trained_on="GoPro",
        repo=_REPO,
    ),
)

CATALOGUE = (BUNDLED, *PUBLISHED)

BUNDLED_FOLDER = Path(__file__).parent


def by_name(name: str, records: Iterable[Record] = CATALOGUE) -> Record | None:
    return next((record for record in records if record.name == name), None)


def by_digest(sha256: str, records: Iterable[Record] = CATALOGUE) -> Record | None:
    return next((record for record in records if record.sha256 == sha256), None)
