"""Motion as pictures: the flow colour wheel of Baker et al."""

from __future__ import annotations

import math

import pytest
import torch
from amt_frame_interpolation.amt.flow_colours import colour_wheel, flow_to_colours, motion_pictures
from amt_frame_interpolation.amt.network import Motion
from hypothesis import given
from hypothesis import strategies as st


def colour(x: float, y: float, longest: float = 1) -> list[float]:
    """The colour of one flow, in 255ths."""
    painted = flow_to_colours(torch.tensor([x, y]).reshape(2, 1, 1), longest)
    return (painted.flatten() * 255).tolist()


def test_wheel() -> None:
    """Values of the table in the paper's code: the pure colours are where its widths put them."""
    wheel = colour_wheel()
    assert wheel.shape == (55, 3)
    pure = {0: (255, 0, 0), 15: (255, 255, 0), 21: (0, 255, 0), 25: (0, 255, 255), 36: (0, 0, 255), 49: (255, 0, 255)}
    for place, values in pure.items():
        assert tuple(wheel[place].tolist()) == values
    assert wheel[1].tolist() == [255, 17, 0]
    assert wheel[16].tolist() == [213, 255, 0]  # 255 - floor(255 / 6)
    assert wheel[54].tolist() == [255, 0, 43]  # 255 - floor(255 * 5 / 6)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0, 0, (255, 255, 255)),
        (1, 0, (255, 0, 0)),
        (0, 1, (255, 229.5, 0)),
        (-1, 0, (0, 209, 255)),
        (0, -1, (88, 0, 255)),
        (0.5, 0, (255, 127.5, 127.5)),
        (2, 0, (191.25, 0, 0)),  # beyond the scale: darker
    ],
)
def test_directions(x: float, y: float, expected: tuple[float, ...]) -> None:
    assert colour(x, y) == pytest.approx(expected, abs=0.01)


def test_same_as_torchvision() -> None:
    utils = pytest.importorskip("torchvision.utils")
    angles = torch.linspace(-math.pi, math.pi, 401)[:-1]
    flow = torch.stack([length * torch.stack((angles.cos(), angles.sin())) for length in (0.25, 1)], dim=1)
    theirs = utils.flow_to_image(flow.float()).float()  # scales by the longest, which is 1, and rounds down
    ours = flow_to_colours(flow, 1) * 255
    assert (ours - theirs).abs().max() <= 1.01


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_any_flow_has_a_colour(x: float, y: float, longest: float) -> None:
    values = colour(x, y, longest)
    assert all(0 <= value <= 255.01 for value in values)
    assert values == pytest.approx(colour(x * 2, y * 2, longest * 2), abs=0.1)


def test_flow_that_is_not_finite_is_black() -> None:
    assert colour(math.nan, 1) == [0, 0, 0]
    assert colour(0, math.inf) == [0, 0, 0]


def test_no_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        colour(1, 1, 0)


def motion(flow0: float, flow1: float, mask: float, residual: float, fields: int = 1) -> Motion:
    def plane(value: float, channels: int) -> torch.Tensor:
        return torch.full((1, fields, channels, 4, 6), float(value))

    coarse = torch.zeros(1, 4, 2, 2)  # the pictures are of the finest level alone
    return Motion(plane(flow0, 2), plane(flow1, 2), plane(mask, 1), plane(residual, 3), (coarse, coarse, coarse))


def test_pictures_of_a_motion() -> None:
    pictures = motion_pictures(motion(-3, 3, 0.75, -0.1, fields=2))
    assert pictures.longest == pytest.approx(3 * math.sqrt(2))
    assert pictures.flow0.shape == pictures.mask.shape == pictures.residual.shape == (2, 4, 6, 3)
    # both flows are as long as the scale: in full colour, and opposite ones differ
    assert pictures.flow0.amin() == pytest.approx(0, abs=1e-5)
    assert pictures.flow1.amin() == pytest.approx(0, abs=1e-5)
    assert (pictures.flow0 - pictures.flow1).abs().max() > 0.5
    assert pictures.mask.unique().tolist() == [0.75]
    assert pictures.residual.unique().tolist() == pytest.approx([0.4])


def test_no_motion_is_white() -> None:
    assert motion_pictures(motion(0, 0, 0.5, 0)).flow0.unique().tolist() == [1]


def test_a_given_scale() -> None:
    half, full = (motion_pictures(motion(-2, 0, 0.5, 0), longest) for longest in (4 * math.sqrt(2), None))
    assert torch.allclose(half.flow0, (1 + full.flow0) / 2)
