"""Which network a file's tensors belong to, told from their names and shapes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

import torch

from ..amt.network import AMT, Config, G, L, S

Shape = tuple[int, ...]


@cache
def expected_shapes(config: Config) -> dict[str, Shape]:
    """The names and shapes of the network's parameters."""
    with torch.device("meta"):
        network = AMT(config)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def recognise(shapes: Mapping[str, Shape]) -> Config | None:
    """The configuration that these tensors are most of; None where they are no AMT network.

    Some may be missing, left over or misshapen: naming those is for whoever compares with `expected_shapes`.
    """

    def likeness(config: Config) -> tuple[int, int]:
        expected = expected_shapes(config)
        return (
            sum(shapes.get(name) == shape for name, shape in expected.items()),
            len(expected.keys() & shapes.keys()) - len(expected.keys() ^ shapes.keys()),
        )

    config = max((S, L, G), key=likeness)
    expected = expected_shapes(config)
    # Correlation and its updates are what AMT adds; encoder and decoders have their names from IFRNet.
    own = any(name.startswith(("feat_encoder.", "update")) for name in expected.keys() & shapes.keys())
    return config if own and 2 * len(expected.keys() & shapes.keys()) >= len(expected) else None


_CORE_LOADER = (
    'Load it with ComfyUI\'s own "Load Frame Interpolation Model"; '
    "what that gives also plugs into this pack's interpolation nodes."
)


def other_architecture(names: Collection[str]) -> tuple[str, str] | None:
    """What other kind of file this seems to be and what to do with it; None where that is not known."""

    def some(*, start: tuple[str, ...] = (), end: tuple[str, ...] = ()) -> bool:
        return any(name.startswith(start) or name.endswith(end) for name in names)

    if some(end=("blocks.0.conv0.0.0.weight", "block0.conv0.0.0.weight")):
        return "a RIFE model", _CORE_LOADER
    if some(start=("extract.extract_sublevels.",)):
        return "a FILM model", _CORE_LOADER
    if some(end=(".lora_up.weight", ".lora_A.weight", ".lora_B.weight", ".lora_down.weight")):
        return "a LoRA", 'Load it with "Load LoRA".'
    if some(
        start=(
            "model.diffusion_model.",
            "diffusion_model.",
            "first_stage_model.",
            "double_blocks.",
            "cond_stage_model.",
        )
    ):
        return "a checkpoint of an image or video model", 'Load it with "Load Checkpoint" or "Load Diffusion Model".'
    if some(start=("decoder.conv_in.", "encoder.conv_in.")):
        return "a VAE", 'Load it with "Load VAE".'
    if some(start=("conv_first.", "model.1.sub.")):
        return "an upscaling model", 'Load it with "Load Upscale Model".'
    return None
