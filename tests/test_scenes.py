"""The list of scenes whose middle is known: what is in it, what a scene shows, and what is said of the figures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

pytest.importorskip("cv2", reason="OpenCV is not installed here")
pytest.importorskip("skimage", reason="scikit-image is not installed here")

import cv2
from evaluation import scenes
from evaluation.metrics import detail, gmsd
from evaluation.scene_list import FULL_HD, HD, ROWS, Listed, Shot, choose, motion_of
from training.clips import OtherPixelsError


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Noise of many scales, uint8 [h, w, 3]."""
    random = np.random.default_rng(seed)
    image = np.zeros((*size, 3), np.float32)
    for cells in (6, 24, 96):
        image += cv2.resize(random.random((cells, cells, 3)).astype(np.float32), size[::-1])
    return (image / 3 * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    return {f"scene {i}": picture(i, (600, 800)) for i in range(2)} | {
        f"thing {i}": picture(10 + i, (400, 400)) for i in range(4)
    }


class TestMetrics:
    def test_gmsd_of_equal_pictures_is_none_and_grows_with_blur(self):
        sharp = picture(0, (64, 96)).astype(np.float32) / 255
        found = [gmsd(cv2.GaussianBlur(sharp, (0, 0), sigma), sharp) for sigma in (0.5, 1, 2)]
        assert gmsd(sharp, sharp) == 0
        assert found == sorted(found)
        assert found[0] > 0

    def test_gmsd_sees_a_blurred_part_more_than_another_brightness(self):
        sharp = picture(0, (64, 96)).astype(np.float32) / 255 * 0.9
        part = sharp.copy()
        part[:32] = cv2.GaussianBlur(part[:32], (0, 0), 2)
        assert gmsd(part, sharp) > 5 * gmsd(sharp + 0.05, sharp)

    def test_detail_is_less_in_a_softer_picture_and_the_same_in_a_brighter_one(self):
        sharp = picture(0, (64, 96)).astype(np.float32) / 255 * 0.9
        assert detail(cv2.GaussianBlur(sharp, (0, 0), 1)) < 0.8 * detail(sharp)
        assert detail(sharp + 0.05) == pytest.approx(detail(sharp), rel=1e-3)


class TestList:
    def test_the_list_has_every_row_of_motion_at_both_sizes(self):
        listed = [Listed(**row) for row in json.loads(scenes.LIST.read_text())["scenes"]]
        listed = [replace(scene, size=(scene.size[0], scene.size[1])) for scene in listed]
        assert Counter(scene.row for scene in listed) == dict.fromkeys(ROWS, 8)
        assert Counter(scene.size for scene in listed) == {HD: 48, FULL_HD: 16}
        assert len({scene.digest for scene in listed}) == len(listed)

    def test_chosen_scenes_have_the_motion_of_their_row(self, pictures, monkeypatch):
        monkeypatch.setattr("evaluation.scene_list.SHAPES", (((96, 128), "camera"), ((96, 128), "object")))
        monkeypatch.setattr("evaluation.scene_list.CUT_OUTS", 400)
        chosen = choose(pictures, 0, rows=((4, 8), (8, 16)))
        assert [scene.row for scene in chosen] == [(4, 8), (4, 8), (8, 16), (8, 16)]
        for scene in chosen:
            shot = Shot(scene, pictures)
            assert motion_of(shot.scene) == pytest.approx(scene.motion, rel=0.01)
            assert shot.digest == scene.digest

    def test_the_truth_lies_between_the_given_frames(self, pictures):
        """What moves along the known flow from the middle is what the given frames show."""
        shot = Shot(Listed(3, (96, 128), "camera", ("scene 0",), 10.0), pictures)
        flow = shot.scene.flow(0.5, 1)
        y, x = np.indices((96, 128), dtype=np.float32)
        found = cv2.remap(shot.scene.frame(1), x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC)
        inner = (slice(16, -16), slice(16, -16))
        assert np.abs(found[inner].astype(int) - shot.truth[inner].astype(int)).mean() < 2

    def test_other_pixels_give_no_figures(self, pictures):
        other = Listed(3, (96, 128), "camera", ("scene 0",), 10.0, 10.0, "0" * 16)
        with pytest.raises(OtherPixelsError, match="seed 3"):
            scenes.read_shot(other, pictures)


def row(motion: float, psnr: Mapping[str, float] = MappingProxyType({}), size: tuple[int, int] = HD) -> scenes.Row:
    figures = {"full size": 30.0, "1/2": 30.0, "1/4": 30.0, scenes.AUTO: 30.0, scenes.FLOW: 30.0, scenes.BLEND: 20.0}
    figures |= psnr
    measured = {name: {"psnr": value, "ssim": 0.9, "gmsd": 0.1} for name, value in figures.items()}
    return scenes.Row(Listed(0, size, "camera", (), motion, motion), measured)


class TestReport:
    def test_the_best_scale_is_known_from_the_truth(self):
        rows = [row(3, {"full size": 35}), row(30, {"1/4": 37})]
        assert [scenes.means([one])[scenes.BEST]["psnr"] for one in rows] == [35, 37]
        assert scenes.means(rows)[scenes.BEST]["psnr"] == 36

    def test_scenes_fall_into_rows_of_motion_and_sizes(self):
        groups = scenes.groups([row(3), row(30), row(40, size=FULL_HD)])
        assert {name: len(part) for name, part in groups.items()} == {
            "2 to 4 px": 1,
            "24 to 48 px": 2,
            "1280 x 720": 2,
            "1920 x 1080": 1,
            "all": 3,
        }

    @pytest.mark.parametrize(
        ("figures", "met"),
        [
            ({}, [True, True, False, True]),
            ({scenes.AUTO: 33}, [True, True, True, True]),
            ({scenes.AUTO: 29.5, "full size": 20}, [False, True, True, False]),
            ({scenes.AUTO: 28.5, "full size": 20}, [False, False, True, False]),
        ],
    )
    def test_what_is_asked_of_auto(self, figures: dict[str, float], met: list[bool]):
        assert [asked[-1] for asked in scenes.checks([row(30, figures)])] == met

    def test_a_row_below_flow_is_not_made_up_for_by_others(self):
        asked = list(scenes.checks([row(3, {scenes.AUTO: 29}), row(30, {scenes.AUTO: 40})]))
        assert not asked[-1][-1]
        assert asked[-1][1] == pytest.approx(-1)

    def test_tables_have_every_group(self):
        rows = [row(3), row(30)]
        for text in (scenes.table(rows), scenes.summary(rows)):
            for name in scenes.groups(rows):
                assert f"| {name} |" in text
