"""Weights by formula (specification, "golden/"): enough to check the network without any trained weights."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor, nn


def golden_weight(name: str, shape: torch.Size) -> Tensor:
    z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    if name.endswith(".bias"):
        z = 0.02 * z
    elif len(shape) == 1:
        z = 0.25 + 0.05 * z
    else:
        z = z * _gain(name) * math.sqrt(2 / math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(z, dtype=np.float32))


def _gain(name: str) -> float:
    if name.startswith(("encoder.", "feat_encoder.")):
        return 1.0
    if name.endswith(("flow_head.2.weight", "feat_head.2.weight")):
        return 0.2
    if name.startswith("decoder") and name.endswith("convblock.2.weight"):
        return 0.2
    return 0.1 if name == "comb_block.2.weight" else 0.7


def golden_state_dict(network: nn.Module) -> dict[str, Tensor]:
    return {name: golden_weight(name, value.shape) for name, value in network.state_dict().items()}
