"""The parts of a forward pass that devices want in different ways, as plain PyTorch: right on every device."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..network.correlation import Correlation
from ..network.decoders import Decoder
from ..network.encoders import ContextEncoder, FeatureEncoder
from ..network.model import Contexts, Motion
from .bands import without_rows
from .lookups import gpu_correlation
from .tiles import TiledCorrelation

MIB = 2**20


class Operations:
    """What `FastAMT` does its work with. Other devices' operations give the same numbers, within rounding.

    No value on the device decides what is done, and as few operations as possible do it: below 1080p a fast GPU has
    done one sooner than Python asks for the next.
    """

    def __init__(self, device: torch.device, *, band_bytes: int = 256 * MIB) -> None:
        """band_bytes: how large the widest activation of a band may be.

        By default it is large: a GPU wants much work at once, and its allocator keeps memory.
        """
        self.band_bytes = band_bytes
        self.memory_format = fast_format(device)
        # Apple's MPS can't clamp positions to the border by itself.
        self._clamps = device.type == "mps"

    def correlation(self, fmap0: Tensor, fmap1: Tensor) -> Correlation:
        """Lookups in the correlation of two feature maps [b, c, h, w]."""
        if fmap0.device.type == "cpu":
            return TiledCorrelation(fmap0, fmap1, chunk_bytes=6 * MIB)
        return gpu_correlation(fmap0, fmap1)

    def features(self, encoder: FeatureEncoder, frames: Tensor) -> Tensor:
        """Features to correlate of frames [n, 3, h, w]; as many at once as a band may take, as nothing takes more."""
        size_of_one = encoder.conv1.out_channels * frames[0, 0].nbytes // 4
        features = [self._features(encoder, some) for some in frames.split(max(1, self.band_bytes // size_of_one))]
        return features[0] if len(features) == 1 else torch.cat(features)

    def _features(self, encoder: FeatureEncoder, frames: Tensor) -> Tensor:
        return encoder(frames)

    def contexts(self, encoder: ContextEncoder, frames: Tensor) -> tuple[Contexts, Contexts]:
        """Context features of the first and of the second half of frames [2b, 3, h, w]."""
        context1, context2, context3, context4 = (level.chunk(2) for level in encoder(frames))
        contexts0, contexts1 = zip(context1, context2, context3, context4, strict=True)
        return contexts0, contexts1

    def decode(self, decoder: Decoder, x: Tensor, above: int, below: int) -> Tensor:
        """decoder(x) without what comes of the first `above` and the last `below` rows of x."""
        return without_rows(decoder(x), 2 * above, 2 * below)

    def combine(self, block: nn.Sequential, colours: Tensor) -> Tensor:
        """The last convolutions, on the candidates' colours."""
        return block(colours)

    def decoder_input(self, feature: Tensor, context0: Tensor, context1: Tensor, flow: Tensor, top: int) -> Tensor:
        """As in `network.model`; feature and flow are the rows of their level from `top` on."""
        b, channels, rows, width = feature.shape
        parts = (channels, context0.shape[1], context1.shape[1], flow.shape[1])
        shape = (b, sum(parts), rows, width)
        result = torch.empty(shape, dtype=feature.dtype, device=feature.device, memory_format=self.memory_format)
        places = result.split(parts, dim=1)
        # A copy brings each into its place, its memory format and its precision at once.
        places[0].copy_(feature)
        places[3].copy_(flow)
        position = self._position(flow.unflatten(1, (2, 2)), context0.shape[2], top)
        places[1].copy_(self._sample(context0, position[:, 0]))
        places[2].copy_(self._sample(context1, position[:, 1]))
        return result

    def fields(self, decoded: Tensor, flow: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Flows, mask and residual of `Motion`, of what the last decoder gives and the flow pair [b, 4, h, w]."""
        fields = decoded.shape[1] // 8
        deltas, mask, residual = decoded.split((4 * fields, fields, 3 * fields), dim=1)
        flows = flow.new_empty(len(flow), 2, fields, 2, *flow.shape[2:])
        torch.add(deltas.unflatten(1, (2, fields, 2)), flow.unflatten(1, (2, 1, 2)), out=flows)
        mask = mask.to(torch.float32, memory_format=torch.contiguous_format).sigmoid_()
        return flows[:, 0], flows[:, 1], mask[:, :, None], residual.unflatten(1, (fields, 3))

    def merge(self, combine: nn.Sequential, frame0: Tensor, frame1: Tensor, motion: Motion, top: int) -> Tensor:
        """`AMT.merge` for the frame's rows from `top` on, as far as the motion reaches, not clamped to 0..1."""

        def warp(frame: Tensor, flow: Tensor) -> Tensor:
            # With the fields one below the other, all are sampled at once: [b, c, fields, rows, w].
            position = self._position(flow, frame.shape[2], top)
            return self._sample(frame, position.flatten(1, 2)).unflatten(2, position.shape[1:3])

        candidates = warp(frame1, motion.flow1)
        candidates.lerp_(warp(frame0, motion.flow0), motion.mask.transpose(1, 2))
        colours = candidates[:, :3].transpose(1, 2).add_(motion.residual)
        merged = candidates.mean(dim=2)
        weight = next(combine.parameters())
        shape = (len(colours), weight.shape[1], *colours.shape[3:])
        gathered = torch.empty(shape, dtype=weight.dtype, device=weight.device, memory_format=self.memory_format)
        correction = self.combine(combine, gathered.unflatten(1, colours.shape[1:3]).copy_(colours).flatten(1, 2))
        merged[:, :3] += correction
        return merged

    def _position(self, flow: Tensor, height: int, top: int) -> Tensor:
        """Where flows [b, n, 2, rows, w], of an image's rows from `top` on, point to: [b, n, rows, w, 2].

        height: of the image. Positions are those of `grid_sample`: from -1 to 1.
        """
        b, n, _, rows, width = flow.shape
        position = flow.new_empty(b, n, rows, width, 2)
        x = torch.linspace(-1, 1, width, device=flow.device)
        y = torch.linspace(-1, 1, height, device=flow.device)[top : top + rows, None]
        torch.add(x, flow[:, :, 0], alpha=2 / max(width - 1, 1), out=position[..., 0])
        torch.add(y, flow[:, :, 1], alpha=2 / max(height - 1, 1), out=position[..., 1])
        return position

    def _sample(self, image: Tensor, position: Tensor) -> Tensor:
        """image [b, c, h, w] at position [b, rows, w, 2], clamped to the border, in float32 whatever the image is.

        At 1080p, half precision would place samples a whole pixel off.
        """
        if self._clamps:
            return functional.grid_sample(image.float(), position.clamp(-1, 1), align_corners=True)
        return functional.grid_sample(image.float(), position, padding_mode="border", align_corners=True)


def fast_format(device: torch.device) -> torch.memory_format:
    """What convolutions are 1.3 to 4 times as fast with: channels last. On Apple's MPS that was not tried.

    ROCm takes no notice of it unless told to.
    """
    rocm_minds = torch.version.hip is None or os.environ.get("PYTORCH_MIOPEN_SUGGEST_NHWC") == "1"
    wanted = device.type == "cpu" or (device.type != "mps" and rocm_minds)
    return torch.channels_last if wanted else torch.contiguous_format


def weights_format() -> torch.memory_format:
    """The same for weights, before it is known where they will be: for the GPU that this PyTorch is for."""
    return fast_format(torch.device("mps" if torch.backends.mps.is_available() else "cuda"))
