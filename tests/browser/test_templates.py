"""The templates in the real editor."""

from __future__ import annotations

import json

import pytest
from _comfyui_setup import ROOT
from _editor import Editor
from servers import PACK_FOLDER

NAMES = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_link_opens_the_api_workflow(editor: Editor, name: str) -> None:
    """What the editor queues for the template is workflows/api/NAME.json."""
    prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))
    types = {node["class_type"] for node in prompt.values()}
    for node_type in types:
        if not editor.server.object_info(node_type):
            pytest.skip(f"{node_type} is not here: set VHS_PATH to VideoHelperSuite's folder")
    editor.open(f"/?template={name}&source={PACK_FOLDER}", nodes=types)
    queued = editor.prompt()
    for node in queued.values():  # newer frontends name the node's pack there
        node["_meta"] = {"title": node["_meta"]["title"]}
        node["inputs"].pop("video-preview", None)  # the editor's own, there once the video is shown
    assert queued == prompt
