"""How much memory a network takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .bands import largest_band, suitable_band_bytes
from .correlation import CHANNELS as CORRELATION_CHANNELS

if TYPE_CHECKING:
    from .network import AMT

FLOAT32 = 4


def memory_used(network: AMT, size: tuple[int, int], *, batch: int = 1, device: torch.device | None = None) -> int:
    """About how many bytes a call of the network takes at its peak, above its inputs and its weights.

    size: (height, width) of the frames. device: where it will run, if not where the weights are now.
    Counted is what is large, in the phases that may be the largest; measured peaks of what tensors take are within a
    quarter of it. On a CPU the process keeps more than its tensors take: the holes between them.
    """
    height, width = network.padding.padded(size)
    config = network.config
    weight = next(network.parameters())
    item = weight.element_size()
    band_bytes = suitable_band_bytes(device or weight.device)

    def share(channels: int, scale: int, halo: int) -> float:
        """The part of the rows, at 1/scale of the resolution, that is worked on at once."""
        rows, row_bytes = height // scale, batch * channels * (width // scale) * item
        return largest_band(rows, row_bytes=row_bytes, band_bytes=band_bytes, halo=halo) / rows

    # All in bytes a pixel of the frames. First what lives through several phases.
    c1, c2, c3, c4 = config.context_widths
    contexts = 2 * item * (c1 / 4 + c2 / 16 + c3 / 64 + c4 / 256)
    maps = FLOAT32 * 5 * config.feature_channels / 64
    looked_up = FLOAT32 * CORRELATION_CHANNELS / 64
    features1, features2 = 3 * item * c1 / 4, 3 * item * c2 / 16
    # Warping makes float32 copies of half-precision contexts, one at a time.
    warped1, warped2 = (0, 0) if item == FLOAT32 else (FLOAT32 * c1 / 4, FLOAT32 * c2 / 16)

    encoders = 6 * item + 3 * item * config.feature_widths[0] / 4
    # A decoder has up to five activations of its width at once, two while its input is gathered; a full-scale update
    # four.
    channels = network.decoder2.channels
    activation = item * channels / 16 * share(channels, 4, network.decoder2.halo)
    level2 = contexts + maps + features2 + max(5 * activation, 2 * activation + warped2)
    update2 = contexts + looked_up + max(maps + looked_up / 4 + features1 / 3, features1)
    if config.full_scale_updates:
        block = network.update2_high
        activation = item * block.channels / 4 * share(16 * block.channels, 8, block.halo)
        update2 = max(update2, contexts + looked_up + 2 / 3 * features1 + 4 * activation)
    channels = network.decoder1.channels
    part = share(channels, 2, network.decoder1.halo + network.merge_halo)
    activation = item * channels / 4 * part
    merge = (18 * FLOAT32 + 10 * item) * config.fields * part
    level1 = features1 + 7 * FLOAT32 + max(5 * activation, 2 * activation + warped1, merge)
    return int(batch * height * width * max(encoders, level2, update2, level1))
