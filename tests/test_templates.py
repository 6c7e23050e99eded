"""What the template browser shows: a workflow and a thumbnail for each API workflow (made by scripts/documents)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from setup.install import ROOT

WORKFLOWS = ROOT / "workflows"
NAMES = sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json"))


def read(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def test_every_api_workflow_has_a_template_and_a_thumbnail() -> None:
    assert NAMES
    assert {path.stem for path in WORKFLOWS.glob("*.json")} == set(NAMES)
    assert {path.stem for path in WORKFLOWS.glob("*.jpg")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_name_can_be_linked(name: str) -> None:
    """/?template=NAME&source=PACK takes no other characters."""
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", name)


@pytest.mark.parametrize("name", NAMES)
def test_thumbnail(name: str) -> None:
    path = WORKFLOWS / f"{name}.jpg"
    with Image.open(path) as picture:
        assert picture.format == "WEBP"  # moving, under the name that the template browser asks for
        assert getattr(picture, "n_frames", 1) >= 8
        assert min(picture.size) >= 256
    assert path.stat().st_size < 250_000


@pytest.mark.parametrize("name", NAMES)
def test_template(name: str) -> None:
    prompt = read(WORKFLOWS / "api" / f"{name}.json")
    nodes = read(WORKFLOWS / f"{name}.json")["nodes"]
    (note,) = (node for node in nodes if node["type"] == "MarkdownNote")
    assert "**Change**" in note["widgets_values"][0]
    others = [node for node in nodes if node is not note]
    assert {str(node["id"]): node["type"] for node in others} == {
        key: node["class_type"] for key, node in prompt.items()
    }
    for node in others:  # by these the editor finds the pack of a node that is missing
        assert node["properties"]["cnr_id"]
        assert re.fullmatch(r"\d+\.\d+\.\d+", node["properties"]["ver"])
        assert node["properties"]["Node name for S&R"] == node["type"]
        if node["type"].startswith("AMT"):
            assert node["properties"]["cnr_id"] == "amt-frame-interpolation"


@pytest.mark.parametrize("name", NAMES)
def test_nodes_do_not_lie_on_each_other(name: str) -> None:
    title = 30
    boxes = [(*node["pos"], *node["size"]) for node in read(WORKFLOWS / f"{name}.json")["nodes"]]
    for index, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[:index]:
            beside = x + width < other_x or other_x + other_width < x
            above = y + height < other_y - title or other_y + other_height < y - title
            assert beside or above
