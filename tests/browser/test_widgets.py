"""What the editor shows of the nodes' inputs, beside what the server knows of them (web/editor.js)."""

from __future__ import annotations

from typing import Any

import pytest
from editor_page import EditorPage

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed here")

PASSES = "recursive_interpolation_passes"


def video_node(**inputs: Any) -> dict[str, Any]:
    return {"1": {"class_type": "AMTInterpolateVideo", "inputs": {PASSES: 2, "time": "smooth", **inputs}}}


LABELS = {PASSES: "frames", "output_fps": "output_fps", "slow_motion_sound": "slow_motion_sound"}


def shown(editor: EditorPage) -> set[str]:
    """Those of LABELS that are drawn on the first node."""
    editor.page.wait_for_timeout(300)  # the page draws when it is idle
    drawn = editor.page.locator("[data-node-id]")
    if drawn.count():  # Vue nodes are elements of the page
        lines = drawn.first.inner_text().splitlines()
        return {name for name, label in LABELS.items() if label in lines}
    visible = editor.page.evaluate(
        """() => {
            const [node] = window.app.rootGraph.nodes
            return node.widgets.filter(widget => node.isWidgetVisible(widget)).map(widget => widget.name)
        }"""
    )
    return set(visible) & set(LABELS)


def choose(editor: EditorPage, name: str, value: object) -> None:
    """Sets a widget of the first node as a click does: with its callback."""
    editor.page.evaluate(
        """([name, value]) => {
            const widget = window.app.rootGraph.nodes[0].widgets.find(widget => widget.name === name)
            widget.value = value
            widget.callback?.(value)
        }""",
        [name, value],
    )


def label(editor: EditorPage) -> str:
    """What the list of factors says."""
    return editor.page.evaluate(
        """name => {
            const widget = window.app.rootGraph.nodes[0].widgets.find(widget => widget.name === name)
            return widget.options.getOptionLabel(widget.value)
        }""",
        PASSES,
    )


def test_passes_are_shown_as_factors_and_saved_as_numbers(editor: EditorPage) -> None:
    editor.load_prompt(video_node(), "factors")
    assert label(editor) == "4x"
    choose(editor, PASSES, "3")
    assert label(editor) == "8x"
    assert editor.prompt()["1"]["inputs"][PASSES] == 3
    saved = editor.workflow()
    assert saved["nodes"][0]["widgets_values"][0] == 3
    editor.load(saved, "again")
    assert label(editor) == "8x"
    assert editor.prompt()["1"]["inputs"][PASSES] == 3


@pytest.mark.parametrize(
    ("time", "used", "unused"),
    [
        ("smooth", {PASSES}, {"output_fps", "slow_motion_sound"}),
        ("target rate", {"output_fps"}, {PASSES, "slow_motion_sound"}),
        ("slow motion", {PASSES, "slow_motion_sound"}, {"output_fps"}),
    ],
)
def test_only_the_inputs_that_matter_are_shown(editor: EditorPage, time: str, used: set[str], unused: set[str]) -> None:
    editor.load_prompt(video_node(output_fps=30), "time")
    choose(editor, "time", time)
    assert used <= shown(editor)
    assert not unused & shown(editor)
    inputs = editor.prompt()["1"]["inputs"]
    assert inputs["output_fps"] == 30  # hidden or not, every input is there as before
    assert inputs[PASSES] == 2
    editor.load(editor.workflow(), "again")
    assert used <= shown(editor)
    assert not unused & shown(editor)
