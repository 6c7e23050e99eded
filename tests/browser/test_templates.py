"""The templates in the real editor."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from editor_page import EditorPage
from servers import PACK_FOLDER
from setup.install import ROOT

NAMES = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))
SENDS = ("AMTFalInterpolate", "AMTFalInterpolateVideo")
"""Needs a key, and costs: opened here, and not run."""
SHOWS_RESULT = ("SaveVideo", "VHS_VideoCombine")
"""Shows a video."""
ANIMATION = "SaveAnimatedWEBP"
"""Shows an animated picture."""


def read(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))


def queued(editor: EditorPage) -> dict[str, Any]:
    prompt = editor.prompt()
    for node in prompt.values():  # newer frontends name the node's pack there
        node["_meta"] = {"title": node["_meta"]["title"]}
        node["inputs"].pop("video-preview", None)  # the editor's own, there once a video is shown
    return prompt


def test_a_link_opens_a_template(editor: EditorPage) -> None:
    name = "amt_04_frame_interpolation_two_images_to_2_seconds"
    editor.open(f"/?template={name}&source={PACK_FOLDER}", nodes=["AMTImagesToVideo"])
    assert queued(editor) == read(name)


def test_the_dialog_lists_them(editor: EditorPage, picture: Callable[..., None]) -> None:
    editor.clear()
    dialog = editor.list_templates(PACK_FOLDER)
    for name in NAMES:
        editor.template(dialog, name)
    dialog.get_by_text(PACK_FOLDER).first.click()
    picture("templates")
    editor.page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


@pytest.mark.parametrize("name", NAMES)
def test_template(editor: EditorPage, name: str, picture: Callable[..., None]) -> None:
    """Out of the dialog comes what workflows/api has, and when run, it shows its result."""
    prompt = read(name)
    types = {node["class_type"] for node in prompt.values()}
    if unknown := editor.server.unknown_nodes(prompt):
        pytest.skip(f"{unknown[0]} is not here: set VHS_PATH to VideoHelperSuite's folder")
    editor.open_template(PACK_FOLDER, name)
    assert queued(editor) == prompt
    if types.intersection(SENDS):
        picture(name)
        return
    for widget, value in (("recursive_interpolation_passes", 1), ("multiplier", 2)):
        editor.set_widget(widget, value)
    editor.run()
    if ANIMATION in types:
        (shown, *_) = editor.wait_for_output(ANIMATION)["images"]
        assert shown["filename"].endswith(".webp")
        picture(name)
        return
    for node_type in types.intersection(SHOWS_RESULT):
        ((file,),) = (
            value
            for value in editor.wait_for_output(node_type).values()
            if isinstance(value, list) and isinstance(value[0], dict)
        )
        assert file["filename"].endswith(".mp4")
    editor.page.wait_for_function(
        """() => {
            const video = [...document.querySelectorAll("video")].find(video => video.src.includes("type=output"))
            if (!video || video.readyState < 2) return false
            video.muted = video.loop = true
            video.play()
            return video.currentTime > 0
        }"""
    )
    picture(name)
