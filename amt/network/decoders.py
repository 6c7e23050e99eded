"""Decoders, which refine flows from coarse to fine, and updates from correlation (docs/network.md, section 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import UpdateWidths
from .correlation import CHANNELS as CORRELATION_CHANNELS
from .encoders import conv_prelu
from .sampling import resize, resize_flow


class SideResidualBlock(nn.Module):
    """Five convolutions; the second and the fourth work on the last `side` channels alone."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.split = (channels - side, side)
        self.conv1 = conv_prelu(channels, channels)
        self.conv2 = conv_prelu(side, side)
        self.conv3 = conv_prelu(channels, channels)
        self.conv4 = conv_prelu(side, side)
        self.conv5 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        main, side = self.conv1(x).split(self.split, dim=1)
        both = torch.cat((main, self.conv2(side)), dim=1)
        main, side = self.conv3(both).split(self.split, dim=1)
        both = torch.cat((main, self.conv4(side)), dim=1)
        return self.prelu(x + self.conv5(both))


class Decoder(nn.Module):
    """Doubles the resolution of its input."""

    def __init__(self, in_channels: int, channels: int, out_channels: int, *, side: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            conv_prelu(in_channels, channels),
            SideResidualBlock(channels, side),
            nn.ConvTranspose2d(channels, out_channels, 4, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[b, in_channels, h, w] -> [b, out_channels, 2h, 2w]."""
        return self.convblock(x)


class UpdateBlock(nn.Module):
    """Corrects a feature and its flow pair by the correlation around the places that the flows point to."""

    def __init__(
        self, feature_channels: int, widths: UpdateWidths, *, scale: int = 1, correlation_scale: int = 1
    ) -> None:
        """scale: how many times finer the feature is than the grid that the block works on.

        correlation_scale: how many times coarser the correlation is than that grid (AMT-G's full-scale updates).
        """
        super().__init__()
        self.scale = scale
        self.correlation_scale = correlation_scale
        hidden = widths.hidden
        self.convc1 = nn.Conv2d(CORRELATION_CHANNELS, widths.correlation, 1)
        self.convc2 = nn.Conv2d(widths.correlation, widths.correlation2, 3, 1, 1) if widths.correlation2 else None
        self.convf1 = nn.Conv2d(4, 2 * widths.flow, 7, 1, 3)
        self.convf2 = nn.Conv2d(2 * widths.flow, widths.flow, 3, 1, 1)
        self.conv = nn.Conv2d((widths.correlation2 or widths.correlation) + widths.flow, widths.motion, 3, 1, 1)
        self.activation = nn.LeakyReLU(0.1, inplace=True)
        # The checkpoints call it "gru"; nothing in it is recurrent.
        self.gru = _two_convs(widths.motion + 4 + feature_channels, hidden, hidden)
        self.feat_head = _two_convs(hidden, hidden, feature_channels)
        self.flow_head = _two_convs(hidden, hidden, 4)

    def forward(self, feature: Tensor, flow: Tensor, correlation: Tensor) -> tuple[Tensor, Tensor]:
        """What to add to the feature and, float32, to the flow pair, both at the feature's resolution.

        feature [b, c, s * h, s * w] for a block of scale s; flow [b, 4, h, w], which is [flow0, flow1], in pixels of
        the grid that the block works on; correlation [b, 392, h, w], or coarser by correlation_scale.
        """
        flow = flow.to(feature.dtype)
        motion = self._motion_features(flow, correlation.to(feature.dtype))
        hidden = self.gru(torch.cat((motion, flow, resize(feature, 1 / self.scale)), dim=1))
        return resize(self.feat_head(hidden), self.scale), resize_flow(self.flow_head(hidden).float(), self.scale)

    def _motion_features(self, flow: Tensor, correlation: Tensor) -> Tensor:
        # convc1 is 1x1, so it gives the same before the enlargement as after it, with fewer channels to enlarge.
        corr = self.activation(resize(self.convc1(correlation), self.correlation_scale))
        if self.convc2 is not None:
            corr = self.activation(self.convc2(corr))
        motion = self.activation(self.convf2(self.activation(self.convf1(flow))))
        return self.activation(self.conv(torch.cat((corr, motion), dim=1)))


def _two_convs(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 3, 1, 1),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(hidden, out_channels, 3, 1, 1),
    )
