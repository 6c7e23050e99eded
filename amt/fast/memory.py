"""How much memory a network takes."""

from __future__ import annotations

import torch

from ..network.config import Config
from ..network.correlation import CHANNELS as CORRELATION_CHANNELS
from .bands import DECODER_HALO, largest_band, merge_halo, update_halo
from .choose import choose_operations

FLOAT32 = 4


def memory_used(config: Config, size: tuple[int, int], *, batch: int, device: torch.device, dtype: torch.dtype) -> int:
    """About how many bytes a call of the fast network takes at its peak, above its inputs and its weights.

    size: (height, width) of the padded frames.
    Counted is what is large, in the phases that may be the largest; measured peaks of what tensors take are within a
    quarter of it. On a CPU the process keeps more than its tensors take: the holes between them.
    """
    height, width = size
    item = dtype.itemsize
    band_bytes = choose_operations(device).band_bytes

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
    channels = 3 * c2
    activation = item * channels / 16 * share(channels, 4, DECODER_HALO)
    level2 = contexts + maps + features2 + max(5 * activation, 2 * activation + warped2)
    update2 = contexts + looked_up + max(maps + looked_up / 4 + features1 / 3, features1)
    if config.full_scale_updates:
        channels = max(config.update.correlation, config.update.hidden)
        activation = item * channels / 4 * share(16 * channels, 8, update_halo(4))
        update2 = max(update2, contexts + looked_up + 2 / 3 * features1 + 4 * activation)
    channels = 3 * c1
    part = share(channels, 2, DECODER_HALO + merge_halo(config))
    activation = item * channels / 4 * part
    merge = (18 * FLOAT32 + 10 * item) * config.fields * part
    level1 = features1 + 7 * FLOAT32 + max(5 * activation, 2 * activation + warped1, merge)
    return int(batch * height * width * max(encoders, level2, update2, level1))
