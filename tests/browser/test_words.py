"""What can be read on the nodes, at the width that they have when they are new, in all languages of the pack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from editor_page import EditorPage
from servers import PACK_FOLDER
from setup.install import ROOT

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed here")

LOCALES = ROOT / "locales"
LANGUAGES = ("en", *sorted(path.name for path in LOCALES.iterdir()))

ADD = """types => {
    const graph = window.app.rootGraph
    graph.clear()
    let left = 50
    for (const type of types) {
        const node = LiteGraph.createNode(type)
        graph.add(node)
        node.pos = [left, 80]
        node.showAdvanced = true
        left += node.size[0] + 60
    }
    window.app.canvas.ds.scale = 1
    window.app.canvas.ds.offset = [0, 0]
}"""
"""JavaScript: new nodes beside one another, with all of their inputs."""

CHOOSE = """nth => {
    const lists = window.app.rootGraph.nodes.flatMap(node => node.widgets ?? []).filter(({type}) => type === "combo")
    for (const list of lists) {
        list.value = list.options.values[nth % list.options.values.length]
        list.callback?.(list.value)
    }
    return Math.max(...lists.map(list => list.options.values.length))
}"""
"""JavaScript: the nth choice of each list. Returns how many the longest has."""

DRAWN = """() => {
    const {canvas, rootGraph} = window.app
    const pen = CanvasRenderingContext2D.prototype
    const {fillText} = pen
    const drawn = [], cut = []
    for (const node of rootGraph.nodes) {
        const texts = new Set()
        pen.fillText = function (text, ...place) {
            texts.add(String(text))
            return fillText.call(this, text, ...place)
        }
        canvas.ds.offset = [100 - node.pos[0], 100 - node.pos[1]]
        canvas.draw(true, true)
        pen.fillText = fillText
        const slots = [...node.inputs.filter(slot => !slot.widget), ...node.outputs]
        const wanted = [node.getTitle(), ...slots.map(slot => slot.label || slot.localized_name || slot.name)]
        for (const widget of node.widgets ?? []) {
            if (widget.element || !node.isWidgetVisible(widget)) continue
            wanted.push(widget.label || widget.name)
            if (widget.type === "toggle") {  // drawn over one another where there is no room for both
                const [label, value] = [wanted.at(-1), "false"].map(text => canvas.ctx.measureText(text).width)
                if (label + value > node.size[0] - 75) cut.push(`${node.type}: ${wanted.at(-1)} covers its value`)
            } else wanted.push(widget._displayValue)
        }
        drawn.push(...wanted)
        cut.push(...wanted.filter(text => text && !texts.has(text)).map(text => `${node.type}: ${text}`))
    }
    return [drawn, cut]
}"""
"""JavaScript: what classic nodes have to show, and what of it they do not draw in full."""

SHOWN = """() => {
    const drawn = [], cut = []
    for (const part of document.querySelectorAll("[data-node-id] *")) {
        const own = [...part.childNodes].some(inner => inner.nodeType === Node.TEXT_NODE && inner.textContent.trim())
        const text = part.tagName === "INPUT" ? part.value : own ? part.textContent.trim() : ""
        if (!text || !part.clientWidth) continue
        drawn.push(text)
        if (part.scrollWidth > part.clientWidth) {
            const node = window.app.rootGraph.getNodeById(part.closest("[data-node-id]").dataset.nodeId)
            cut.push(`${node.type}: ${text}, ${part.clientWidth} of ${part.scrollWidth} pixels`)
        }
    }
    return [drawn, cut]
}"""
"""JavaScript: the same of Vue nodes."""


@pytest.fixture
def english_again(editor: EditorPage) -> Iterator[None]:
    yield
    editor.set("Comfy.Locale", "en")
    editor.open()


@pytest.mark.usefixtures("english_again")
def test_all_is_readable_in_all_languages(editor: EditorPage, request: pytest.FixtureRequest) -> None:
    """Titles, sockets, labels, and each choice of each list, as ComfyUI makes a new node."""
    known = editor.server.get("/object_info")
    ours = [name for name, info in known.items() if info["python_module"] == f"custom_nodes.{PACK_FOLDER}"]
    assert len(ours) >= 8
    classic = request.node.callspec.params["editor"].endswith("classic")
    unreadable: dict[str, set[str]] = {}
    for language in LANGUAGES:
        editor.set("Comfy.Locale", language)
        editor.open()
        editor.page.evaluate(ADD, ours)
        seen: set[str] = set()
        nth, most = 0, 1
        while nth < most:
            most = editor.page.evaluate(CHOOSE, nth)
            editor.page.wait_for_timeout(0 if classic else 300)  # the page draws when it is idle
            drawn, cut = editor.page.evaluate(DRAWN if classic else SHOWN)
            seen.update(drawn)
            unreadable.setdefault(language, set()).update(cut)
            nth += 1
        assert labels_in(language, known, ours) - seen == set(), language
    assert {language: cut for language, cut in unreadable.items() if cut} == {}


def labels_in(language: str, known: dict[str, Any], ours: list[str]) -> set[str]:
    """The labels of all lists' choices in that language."""
    if language == "en":
        inputs = [item for node in ours for group in known[node]["input"].values() for item in group.values()]
        return {label for item in inputs if len(item) > 1 for label in item[1].get("labels", {}).values()}
    nodes = json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8")).values()
    return {label for node in nodes for item in node["inputs"].values() for label in item.get("options", {}).values()}
