"""Decoders, which refine flows from coarse to fine, and updates from correlation (specification section 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .bands import in_place_pays, without_rows
from .correlation import CHANNELS as CORRELATION_CHANNELS
from .encoders import PReLU, conv_prelu
from .sampling import resize, resize_flow


class ResidualBlock(nn.Module):
    """Five convolutions; the second and the fourth work on the last `side` channels alone."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.split = (channels - side, side)
        self.conv1 = conv_prelu(channels, channels)
        self.conv2 = conv_prelu(side, side)
        self.conv3 = conv_prelu(channels, channels)
        self.conv4 = conv_prelu(side, side)
        self.conv5 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.prelu = PReLU(channels)

    def forward(self, x: Tensor, cut: tuple[int, int] = (0, 0)) -> Tensor:
        """cut: 1 where each convolution is to leave out a row at the start, and one at the end."""
        result = self._on_side(self.conv2, without_rows(self.conv1(x), *cut), cut)
        result = self._on_side(self.conv4, without_rows(self.conv3(result), *cut), cut)
        above, below = cut
        return self.prelu(without_rows(self.conv5(result), *cut).add_(without_rows(x, 5 * above, 5 * below)))

    def _on_side(self, conv: nn.Module, x: Tensor, cut: tuple[int, int]) -> Tensor:
        main, side = x.split(self.split, dim=1)
        result = without_rows(conv(side), *cut)
        if not in_place_pays():
            return torch.cat((without_rows(main, *cut), result), dim=1)
        without_rows(side, *cut).copy_(result)
        return without_rows(x, *cut)


class Decoder(nn.Module):
    """Doubles the resolution of its input."""

    halo = 7
    """How many rows of its input further a row of the output sees: six 3x3 convolutions and a transposed one."""

    def __init__(self, in_channels: int, channels: int, out_channels: int, *, side: int) -> None:
        super().__init__()
        self.channels = channels
        self.convblock = nn.Sequential(
            conv_prelu(in_channels, channels),
            ResidualBlock(channels, side),
            nn.ConvTranspose2d(channels, out_channels, 4, 2, 1),
        )

    def forward(self, x: Tensor, above: int = 0, below: int = 0) -> Tensor:
        """above, below: how many rows of x, at its start and its end, to leave out of the result."""
        first, block, last = self.convblock
        # Of a whole halo, every convolution uses up a row.
        cut = int(above >= self.halo), int(below >= self.halo)
        result = last(block(without_rows(first(x), *cut), cut))
        return without_rows(result, 2 * (above - 6 * cut[0]), 2 * (below - 6 * cut[1]))


@dataclass(frozen=True)
class UpdateWidths:
    """Channels inside an update block."""

    hidden: int
    flow: int
    correlation: int
    """Of `convc1`."""
    correlation2: int | None
    """Of `convc2`, where there is one."""
    motion: int
    """Of `conv`, which joins correlation and flow."""


class UpdateBlock(nn.Module):
    """Corrects a feature and its flow pair by what the correlation around the flows' ends says."""

    def __init__(
        self, feature_channels: int, widths: UpdateWidths, *, scale: int = 1, correlation_scale: int = 1
    ) -> None:
        """scale: how many times finer the feature is than the grid that the block works on.

        correlation_scale: how many times coarser the correlation is than that grid (AMT-G's full-scale updates).
        """
        super().__init__()
        self.scale = scale
        self.correlation_scale = correlation_scale
        self.channels = max(widths.correlation, widths.hidden)
        self.halo = -(-9 // correlation_scale) + 1
        """How many rows of the correlation further a row of the deltas sees, where they are at full scale: a 7x7 and
        six 3x3 convolutions of the flow, or the enlargement of the correlation and fewer."""
        hidden = widths.hidden
        self.convc1 = nn.Conv2d(CORRELATION_CHANNELS, widths.correlation, 1)
        self.convc2 = nn.Conv2d(widths.correlation, widths.correlation2, 3, 1, 1) if widths.correlation2 else None
        self.convf1 = nn.Conv2d(4, 2 * widths.flow, 7, 1, 3)
        self.convf2 = nn.Conv2d(2 * widths.flow, widths.flow, 3, 1, 1)
        self.conv = nn.Conv2d((widths.correlation2 or widths.correlation) + widths.flow, widths.motion, 3, 1, 1)
        # "gru" is the checkpoints' name for it; nothing in it is recurrent.
        self.gru = _two_convs(widths.motion + 4 + feature_channels, hidden, hidden)
        self.feat_head = _two_convs(hidden, hidden, feature_channels)
        self.flow_head = _two_convs(hidden, hidden, 4)

    def forward(self, feature: Tensor, flow: Tensor, correlation: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what to add to the feature and, float32, to the flow pair, both at the feature's resolution.

        flow: [flow0, flow1], 4 channels, on the grid that the block works on.
        """
        flow = flow.to(feature.dtype)
        # convc1 is 1x1, so it may go before the enlargement: fewer channels to enlarge, the same result.
        corr = _leaky(resize(self.convc1(correlation.to(feature.dtype)), self.correlation_scale))
        if self.convc2 is not None:
            corr = _leaky(self.convc2(corr))
        motion = _leaky(self.convf2(_leaky(self.convf1(flow))))
        motion = _leaky(self.conv(torch.cat((corr, motion), dim=1)))
        hidden = self.gru(torch.cat((motion, flow, resize(feature, 1 / self.scale)), dim=1))
        return resize(self.feat_head(hidden), self.scale), resize_flow(self.flow_head(hidden).float(), self.scale)


def _two_convs(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 3, 1, 1),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(hidden, out_channels, 3, 1, 1),
    )


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu_(x, 0.1)
