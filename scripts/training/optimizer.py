"""The training's optimizer: Muon for the convolutions, AdamW for all else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LEAST_OUTPUTS = 8
"""A convolution with fewer outputs is no matrix worth making orthogonal."""


class MuonAndAdamW:
    """Muon (Jordan et al., 2024) takes steps that are equally long in all directions of a weight matrix.

    With AdamW alone single states of the network scatter by decibels, some are lost altogether; with Muon by tenths.
    """

    def __init__(self, network: nn.Module, rate: float) -> None:
        """network: on its device, its weights dense in memory, which they keep from here on."""
        weights = [weight for weight in network.parameters() if weight.dim() == 4 and len(weight) >= LEAST_OUTPUTS]
        taken = {id(weight) for weight in weights}
        others = [parameter for parameter in network.parameters() if id(parameter) not in taken]
        # PyTorch's Muon takes matrices alone: these are views of the weights.
        self._pairs = [(weight, nn.Parameter(_matrix(weight.data))) for weight in weights]
        if any(weight.data_ptr() != matrix.data_ptr() for weight, matrix in self._pairs):
            raise ValueError("expected weights that are dense in memory, channels last or not, got views of others")
        self._network = network
        self._muon = torch.optim.Muon(
            [matrix for _, matrix in self._pairs], rate, weight_decay=1e-4, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(others, rate, weight_decay=1e-4)

    def step(self, rate: float) -> None:
        """One step along the gradients, which are gone then."""
        for weight, matrix in self._pairs:
            matrix.grad = None if weight.grad is None else _matrix(_like(weight.grad, weight))
        for optimizer in (self._muon, self._adamw):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self._network.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])


def _matrix(weight: Tensor) -> Tensor:
    """[outputs, inputs, height, width] -> [outputs, the rest], in the same memory and its order."""
    return (weight if weight.is_contiguous() else weight.permute(0, 2, 3, 1)).flatten(1)


def _like(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient in the weight's memory format."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
