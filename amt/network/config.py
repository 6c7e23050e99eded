"""The three published configurations: S, L and G differ in numbers, and G has two more updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class UpdateWidths:
    """Channels inside an update block (docs/network.md, section 5)."""

    hidden: int
    flow: int
    correlation: int
    """Of `convc1`."""
    correlation2: int | None
    """Of `convc2`, where there is one."""
    motion: int
    """Of `conv`, which joins correlation and flow."""


@dataclass(frozen=True)
class Config:
    """The numbers in which the configurations differ."""

    name: str
    feature_block: Literal["bottleneck", "basic"]
    """The residual blocks of the feature encoder."""
    feature_widths: tuple[int, int, int, int]
    """Channels of the feature encoder's conv1, layer1, layer2 and layer3."""
    feature_extra_layer: bool
    """Whether a further layer of layer3's width follows (G)."""
    feature_channels: int
    """Channels of the features that are correlated."""
    context_widths: tuple[int, int, int, int]
    """Channels of the context features, from the finest level to the coarsest."""
    context_first_kernel: int
    side: int
    """Side channels of the decoders' residual blocks."""
    update: UpdateWidths
    full_scale_updates: bool
    """Whether a second update follows at the full scale of the two finer levels (G)."""
    fields: int
    """Flow fields of the last level."""
    merge_kernel: int


S = Config(
    name="AMT-S",
    feature_block="bottleneck",
    feature_widths=(32, 32, 64, 96),
    feature_extra_layer=False,
    feature_channels=84,
    context_widths=(20, 32, 44, 56),
    context_first_kernel=3,
    side=20,
    update=UpdateWidths(hidden=76, flow=20, correlation=64, correlation2=None, motion=68),
    full_scale_updates=False,
    fields=3,
    merge_kernel=3,
)
L = Config(
    name="AMT-L",
    feature_block="basic",
    feature_widths=(64, 64, 72, 128),
    feature_extra_layer=False,
    feature_channels=128,
    context_widths=(48, 64, 72, 128),
    context_first_kernel=7,
    side=48,
    update=UpdateWidths(hidden=128, flow=48, correlation=256, correlation2=160, motion=124),
    full_scale_updates=False,
    fields=5,
    merge_kernel=7,
)
G = Config(
    name="AMT-G",
    feature_block="basic",
    feature_widths=(64, 64, 112, 160),
    feature_extra_layer=True,
    feature_channels=128,
    context_widths=(84, 96, 112, 128),
    context_first_kernel=7,
    side=84,
    update=UpdateWidths(hidden=192, flow=64, correlation=256, correlation2=192, motion=188),
    full_scale_updates=True,
    fields=5,
    merge_kernel=7,
)
