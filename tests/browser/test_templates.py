"""The templates in the real editor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from editor_page import EditorPage
from servers import PACK_FOLDER
from setup.install import ROOT
from setup.server import LocalServer

NAMES = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))
SENDS = ("AMTFalInterpolate", "AMTFalInterpolateVideo")
"""Needs a key, and costs: opened here, and not run."""
STARTS_A_CLUSTER = ("AMTInterpolateVideoRay",)
"""Run by tests/comfyui/test_workflows.py: opened here."""
SHOWS_RESULT = ("SaveVideo", "VHS_VideoCombine")
"""Shows a video."""
ANIMATION = "SaveAnimatedWEBP"
"""Shows an animated picture."""

LASTS = {
    "amt_01_frame_interpolation_16_to_32_fps_with_sound": 3 / 24,
    "amt_02_frame_interpolation_to_60_fps_with_sound": 3 / 24,
    "amt_03_frame_interpolation_image_batch_to_video": 3 / 24,
    "amt_04_frame_interpolation_two_images_to_2_seconds": 2,
    "amt_05_frame_interpolation_slow_motion": 2 * 3 / 24,
    "amt_10_frame_interpolation_vhs_video_combine": 3 / 24,
}
"""Seconds that the picture lasts, of a clip of three frames at 24 a second: nobody typed a rate that they belong to."""


def seconds_of(path: Path) -> float:
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        return float((stream.duration or 0) * (stream.time_base or 0))


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
def test_template(editor: EditorPage, name: str, picture: Callable[..., None], request: pytest.FixtureRequest) -> None:
    """Out of the dialog comes what workflows/api has, and when run, it shows its result.

    The server gets the same from both kinds of nodes, so in classic ones only the most common jobs are run.
    """
    prompt = read(name)
    types = {node["class_type"] for node in prompt.values()}
    if unknown := editor.server.unknown_nodes(prompt):
        pytest.skip(f"{unknown[0]} is not here: set VHS_PATH to VideoHelperSuite's folder")
    editor.open_template(PACK_FOLDER, name)
    assert queued(editor) == prompt
    classic = request.node.callspec.params["editor"].endswith("classic")
    if types.intersection(SENDS) or types.intersection(STARTS_A_CLUSTER) or (classic and name not in LASTS):
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
        if name in LASTS:
            assert isinstance(editor.server, LocalServer)
            path = editor.server.base / "output" / file["subfolder"] / file["filename"]
            assert seconds_of(path) == pytest.approx(LASTS[name], abs=1 / 24)
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
