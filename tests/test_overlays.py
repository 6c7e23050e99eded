"""Subtitles and logos over motion stay what they are; what moves is not taken for one."""

from __future__ import annotations

import pytest
import torch
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.motion_scale import ScaledAMT
from amt_frame_interpolation.amt.overlays import find_overlay, without
from amt_frame_interpolation.models.catalogue import BUNDLED, BUNDLED_FOLDER
from amt_frame_interpolation.models.loading import load_checkpoint
from PIL import Image, ImageDraw, ImageFont
from test_cuts import noise
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

HEIGHT, WIDTH = 240, 432


def scene(step: int, down: int = 0) -> list[Tensor]:
    """Three frames [1, 3, h, w] of a camera that moves over a picture."""
    whole = noise(3, HEIGHT + 2 * down, WIDTH + 2 * step).permute(2, 0, 1)[None]
    return [whole[..., down * k : down * k + HEIGHT, step * k : step * k + WIDTH] for k in range(3)]


def letters(size: int, place: tuple[int, int], words: str) -> tuple[Tensor, Tensor]:
    """Where letters are [1, 1, h, w], 0..1, and their picture: white with a black rim."""
    picture = Image.new("RGBA", (WIDTH, HEIGHT))
    font = ImageFont.load_default(size)
    ImageDraw.Draw(picture).text(place, words, font=font, fill="white", stroke_width=1, stroke_fill="black")
    pixels = pil_to_tensor(picture)[None].float() / 255
    return pixels[:, 3:], pixels[:, :3]


LETTERS = {
    "subtitle": (20, (60, 195), "It was the best of times"),
    "logo": (26, (8, 8), "TV 4"),
    "small": (14, (90, 210), "it was the worst of times"),
}


@pytest.fixture(scope="module")
def network() -> ScaledAMT:
    return ScaledAMT(FastAMT(load_checkpoint(BUNDLED_FOLDER / BUNDLED.name).network), carried=True)


def made(network: ScaledAMT, frame0: Tensor, frame1: Tensor, time: float = 0.5) -> Tensor:
    padding = network.padding
    with torch.inference_mode():
        pair = network.open_pair(padding.pad(frame0), padding.pad(frame1))
        return padding.crop(network.frame_at(pair, torch.tensor([time])), (HEIGHT, WIDTH))


@pytest.mark.parametrize("grain", [0, 0.008])
@pytest.mark.parametrize("step", [8, 24])
@pytest.mark.parametrize("name", LETTERS)
def test_letters_stay_over_motion(network: ScaledAMT, name: str, step: int, grain: float) -> None:
    where, picture = letters(*LETTERS[name])
    torch.manual_seed(0)
    frames = [torch.lerp(frame, picture, where) for frame in scene(step, 3)]
    frames = [(frame + grain * torch.randn_like(frame)).clamp(0, 1) for frame in frames]
    middle = made(network, frames[0], frames[2])
    inside = (where > 0.99).expand(-1, 3, -1, -1)
    error = (middle - frames[1]).abs()[inside]
    assert error.mean() < 0.04  # of letters that move along or fade, it is 0.2 or more
    # No second one beside it: what is around is as good as without letters.
    rim = ((without_letters := 1 - where) > 0) & (torch.nn.functional.max_pool2d(where, 21, 1, 10) > 0)
    assert without_letters.any()
    bare = made(network, scene(step, 3)[0], scene(step, 3)[2])
    around = rim.expand(-1, 3, -1, -1)
    assert (middle - frames[1]).abs()[around].mean() < (bare - scene(step, 3)[1]).abs()[around].mean() + 0.04


@pytest.mark.parametrize(("step", "down"), [(2, 0), (8, 0), (0, 8), (24, 0), (9, 5)])
def test_a_moving_picture_has_none(step: int, down: int) -> None:
    """Edges along the motion stay the same too, but no corners."""
    frames = scene(step, down)
    assert find_overlay(frames[0], frames[2]) is None


def test_what_flies_past_a_still_wall_is_not_covered() -> None:
    wall = noise(5, HEIGHT, WIDTH).permute(2, 0, 1)[None]
    frames = [wall.clone(), wall.clone()]
    for frame, left in zip(frames, (100, 180), strict=True):
        frame[..., 100:130, left : left + 30] = 1
    assert find_overlay(*frames) is None


def test_a_still_picture_has_none() -> None:
    wall = noise(5, HEIGHT, WIDTH).permute(2, 0, 1)[None]
    assert find_overlay(wall, wall) is None


def test_what_is_taken_out_is_filled_from_around() -> None:
    frame = torch.full((1, 4, 64, 96), 0.25)
    overlay = torch.zeros(1, 1, 64, 96)
    overlay[..., 20:28, 10:80] = 1
    with_letters = torch.where(overlay > 0, 1.0, frame)
    torch.testing.assert_close(without(with_letters, overlay), frame, atol=1e-3, rtol=0)
    assert torch.equal(without(frame, torch.zeros_like(overlay)), frame)
