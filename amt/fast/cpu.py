"""The operations for CPUs, where fresh memory and full caches cost more than arithmetic.

Most of it is in place, and in parts that caches hold. It is for inference alone: gradients need what is overwritten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..network.decoders import Decoder, SideResidualBlock
from ..network.encoders import ContextEncoder, FeatureEncoder, ResidualBlock
from ..network.model import Contexts
from .bands import DECODER_CONVOLUTIONS, DECODER_HALO, without_rows
from .operations import MIB, Operations


class CPUOperations(Operations):
    """`Operations` that read and write little memory."""

    BAND_BYTES = 12 * MIB
    """Small: a CPU spends as long on the first touch of 60 MB as on a 3x3 convolution of it."""
    PART_BYTES = BAND_BYTES // 8
    """Of an activation, so that what is computed of a part stays in caches."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device, band_bytes=self.BAND_BYTES)

    def features(self, encoder: FeatureEncoder, frames: Tensor) -> Tensor:
        return torch.cat([self._features(encoder, frame) for frame in frames.split(1)])

    def _features(self, encoder: FeatureEncoder, frame: Tensor) -> Tensor:
        x = self._normalise(encoder.conv1(frame), functional.relu_)
        for block in encoder.blocks:
            x = self._residual_block(block, x)
        return encoder.conv2(x)

    def _residual_block(self, block: ResidualBlock, x: Tensor) -> Tensor:
        branch = x
        for conv in block.branch:
            branch = self._normalise(conv(branch), functional.relu_)
        skip = x if block.downsample is None else self._normalise(block.downsample[0](x))
        return skip.add_(branch).relu_()

    def contexts(self, encoder: ContextEncoder, frames: Tensor) -> tuple[Contexts, Contexts]:
        contexts0, contexts1 = (self._contexts(encoder, some) for some in frames.chunk(2))
        return contexts0, contexts1

    def _contexts(self, encoder: ContextEncoder, frames: Tensor) -> Contexts:
        context1 = self._sequence(encoder.pyramid1, frames)
        context2 = self._sequence(encoder.pyramid2, context1)
        context3 = self._sequence(encoder.pyramid3, context2)
        return context1, context2, context3, self._sequence(encoder.pyramid4, context3)

    def decode(self, decoder: Decoder, x: Tensor, above: int, below: int) -> Tensor:
        first, block, last = cast(tuple[nn.Sequential, SideResidualBlock, nn.Module], tuple(decoder.convblock))
        # Each convolution uses up a row of a whole halo. A halo is smaller at the frame's border alone.
        cut = int(above >= DECODER_HALO), int(below >= DECODER_HALO)
        x = without_rows(self._sequence(first, x), *cut)
        x = self._side_block(block, x, cut)
        x = last(x)
        above, below = above - DECODER_CONVOLUTIONS * cut[0], below - DECODER_CONVOLUTIONS * cut[1]
        return without_rows(x, 2 * above, 2 * below)

    def _side_block(self, block: SideResidualBlock, x: Tensor, cut: tuple[int, int]) -> Tensor:
        """cut: 1 where each convolution is to leave out a row at the start, and 1 where a row at the end."""

        def on_side(conv: nn.Sequential, x: Tensor) -> Tensor:
            side = x[:, block.split[0] :]
            result = without_rows(self._sequence(conv, side), *cut)
            without_rows(side, *cut).copy_(result)
            return without_rows(x, *cut)

        result = on_side(block.conv2, without_rows(self._sequence(block.conv1, x), *cut))
        result = on_side(block.conv4, without_rows(self._sequence(block.conv3, result), *cut))
        skip = without_rows(x, 5 * cut[0], 5 * cut[1])
        return self._prelu(without_rows(block.conv5(result), *cut).add_(skip), block.prelu.weight)

    def decoder_input(self, feature: Tensor, context0: Tensor, context1: Tensor, flow: Tensor, top: int) -> Tensor:
        position = self._position(flow.unflatten(1, (2, 2)), context0.shape[2], top)
        warped0, warped1 = (self._sample(c, position[:, i]) for i, c in enumerate((context0, context1)))
        # Copies from one layout to the other are fastest whole.
        parts = (feature, warped0.to(feature.dtype), warped1.to(feature.dtype), flow.to(feature.dtype))
        return torch.cat([part.contiguous(memory_format=self.memory_format) for part in parts], dim=1)

    def combine(self, block: nn.Sequential, colours: Tensor) -> Tensor:
        return self._sequence(block, colours)

    def fields(self, decoded: Tensor, flow: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return super().fields(self._channels_first(decoded.float()), flow)

    def _channels_first(self, x: Tensor) -> Tensor:
        # As transpositions of matrices that caches hold, this is 8 times as fast as `contiguous()`.
        result = torch.empty_like(x, memory_format=torch.contiguous_format)
        for one, its_result in zip(x, result, strict=True):
            pixels = its_result.flatten(1).split(8192, dim=1)
            for part, its_pixels in zip(one.permute(1, 2, 0).flatten(0, 1).split(8192), pixels, strict=True):
                its_pixels.copy_(part.T)
        return result

    def _sample(self, image: Tensor, position: Tensor) -> Tensor:
        if len(image) > 1:
            return super()._sample(image, position)
        # On CPUs, PyTorch samples every image of a batch with one thread: make a batch of it.
        _, height, width, _ = position.shape
        pieces = math.gcd(height * width, 16)
        sampled = super()._sample(image.expand(pieces, -1, -1, -1), position.reshape(pieces, 1, -1, 2))
        return sampled.transpose(0, 1).reshape(1, -1, height, width)

    def _sequence(self, layers: nn.Sequential, x: Tensor) -> Tensor:
        """layers(x), with PReLUs in place."""
        for layer in layers:
            if isinstance(layer, nn.PReLU):
                x = self._prelu(x, layer.weight)
            else:
                x = self._sequence(layer, x) if isinstance(layer, nn.Sequential) else layer(x)
        return x

    def _prelu(self, x: Tensor, weight: Tensor) -> Tensor:
        for part in self._parts(x):
            part.copy_(functional.prelu(part, weight))
        return x

    def _normalise(self, x: Tensor, then: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        """Instance norm in place, then another function in place.

        In two passes: a tenth of PyTorch's time. Summed are the differences from the first part's mean: they are
        small, so their squares stay exact.
        """
        pixels = x.shape[2] * x.shape[3]
        parts = self._parts(x)
        pilot = _sums(parts[0].float()) / parts[0][0, 0].numel()
        total, squares = torch.zeros_like(pilot), torch.zeros_like(pilot)
        for part in parts:
            difference = part.float() - pilot
            total += _sums(difference)
            squares += _sums(difference.square_())
        mean, variance = pilot + total / pixels, (squares / pixels - (total / pixels).square()).clamp_(min=0)
        mean, scale = mean.to(x.dtype), (variance + 1e-5).rsqrt().to(x.dtype)
        for part in parts:
            then(part.sub_(mean).mul_(scale))
        return x

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """Bands of x [b, c, h, w], views, so small that what is computed of one stays in caches."""
        row_bytes = x[:, :, 0].numel() * x.element_size()
        return x.split(max(1, self.PART_BYTES // row_bytes), dim=2)


def _sums(x: Tensor) -> Tensor:
    """Of every channel: [b, c, h, w] -> [b, c, 1, 1]."""
    # Where channels come last, a product of matrices is several times as fast as a sum.
    rows = x.new_ones(1, x.shape[3]) @ x.permute(0, 2, 3, 1)
    return rows.sum(dim=1)[..., None].transpose(1, 2)
