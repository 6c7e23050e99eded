"""The parts of a forward pass that devices want in different ways, as plain PyTorch: right on every device."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..network.correlation import Correlation
from ..network.decoders import Decoder
from ..network.encoders import ContextEncoder, FeatureEncoder
from .bands import without_rows
from .tiles import TiledCorrelation

MIB = 2**20


class Operations:
    """What `FastAMT` does its work with. Other devices' operations give the same numbers, within rounding."""

    def __init__(self, device: torch.device, *, band_bytes: int = 256 * MIB) -> None:
        """band_bytes: how large the widest activation of a band may be.

        By default it is large: a GPU wants much work at once, and its allocator keeps memory.
        """
        self.band_bytes = band_bytes
        # Convolutions are 1.3 to 4 times as fast with channels last. That was not tried on Apple's MPS.
        self.memory_format = torch.contiguous_format if device.type == "mps" else torch.channels_last

    def correlation(self, fmap0: Tensor, fmap1: Tensor) -> Correlation:
        """Lookups without a volume; see `choose` for which."""
        return TiledCorrelation(fmap0, fmap1, chunk_bytes=128 * MIB)

    def features(self, encoder: FeatureEncoder, frames: Tensor) -> Tensor:
        """Features to correlate of frames [b, 3, h, w], one frame after another: nothing takes as much memory."""
        return torch.cat([encoder(frame) for frame in frames.split(1)])

    def contexts(self, encoder: ContextEncoder, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return encoder(frames)

    def decode(self, decoder: Decoder, x: Tensor, above: int, below: int) -> Tensor:
        """decoder(x) without what comes of the first `above` and the last `below` rows of x."""
        return without_rows(decoder(x), 2 * above, 2 * below)

    def combine(self, block: nn.Sequential, colours: Tensor) -> Tensor:
        """The last convolutions, on the candidates' colours."""
        return block(colours)

    def channels_first(self, x: Tensor) -> Tensor:
        """x in contiguous memory."""
        return x.contiguous()

    def warp(self, image: Tensor, flow: Tensor, top: int = 0) -> Tensor:
        """`sampling.warp` for a band: flow [b, 2, rows, w] is for the image's rows from `top` on."""
        height, width = image.shape[-2:]
        scale_x, scale_y = 2 / max(width - 1, 1), 2 / max(height - 1, 1)
        x = torch.arange(flow.shape[3], device=flow.device, dtype=torch.float32) * scale_x - 1
        y = torch.arange(top, top + flow.shape[2], device=flow.device, dtype=torch.float32)[:, None] * scale_y - 1
        position = torch.stack(
            (torch.add(x, flow[:, 0], alpha=scale_x), torch.add(y, flow[:, 1], alpha=scale_y)), dim=-1
        )
        # Positions are clamped here, not by padding_mode="border", which Apple's MPS backend does not have.
        position = position.clamp_(-1, 1)
        # float32 whatever the image is: at 1080p half precision would place samples a whole pixel off.
        return self._sample(image.float(), position).to(image.dtype)

    def _sample(self, image: Tensor, position: Tensor) -> Tensor:
        return functional.grid_sample(image, position, align_corners=True)
