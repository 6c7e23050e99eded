"""AMT Optical Flow in ComfyUI's own process."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.network import AMT, S
from golden import golden_state_dict
from torch import Tensor, nn

FRAMES = torch.rand((3, 40, 56, 3), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def patch(comfy: ModuleType) -> Callable[[nn.Module], Any]:
    """Wraps a model as ComfyUI manages it."""
    import comfy.model_patcher

    cpu = torch.device("cpu")
    return lambda model: comfy.model_patcher.CoreModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)


@pytest.fixture(scope="module")
def model(patch: Callable[[nn.Module], Any]) -> Any:
    from amt_frame_interpolation.nodes.interp_model import AMTModel

    network = FastAMT(AMT(S))
    network.load_state_dict(golden_state_dict(network))
    return patch(AMTModel(network))


@pytest.fixture(scope="module")
def show(comfy: ModuleType) -> Callable[..., Any]:
    from amt_frame_interpolation.nodes.optical_flow import AMTShowMotion

    return torch.inference_mode()(AMTShowMotion.execute)


def test_a_picture_for_each_pair(show: Callable[..., Any], model: Any) -> None:
    pictures: tuple[Tensor, ...] = show(model, FRAMES).args
    assert len(pictures) == 4
    for picture in pictures:
        assert picture.shape == (2, 40, 56, 3)
        assert picture.min() >= 0
        assert picture.max() <= 1
    flow0, _, mask, _ = pictures
    assert flow0.std() > 0.01
    assert torch.equal(mask[..., 0], mask[..., 1])


def test_a_picture_for_each_field(show: Callable[..., Any], model: Any) -> None:
    mean, each = (show(model, FRAMES, fields=fields).args for fields in ("mean", "each"))
    for picture in each:
        assert picture.shape == (2 * S.fields, 40, 56, 3)
    mask = each[2].unflatten(0, (2, S.fields))
    assert torch.allclose(mask.mean(dim=1), mean[2], atol=1e-5)
    assert mask.std(dim=1).max() > 1e-3


def test_the_scale_is_in_pixels(show: Callable[..., Any], model: Any) -> None:
    """Twice as many pixels for the full colour: half as strong."""
    strong, weak = (1 - show(model, FRAMES[:2], longest_flow=length).args[0] for length in (1000, 2000))
    assert strong.max() > 0
    assert torch.allclose(strong, 2 * weak, atol=1e-5)


def test_the_node_shows_the_pictures_itself(show: Callable[..., Any], model: Any) -> None:
    shown = show(model, FRAMES).ui.as_dict()
    assert len(shown["images"]) == 2


def test_alpha_and_tiny_frames(show: Callable[..., Any], model: Any) -> None:
    frames = torch.rand((2, 1, 3, 4))
    assert show(model, frames).args[0].shape == (2 - 1, 1, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": FRAMES[:1]}, "at least two frames"),
        ({"images": FRAMES * torch.nan}, "NaN"),
        ({"fields": "some"}, "mean or each"),
        ({"longest_flow": -1}, "longest_flow"),
        ({"longest_flow": float("nan")}, "longest_flow"),
    ],
)
def test_bad_input(show: Callable[..., Any], model: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        show(model, **{"images": FRAMES, **arguments})


def test_other_models_are_refused(show: Callable[..., Any], patch: Callable[[nn.Module], Any]) -> None:
    from comfy_extras.frame_interpolation_models.film_net import FILMNet

    with pytest.raises(TypeError, match="AMT model"):
        show(patch(FILMNet()), FRAMES)
