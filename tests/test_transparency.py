"""Frames with alpha: what a person cannot see does not matter."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from amt_frame_interpolation.amt.engine import Engine
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.motion_scale import ScaledAMT
from amt_frame_interpolation.models.catalogue import BUNDLED, BUNDLED_FOLDER
from amt_frame_interpolation.models.loading import load_checkpoint
from test_cuts import noise
from torch import Tensor

SIDE = 128


@pytest.fixture(scope="module")
def engine() -> Engine:
    network = FastAMT(load_checkpoint(BUNDLED_FOLDER / BUNDLED.name).network)
    return Engine(ScaledAMT(network, carried=True), torch.device("cpu"))


def disc(left: int, hidden: Tensor, light: float = 1) -> Tensor:
    """A patterned disc on transparent ground: [h, w, 4]. hidden: the colours under the transparent pixels."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    alpha = (24.5 - ((x - left) ** 2 + (y - 64) ** 2).sqrt()).clamp(0, 1)[..., None]
    pattern = noise(4, SIDE, 2 * SIDE)[:, SIDE - left : 2 * SIDE - left] * light
    return torch.cat((torch.where(alpha > 0, pattern, hidden), alpha), dim=2)


def over(frame: Tensor, ground: float) -> Tensor:
    return torch.lerp(torch.full_like(frame[..., :3], ground), frame[..., :3], frame[..., 3:])


@pytest.mark.parametrize("light", [1, 0.15])
def test_hidden_colours_do_not_matter(engine: Engine, light: float) -> None:
    grounds = {
        "black": torch.zeros(SIDE, SIDE, 3),
        "white": torch.ones(SIDE, SIDE, 3),
        "a picture": noise(9, SIDE, SIDE),
        "nothing in common": torch.rand(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0)),
    }
    made = {}
    for name, ground in grounds.items():
        other = 1 - ground  # in the second frame there is another one
        frames = [disc(50, ground, light), disc(66, other, light)]
        (made[name],) = engine.run(frames, [Fraction(1, 2)])
    first = made.pop("black")
    truth = disc(58, torch.zeros(SIDE, SIDE, 3), light)
    for backdrop in (0.0, 1.0):
        assert (over(first, backdrop) - over(truth, backdrop)).abs().mean() < 0.01
    assert (first[..., 3] - truth[..., 3]).abs().mean() < 0.02  # 0.05 where it stays at either place
    for name, frame in made.items():
        assert torch.equal(frame, first), name


def test_opaque_frames_are_what_they_are_without_alpha(engine: Engine) -> None:
    frames = [noise(3, SIDE, SIDE + 8)[:, 8 * k : 8 * k + SIDE] for k in range(2)]
    (bare,) = engine.run(frames, [Fraction(1, 2)])
    opaque = [torch.cat((frame, torch.ones(SIDE, SIDE, 1)), dim=2) for frame in frames]
    (made,) = engine.run(opaque, [Fraction(1, 2)])
    torch.testing.assert_close(made[..., :3], bare, atol=1e-5, rtol=0)


def test_source_frames_stay_as_they_are(engine: Engine) -> None:
    frames = [disc(50, torch.rand(SIDE, SIDE, 3)), disc(60, torch.rand(SIDE, SIDE, 3))]
    first, _, last = engine.run(frames, [Fraction(0), Fraction(1, 2), Fraction(1)])
    assert first is frames[0]
    assert last is frames[1]
