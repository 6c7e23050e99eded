"""The two encoders: features to correlate, and context features to decode (specification sections 2 and 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .bands import in_place_pays, small_parts

Block = Callable[[int, int, int], nn.Module]
"""Builds a residual block from (in channels, out channels, stride)."""


def normalised_relu(x: Tensor) -> Tensor:
    return normalise(x, functional.relu_)


def normalise(x: Tensor, then: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    """Instance norm: every channel of every sample gets mean 0 and variance 1. Then a function in place."""
    if not in_place_pays():
        return then(functional.instance_norm(x))
    # The same in place, in parts that caches hold, and in two passes: a tenth of the time on a CPU. Summed are the
    # differences from the first part's mean, which are small: their squares stay exact.
    pixels = x.shape[2] * x.shape[3]
    parts = small_parts(x)
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


def _sums(x: Tensor) -> Tensor:
    """Of every channel: [b, c, h, w] -> [b, c, 1, 1]."""
    if x.device.type != "cpu":
        return x.sum(dim=(2, 3), keepdim=True)
    # Where channels come last, a product of matrices is several times faster than a sum. On GPUs it may be less exact.
    rows = x.new_ones(1, x.shape[3]) @ x.permute(0, 2, 3, 1)
    return rows.sum(dim=1)[..., None].transpose(1, 2)


class _ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride), nn.InstanceNorm2d(out_channels)
            )

    def _branch(self) -> Sequence[nn.Module]:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        branch = x
        for conv in self._branch():
            branch = normalised_relu(conv(branch))
        skip = x if self.downsample is None else normalise(self.downsample[0](x))
        # Fresh memory costs a CPU more than the sum.
        total = skip.add_(branch) if in_place_pays() else skip + branch
        return total.relu_()


class BasicBlock(_ResidualBlock):
    """Two 3x3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)

    def _branch(self) -> Sequence[nn.Module]:
        return self.conv1, self.conv2


class BottleneckBlock(_ResidualBlock):
    """1x1 to a quarter of the width, 3x3, 1x1 back."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, stride)
        width = out_channels // 4
        self.conv1 = nn.Conv2d(in_channels, width, 1)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1)
        self.conv3 = nn.Conv2d(width, out_channels, 1)

    def _branch(self) -> Sequence[nn.Module]:
        return self.conv1, self.conv2, self.conv3


class FeatureEncoder(nn.Module):
    """Features to correlate, at 1/8 resolution; instance norm after every convolution but the last."""

    def __init__(
        self, *, block: Block, widths: tuple[int, int, int, int], extra_layer: bool, out_channels: int
    ) -> None:
        """widths: of conv1, layer1, layer2 and layer3. extra_layer: a further layer of layer3's width (AMT-G)."""
        super().__init__()
        stem, width1, width2, width3 = widths
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3)
        self.layer1 = nn.Sequential(block(stem, width1, 1), block(width1, width1, 1))
        self.layer2 = nn.Sequential(block(width1, width2, 2), block(width2, width2, 1))
        self.layer3 = nn.Sequential(block(width2, width3, 2), block(width3, width3, 1))
        self.layer3_2 = nn.Sequential(block(width3, width3, 1), block(width3, width3, 1)) if extra_layer else None
        self.conv2 = nn.Conv2d(width3, out_channels, 1)

    def forward(self, frame: Tensor) -> Tensor:
        """[b, 3, h, w] -> [b, out_channels, h/8, w/8]."""
        x = normalised_relu(self.conv1(frame))
        # Block by block: a layer as a whole would hold on to its input.
        for block in (*self.layer1, *self.layer2, *self.layer3, *(self.layer3_2 or ())):
            x = block(x)
        return self.conv2(x)


class PReLU(nn.PReLU):
    """In place where that pays: fresh memory costs a CPU more than the function."""

    def forward(self, input: Tensor) -> Tensor:
        if not in_place_pays():
            return super().forward(input)
        for part in small_parts(input):
            part.copy_(functional.prelu(part, self.weight))
        return input


def conv_prelu(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution and a PReLU with one weight per channel."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2), PReLU(out_channels))


class ContextEncoder(nn.Module):
    """Context features at 1/2, 1/4, 1/8 and 1/16 resolution."""

    def __init__(self, *, widths: tuple[int, int, int, int], first_kernel: int) -> None:
        super().__init__()

        def stage(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
            return nn.Sequential(
                conv_prelu(in_channels, out_channels, kernel, 2), conv_prelu(out_channels, out_channels)
            )

        self.pyramid1 = stage(3, widths[0], first_kernel)
        self.pyramid2 = stage(widths[0], widths[1])
        self.pyramid3 = stage(widths[1], widths[2])
        self.pyramid4 = stage(widths[2], widths[3])

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """[b, 3, h, w] -> finest first."""
        context1 = self.pyramid1(frame)
        context2 = self.pyramid2(context1)
        context3 = self.pyramid3(context2)
        return context1, context2, context3, self.pyramid4(context3)
