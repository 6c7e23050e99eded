"""The operations for GPUs, where each operation costs the host as much as it costs the GPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..network.encoders import FeatureEncoder, ResidualBlock
from .operations import Operations


class GPUOperations(Operations):
    """`Operations` whose norms take few launches."""

    def _features(self, encoder: FeatureEncoder, frames: Tensor) -> Tensor:
        x = self._conv_norm(encoder.conv1, frames).relu_()
        for block in encoder.blocks:
            x = self._residual_block(block, x)
        return encoder.conv2(x)

    def _residual_block(self, block: ResidualBlock, x: Tensor) -> Tensor:
        branch = x
        for conv in block.branch:
            branch = self._conv_norm(conv, branch).relu_()
        if block.downsample is not None:
            conv = block.downsample[0]
            assert isinstance(conv, nn.Conv2d)
            x = self._conv_norm(conv, x)
        return branch.add_(x).relu_()

    def _conv_norm(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        """A convolution and an instance norm. The norm takes away the mean, so also the bias, which is left out."""
        x = functional.conv2d(x, conv.weight, None, conv.stride, conv.padding)
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        scale = variance.add_(1e-5).rsqrt_()
        return torch.addcmul(mean.mul_(scale).neg_(), x, scale, out=x)
