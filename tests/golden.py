"""Weights by formula (specification, "golden/"): enough to check the network without any trained weights."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

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


DATA = Path(__file__).parent / "data"
TOLERANCES = {"image": 1e-4, "flow": 1e-3, "corr": 2e-3, "fmap": 1e-4, "context": 5e-5, "feature": 5e-5}


@dataclass(frozen=True)
class Case:
    """A case of the specification's golden tensors: inputs whole, each expected tensor at up to 1024 random places."""

    variant: str
    frame0: Tensor
    frame1: Tensor
    timestep: Tensor
    expected: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]

    def difference(self, name: str, actual: Tensor) -> float:
        """The largest deviation from the golden values of this name; raises where the shape is another."""
        assert tuple(actual.shape) == self.shapes[name], f"{name}: {tuple(actual.shape)} is not {self.shapes[name]}"
        values = actual.detach().double().numpy().ravel()
        expected = self.expected[name]
        places = np.random.RandomState(zlib.crc32(name.encode())).choice(values.size, len(expected), replace=False)
        return float(np.abs(values[places] - expected).max())


def golden_cases() -> list[str]:
    return sorted(path.stem for path in DATA.glob("amt-*.npz"))


def golden_case(name: str) -> Case:
    content = dict(np.load(DATA / f"{name}.npz"))
    variant, timestep = str(content.pop("variant")), torch.from_numpy(content.pop("timestep"))
    shapes = {k.removeprefix("shape_"): tuple(content.pop(k).tolist()) for k in list(content) if k.startswith("shape_")}
    # The frames' floats are kept as four planes of bytes, which compress better.
    frame0, frame1 = (
        torch.from_numpy(np.ascontiguousarray(content.pop(k).T).view(np.float32).reshape(shapes.pop(k)))
        for k in ("frame0", "frame1")
    )
    return Case(variant, frame0, frame1, timestep, content, shapes)
