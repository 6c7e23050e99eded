"""The two encoders: features to correlate, and context features to decode (docs/network.md, sections 2 and 4)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from .config import Config


class ResidualBlock(nn.Module):
    """relu(skip + branch): the branch is a chain of convolutions, each followed by an instance norm and a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride), nn.InstanceNorm2d(out_channels)
            )

    @property
    def branch(self) -> Sequence[nn.Conv2d]:
        """The convolutions of the branch, in order."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        branch = x
        for conv in self.branch:
            branch = norm_relu(conv(branch))
        skip = x if self.downsample is None else self.downsample(x)
        return functional.relu(skip + branch)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)

    @property
    def branch(self) -> Sequence[nn.Conv2d]:
        return self.conv1, self.conv2


class BottleneckBlock(ResidualBlock):
    """1x1 to a quarter of the width, 3x3, 1x1 back."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, stride)
        width = out_channels // 4
        self.conv1 = nn.Conv2d(in_channels, width, 1)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1)
        self.conv3 = nn.Conv2d(width, out_channels, 1)

    @property
    def branch(self) -> Sequence[nn.Conv2d]:
        return self.conv1, self.conv2, self.conv3


def norm_relu(x: Tensor) -> Tensor:
    """Instance norm: every channel of every sample gets mean 0 and variance 1. Then ReLU."""
    return functional.relu(functional.instance_norm(x), inplace=True)


class FeatureEncoder(nn.Module):
    """Features to correlate, at 1/8 resolution; instance norm after every convolution but the last."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        block = BottleneckBlock if config.feature_block == "bottleneck" else BasicBlock
        stem, width1, width2, width3 = config.feature_widths
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3)
        self.layer1 = nn.Sequential(block(stem, width1, 1), block(width1, width1, 1))
        self.layer2 = nn.Sequential(block(width1, width2, 2), block(width2, width2, 1))
        self.layer3 = nn.Sequential(block(width2, width3, 2), block(width3, width3, 1))
        self.layer3_2 = None
        if config.feature_extra_layer:
            self.layer3_2 = nn.Sequential(block(width3, width3, 1), block(width3, width3, 1))
        self.conv2 = nn.Conv2d(width3, config.feature_channels, 1)

    @property
    def blocks(self) -> Sequence[ResidualBlock]:
        """The residual blocks of all layers, in order."""
        return *self.layer1, *self.layer2, *self.layer3, *(self.layer3_2 or ())  # type: ignore[return-value]

    def forward(self, frame: Tensor) -> Tensor:
        """[b, 3, h, w] -> [b, feature_channels, h/8, w/8]."""
        x = norm_relu(self.conv1(frame))
        for block in self.blocks:
            x = block(x)
        return self.conv2(x)


def conv_prelu(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution and a PReLU with one weight per channel."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2), nn.PReLU(out_channels))


class ContextEncoder(nn.Module):
    """Context features at 1/2, 1/4, 1/8 and 1/16 resolution."""

    def __init__(self, config: Config) -> None:
        super().__init__()

        def stage(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
            return nn.Sequential(
                conv_prelu(in_channels, out_channels, kernel, 2), conv_prelu(out_channels, out_channels)
            )

        widths = config.context_widths
        self.pyramid1 = stage(3, widths[0], config.context_first_kernel)
        self.pyramid2 = stage(widths[0], widths[1])
        self.pyramid3 = stage(widths[1], widths[2])
        self.pyramid4 = stage(widths[2], widths[3])

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """[b, 3, h, w] -> the context features of the four levels, the finest first."""
        context1 = self.pyramid1(frame)
        context2 = self.pyramid2(context1)
        context3 = self.pyramid3(context2)
        return context1, context2, context3, self.pyramid4(context3)
