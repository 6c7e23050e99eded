"""Cuts: on clips that were looked through by hand, and on made ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import _pack
import numpy as np
import pytest
import torch
from amt_frame_interpolation.amt.timeline.cuts import CutDetector, small_picture
from amt_frame_interpolation.amt.timeline.sources import Gap, as_sources
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from training.clips import TRAINING, VALIDATION

CLIPS = Path(os.environ.get("AMT_CLIPS", _pack.ROOT / "runs" / "clips")) / VALIDATION[0]
"""As scripts/training decodes them."""

CUTS = {
    "api_flux3_max_i2v-1": [9, 29],
    "api_kling4_i2v-1": [23, 49],
    "api_kling4_r2v-1": [24, 49],
    "api_kling4_video_edit-1": [23],
    "api_kling4_video_edit-2": [23],
    "api_pixverse_v6_max_i2v-1": [19],
    "api_pixverse_v6_max_t2v-1": [25, 48, 63],
    "api_seedance2_5_draft_i2v-1": [12, 22, 25, 30, 35, 43],
    "api_seedance2_5_draft_r2v-1": [15, 25, 30, 38],
    "api_seedance2_5_draft_t2v-1": [10, 23, 47],
    "api_vidu_q4_preview_i2v-1": [7, 14, 21, 28, 34, 42],
    "api_vidu_q4_preview_r2v-1": [10, 20, 40],
    "video_fasth3_ominiref_r2v-1": [13],
}
"""The first frames of new shots, found by looking at every frame of the package's 41 clips; the others have none.

They are hard ones: at 10 frames a second or so motion is fast, with whip pans, zooms, lightning and still insets.
"""


OTHER_CLIPS = CLIPS.parent / TRAINING[0]
OTHER_CUTS = {
    "api_bytedance_seedance1_5_image_to_video-1": [14],
    "api_google_gemini_omni_flash_i2v-1": [17, 35],
    "api_happyhorse1_0_r2v-1": [16, 29],
    "api_wan2_7_i2v-1": [31],
    "api_wan2_7_r2v-1": [22, 42, 59],
    "api_wan_r2v-1": [25],
}
"""Those of a package that no constant was chosen on, found by looking at every gap that differs from its neighbours."""
JUMPS = {"api_happyhorse1_0_r2v-1": [1]}
"""A shot goes on, but a man is elsewhere: taken for a cut."""


def cuts(frames: list[Tensor] | Iterator[Tensor] | Tensor) -> list[int]:
    """The first frames of new shots."""
    return [source.position for source in CutDetector()(as_sources(frames)) if source.gap is Gap.CUT]


def compare(folder: Path, there: dict[str, list[int]]) -> tuple[int, list[tuple[str, int]], list[tuple[str, int]]]:
    """How many gaps the folder's clips have, and the cuts that were missed, and those that are none."""
    if not folder.is_dir():
        pytest.skip(f"no clips in {folder}: scripts/evaluation and scripts/training get them, or set AMT_CLIPS")
    gaps, missed, false = 0, [], []
    for path in sorted(folder.glob("*.npy")):
        frames = torch.from_numpy(np.load(path))
        found, real = set(cuts(frames)), set(there.get(path.stem, ()))
        gaps += len(frames) - 1
        missed += [(path.stem, cut) for cut in sorted(real - found)]
        false += [(path.stem, cut) for cut in sorted(found - real)]
    count = sum(map(len, there.values()))
    print(f"{count} cuts in {gaps} gaps; missed: {missed}; false: {false}")  # noqa: T201  (pytest -s, for the figures)
    return gaps, missed, false


def test_cuts_of_clips_are_found_and_motion_is_none() -> None:
    gaps, missed, false = compare(CLIPS, CUTS)
    count = sum(map(len, CUTS.values()))
    assert gaps == 1939
    assert len(missed) <= 0.05 * count
    assert len(false) <= 0.01 * count  # of the cuts, not of the gaps, of which there are many more


def test_cuts_of_clips_that_no_constant_was_chosen_on() -> None:
    gaps, missed, false = compare(OTHER_CLIPS, OTHER_CUTS)
    assert gaps == 5431
    assert missed == []
    assert set(false) <= {(clip, place) for clip, places in JUMPS.items() for place in places}


def noise(seed: int, height: int = 180, width: int = 240) -> Tensor:
    """A picture with things of all sizes."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.zeros(1, 3, height, width)
    for size in (3, 6, 12, 24):
        layer = torch.rand(1, 3, size, size, generator=generator) - 0.5
        picture += functional.interpolate(layer, (height, width), mode="bicubic") / 2
    return (picture[0].permute(1, 2, 0) + 0.5).clamp(0, 1)


def pan(scene: int, count: int, step: int = 4) -> list[Tensor]:
    """A camera that moves over a picture."""
    whole = noise(scene, 180, 240 + step * count)
    return [whole[:, step * k : step * k + 240] for k in range(count)]


@settings(max_examples=15)
@given(st.lists(st.integers(4, 9), min_size=1, max_size=4), st.integers(0, 1000), st.integers(0, 12))
def test_shots_are_told_apart_and_pans_are_none(lengths: list[int], scene: int, step: int) -> None:
    frames = [frame for shot, length in enumerate(lengths) for frame in pan(scene + shot, length, step)]
    assert cuts(frames) == [sum(lengths[:k]) for k in range(1, len(lengths))]


def test_shots_of_two_frames_are_told_apart() -> None:
    frames = [frame for scene in range(6) for frame in pan(scene, 2)]
    assert cuts(frames) == [2, 4, 6, 8, 10]


def lines(scene: int, count: int, step: int = 3) -> list[Tensor]:
    """Black lines on white that move."""
    generator = torch.Generator().manual_seed(scene)
    width = 240 + step * count
    picture = torch.ones(180, width, 3)
    for _ in range(14):
        (x0, x1), (y0, y1) = (torch.randint(0, side, (2,), generator=generator) for side in (width, 180))
        for share in torch.linspace(0, 1, 600):
            x, y = int(torch.lerp(x0.float(), x1.float(), share)), int(torch.lerp(y0.float(), y1.float(), share))
            picture[max(0, y - 1) : y + 1, max(0, x - 1) : x + 1] = 0.1
    return [picture[:, step * k : step * k + 240] for k in range(count)]


MATERIAL: dict[str, tuple[float, float, float]] = {
    "daylight": (1, 0, 0),
    "dark": (0.16, 0, 0),
    "darker": (0.08, 0, 0),
    "night": (0.16, 0, 0.015),
    "fog": (0.15, 0.42, 0),
    "thick fog": (0.08, 0.46, 0),
    "high key": (0.16, 0.84, 0.01),
}
"""The contrast, what is added, and the standard deviation of the noise; in 8 bits."""


@pytest.mark.parametrize("step", [3, 10])
@pytest.mark.parametrize("material", MATERIAL)
def test_shots_of_any_contrast_are_told_apart(material: str, step: int) -> None:
    contrast, added, grain = MATERIAL[material]
    torch.manual_seed(0)
    frames = [contrast * frame + added for scene in (3, 4, 5) for frame in pan(scene, 7, step)]
    frames = [((frame + grain * torch.randn_like(frame)).clamp(0, 1) * 255).round().byte() for frame in frames]
    assert cuts(frames) == [7, 14]


@pytest.mark.parametrize("step", [3, 9])
def test_drawings_are_told_apart(step: int) -> None:
    assert cuts([frame for scene in (1, 2, 3) for frame in lines(scene, 7, step)]) == [7, 14]


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("grey", [0, 0.5, 1])
def test_a_card_of_one_colour_is_a_shot(grey: float, length: int) -> None:
    card = torch.full((180, 240, 3), grey)
    assert cuts(pan(1, 6) + [card] * length + pan(2, 6)) == [6, 6 + length]


def test_changes_of_the_light_are_none() -> None:
    fades = {
        "from black": [noise(5) * (k / 24) for k in range(25)],
        "from black, dark": [noise(5) * (k / 24) * 0.2 for k in range(25)],
        "from black, moving": [frame * (k / 24) for k, frame in enumerate(pan(5, 25))],
        "to white": [torch.lerp(noise(5), torch.ones(180, 240, 3), k / 12) for k in range(13)],
        "to another picture, dark": [torch.lerp(noise(5), noise(6), k / 12) * 0.16 for k in range(13)],
        "lightning": [frame * (0.5 if k == 5 else 0.12) for k, frame in enumerate(pan(5, 12))],
        "a lamp goes out": [frame * (0.12 if k >= 6 else 0.9) for k, frame in enumerate(pan(5, 12))],
    }
    assert {name: cuts([(frame * 255).round().byte() for frame in frames]) for name, frames in fades.items()} == {
        name: [] for name in fades
    }


def test_a_flash_is_none() -> None:
    frames = pan(3, 12)
    for index in (5, 6):
        frames[index] = (frames[index] * 0.5 + 0.5).clamp(0, 1)
    assert cuts(frames) == []


def test_a_fade_is_none() -> None:
    picture = noise(5)
    assert cuts([picture * (k / 12) for k in range(13)]) == []
    other = noise(6)
    assert cuts([torch.lerp(picture, other, k / 12) for k in range(13)]) == []


def test_stills_are_none() -> None:
    assert cuts([noise(1)] * 6) == []
    assert cuts([torch.zeros(20, 20, 3)] * 6) == []


@pytest.mark.parametrize("times", [2, 3, 4])
def test_repeated_frames_make_no_cut_of_the_steps_between(times: int) -> None:
    frames = [frame for frame in pan(7, 6, step=14) for _ in range(times)]
    assert cuts(frames) == []
    assert cuts([*frames, *[frame for frame in pan(8, 6, step=14) for _ in range(times)]]) == [6 * times]


def test_a_still_border_does_not_hide_a_cut() -> None:
    frames = []
    for index, frame in enumerate([*pan(1, 6), *pan(2, 6)]):
        whole = noise(9, 360, 360)
        whole[90:270, 60:300] = frame
        frames.append(whole)
        assert len(frames) == index + 1
    assert cuts(frames) == [6]


@pytest.mark.parametrize("kind", ["uint8", "alpha", "half", "large", "tall"])
def test_all_kinds_of_frames(kind: str) -> None:
    frames = [*pan(1, 5), *pan(2, 5)]
    convert = {
        "uint8": lambda frame: (frame * 255).round().byte(),
        "alpha": lambda frame: torch.cat((frame, torch.ones(*frame.shape[:2], 1)), dim=2),
        "half": lambda frame: frame.half(),
        "large": lambda frame: frame.repeat_interleave(7, 0).repeat_interleave(7, 1),
        "tall": lambda frame: frame[:, :60],
    }[kind]
    assert cuts([convert(frame) for frame in frames]) == [5]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 2), (63, 65)])
def test_frames_of_any_size(size: tuple[int, int]) -> None:
    frames = [torch.rand(*size, 3, generator=torch.Generator().manual_seed(k)) for k in range(6)]
    assert len(list(CutDetector()(as_sources(frames)))) == 6
    assert small_picture(frames[0]).shape == (3, 64, 64)


def test_one_frame_and_none() -> None:
    assert cuts([noise(1)]) == []
    assert cuts([]) == []


@settings(max_examples=15)
@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_few_frames_are_taken_in_advance(moves: list[bool]) -> None:
    pictures = pan(4, 8, step=10)
    taken = place = 0

    def frames() -> Iterator[Tensor]:
        nonlocal taken, place
        for move in moves:
            place += move
            taken += 1
            yield pictures[place % len(pictures)]

    count = 0
    for source in CutDetector()(as_sources(frames())):
        assert source.position == count
        assert taken <= count + 5
        count += 1
    assert count == len(moves)


def test_a_lower_threshold_finds_more() -> None:
    frames = [*pan(1, 6), *pan(1, 6, step=30)[2:], *pan(2, 6)]
    found = [
        len([source for source in CutDetector(threshold)(as_sources(frames)) if source.gap is Gap.CUT])
        for threshold in (0.9, 0.12, 0.01)
    ]
    assert found == sorted(found)
    assert found[0] < found[-1]
