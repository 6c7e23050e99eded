"""What a person does with the nodes in the editor: find, understand, run, watch, go wrong, save."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from editor_page import EditorPage
from servers import PACK_FOLDER
from setup.install import ROOT
from setup.server import LocalServer

expect = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed here").expect

TEMPLATE = "amt_04_frame_interpolation_two_images_to_2_seconds"
PROMPT: dict[str, Any] = json.loads((ROOT / "workflows" / "api" / f"{TEMPLATE}.json").read_text("utf-8"))
RATES = itertools.count(12)
"""Frames a second: other ones for each run, which ComfyUI's cache does not hold."""


def ours(editor: EditorPage) -> dict[str, dict[str, Any]]:
    """The pack's nodes: {type: what the server says of it}."""
    known = editor.server.get("/object_info")
    return {name: info for name, info in known.items() if info["python_module"] == f"custom_nodes.{PACK_FOLDER}"}


def test_every_node_is_found_and_added(editor: EditorPage) -> None:
    nodes = {node: info["display_name"] for node, info in ours(editor).items() if not info["deprecated"]}
    assert nodes
    for node_type, title in nodes.items():
        editor.search(title)
        editor.choose(title)
        assert editor.types() == [node_type]


def test_the_words_that_people_type_find_it(editor: EditorPage, picture: Callable[..., None]) -> None:
    editor.search("vfi")
    field = editor.page.locator("[role=dialog] input:focus")
    hits = editor.page.get_by_text("AMT Frame Interpolation", exact=True).locator("visible=true")
    for words in ("rife", "film", "slow motion", "smooth", "interpolate frames", "vfi", "fps", "tween"):
        field.fill("xyzzy")
        expect(hits).to_have_count(0)
        field.fill(words)
        expect(hits.first).to_be_visible()
    picture("search")
    editor.page.keyboard.press("Escape")


FIRST = {
    "interpolate": "AMT Frame Interpolation",
    "slow motion": "AMT Video Interpolation",
    "60 fps": "AMT Video Interpolation",
    "smooth": "AMT Frame Interpolation",
    "rife": "AMT Frame Interpolation",
    "gif": "AMT Frame Interpolation",
    "loop": "AMT Frame Interpolation",
    "speed": "AMT Video Interpolation",
    "speed curve": "AMT Video Interpolation",
}
"""The first node of this pack that the search should offer."""


def test_the_right_node_is_offered_first(editor: EditorPage) -> None:
    """And fal.ai's nodes, which cost money and need a key, below those that do the same on this machine."""
    titles = {info["display_name"] for info in ours(editor).values()}
    editor.search("vfi")
    field = editor.page.locator("[role=dialog] input:focus")
    hits = editor.page.locator("[role=dialog] [role=option]")

    def offered() -> list[str]:
        lines = (line for text in hits.all_inner_texts() for line in text.splitlines())
        return [line for line in lines if line in titles]

    for words, first in FIRST.items():
        field.fill("xyzzy")
        expect(hits).to_have_count(0)
        field.fill(words)
        editor.wait_until(offered)
        assert offered()[0] == first, words
        for paid in (title for title in offered() if "(fal.ai)" in title):
            assert offered().index(paid.replace(" (fal.ai)", "")) < offered().index(paid), words
    editor.page.keyboard.press("Escape")


def test_a_link_let_go_over_the_canvas_leads_to_it(editor: EditorPage) -> None:
    source = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 2, "color": 0}}
    shown = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    editor.load_prompt({"1": source, "2": shown}, "link")
    editor.page.wait_for_timeout(500)  # the view moves to show the workflow
    editor.drop_link("EmptyImage")
    editor.page.get_by_text("Search", exact=True).last.click()
    editor.page.locator("[role=dialog] input:focus").fill("AMT Frame Interpolation")
    editor.choose("AMT Frame Interpolation")
    (added,) = (node for node in editor.prompt().values() if node["class_type"] == "AMTInterpolate")
    assert added["inputs"]["images"] == ["1", 0]


def test_help(editor: EditorPage, picture: Callable[..., None]) -> None:
    editor.open_template(PACK_FOLDER, TEMPLATE)
    page = editor.open_help("AMTImagesToVideo")
    expect(page.get_by_role("heading", name="AMT Images to Video")).to_be_visible()
    drawn = page.locator("img").first
    drawn.scroll_into_view_if_needed()
    editor.page.wait_for_function("img => img.complete && img.naturalWidth > 0", arg=drawn.element_handle())
    picture("help")


def test_progress_and_result(editor: EditorPage, picture: Callable[..., None]) -> None:
    editor.open_template(PACK_FOLDER, TEMPLATE)
    editor.page.evaluate(
        """() => {
            const images = window.app.rootGraph.nodes.filter(node => node.type === "LoadImage")
            images.forEach((node, index) => {
                const [widget] = node.widgets
                widget.value = `large_${"ab"[index]}.png`
                widget.callback(widget.value)
            })
        }"""
    )
    editor.set_widget("seconds", 0)
    editor.set_widget("recursive_interpolation_passes", 3)
    editor.set_widget("output_fps", next(RATES))
    editor.run()
    assert "of 9 frames" in editor.wait_for_text("AMTImagesToVideo", " left")
    editor.page.wait_for_function(
        """() => {
            const node = window.app.rootGraph.nodes.find(node => node.type === "AMTImagesToVideo")
            return window.app.nodePreviewImages?.[node.id]?.length || node.imgs?.length
        }"""
    )
    picture("running")
    said = editor.wait_for_text("AMTImagesToVideo", "9 frames in")
    assert "350 x 350" in said
    assert "amt-s-open.safetensors on cpu, fp32" in said
    editor.wait_for_output("SaveVideo")
    video = editor.page.locator("video").first
    video.evaluate("async video => { video.muted = true; video.loop = true; await video.play() }")
    editor.page.wait_for_function("video => video.currentTime > 0.1", arg=video.element_handle())
    expect(editor.page.get_by_text("0 active")).to_be_visible()
    editor.page.wait_for_timeout(1500)
    expect(editor.page.get_by_text("9 frames in")).to_be_visible()  # and stays, when the job is over
    picture("done")
    picture("graph", editor.place_of_nodes())


def test_a_result_that_comes_from_the_cache_is_told_again(editor: EditorPage) -> None:
    prompt = json.loads(json.dumps(PROMPT))
    prompt["4"]["inputs"] |= {"seconds": 0, "recursive_interpolation_passes": 1, "output_fps": next(RATES)}
    editor.load_prompt(prompt, "first")
    editor.run()
    told = editor.wait_for_text("AMTImagesToVideo", "3 frames in")
    editor.wait_for_output("SaveVideo")
    editor.load_prompt(prompt, "second")  # new nodes, which have nothing to show
    editor.run()
    assert editor.wait_for_text("AMTImagesToVideo", "3 frames in") == told
    editor.page.wait_for_timeout(1500)
    assert editor.wait_for_text("AMTImagesToVideo", "3 frames in") == told  # and stays, when the job is over


def test_an_error_says_what_to_do(editor: EditorPage, picture: Callable[..., None]) -> None:
    prompt = json.loads(json.dumps(PROMPT))
    prompt["20"] = {"class_type": "PrimitiveInt", "inputs": {"value": 40}}
    prompt["4"]["inputs"]["recursive_interpolation_passes"] = ["20", 0]
    editor.load_prompt(prompt, "wrong")
    editor.run()
    expect(editor.page.get_by_text("AMT Images to Video failed")).to_be_visible()
    editor.page.get_by_role("button", name="View details").first.click()
    expect(editor.page.get_by_text("expected a whole number from 0 to 8, got 40").first).to_be_visible()
    picture("error")


def old_workflow() -> dict[str, Any]:
    """With ComfyUI-Frame-Interpolation's node, as the editor saved it; that pack is not here."""

    def node(key: int, node_type: str, inputs: list[dict[str, Any]], links: list[int], *values: object) -> dict:
        return {
            "id": key,
            "type": node_type,
            "pos": [350 * key, 100],
            "size": [300, 130],
            "flags": {},
            "order": key,
            "mode": 0,
            "inputs": inputs,
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": links}] if links else [],
            "properties": {"Node name for S&R": node_type},
            "widgets_values": list(values),
        }

    def frames(name: str, link: int) -> dict[str, Any]:
        return {"name": name, "type": "IMAGE", "link": link}

    states = {"name": "optional_interpolation_states", "type": "INTERPOLATION_STATES", "link": None}
    return {
        "last_node_id": 203,
        "last_link_id": 2,
        "nodes": [
            node(201, "EmptyImage", [], [1], 64, 48, 2, 255),
            node(202, "AMT VFI", [frames("frames", 1), states], [2], "amt-l.pth", 10, 4),
            node(203, "PreviewImage", [frames("images", 2)], []),
        ],
        "links": [[1, 201, 0, 202, 0, "IMAGE"], [2, 202, 0, 203, 0, "IMAGE"]],
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def test_amt_vfi_is_replaced(editor: EditorPage, picture: Callable[..., None]) -> None:
    editor.load(old_workflow(), "old")
    expect(editor.page.get_by_text("AMT VFI can be replaced")).to_be_visible()
    editor.page.get_by_role("button", name="View details").first.click()
    replace = editor.page.get_by_role("button", name="Replace Node").first
    replace.wait_for()
    picture("replace")
    replace.click()
    editor.page.wait_for_function("() => window.app.rootGraph.nodes.some(node => node.type === 'AMTReplacedVFI')")
    prompt = editor.prompt()
    assert prompt["202"]["inputs"] == {"model_name": "amt-l.pth", "multiplier": 4, "images": ["201", 0]}
    assert prompt["203"]["inputs"] == {"images": ["202", 0]}


KEYFRAMES = """value => {
    const graph = window.app.rootGraph
    const [blueprint] = graph.nodes
    const images = LiteGraph.createNode("EmptyImage")
    graph.add(images)
    images.pos = [blueprint.pos[0] - 320, blueprint.pos[1]]
    const given = {width: 96, height: 64, batch_size: 2, color: value}
    images.widgets.forEach(widget => { widget.value = given[widget.name] })
    images.connect(0, blueprint, 0)
}"""
VIDEO = """() => {
    const graph = window.app.rootGraph
    const [blueprint] = graph.nodes
    const video = LiteGraph.createNode("LoadVideo")
    graph.add(video)
    video.pos = [blueprint.pos[0] - 420, blueprint.pos[1]]
    video.widgets.find(widget => widget.name === "file").value = "amt_demo_car.mp4"
    video.connect(0, blueprint, 0)
}"""
"""JavaScript: what a blueprint needs, connected."""


@pytest.mark.parametrize(
    ("words", "name", "source", "nodes"),
    [
        ("keyframes to video", "AMT Keyframes to Video", KEYFRAMES, {"EmptyImage", "AMTImagesToVideo"}),
        ("smooth video", "AMT Smooth Video", VIDEO, {"LoadVideo", "AMTInterpolateVideo"}),
    ],
)
def test_blueprint(
    editor: EditorPage, picture: Callable[..., None], words: str, name: str, source: str, nodes: set[str]
) -> None:
    """The node library's blueprints: one node, images or a video in, a saved video out."""
    editor.search(words)
    editor.choose(name)
    editor.page.evaluate(source, len(editor.complaints))
    editor.set_widget("recursive_interpolation_passes", 2)
    editor.set_widget("output_fps", 10)
    prompt = {node["class_type"]: node["inputs"] for node in editor.prompt().values()}
    assert set(prompt) == {"AMTModelLoader", "SaveVideo"} | nodes
    (made,) = (inputs for node, inputs in prompt.items() if node in ("AMTImagesToVideo", "AMTInterpolateVideo"))
    assert (made["recursive_interpolation_passes"], made["output_fps"]) == (2, 10)
    assert prompt["AMTModelLoader"]["model_name"] == "amt-s-open.safetensors"
    before = set(editor.server.get("/history"))
    editor.run()

    def finished() -> list[dict[str, Any]]:
        history = editor.server.get("/history")
        return [job for key, job in history.items() if key not in before and job["status"]["completed"]]

    (job,) = editor.wait_until(finished)
    files = [file for output in job["outputs"].values() for file in output.get("images", [])]
    assert any(file["filename"].endswith(".mp4") and file["type"] == "output" for file in files)
    picture(f"blueprint_{name}")


def test_saved_and_loaded_again(editor: EditorPage, picture: Callable[..., None]) -> None:
    """Every widget of the pack comes back from a saved workflow with another value than its default."""
    # What earlier tests made is still known by the ids of its nodes, and would be shown.
    compiled = {"torch_compile": True}
    prompt: dict[str, Any] = {
        "101": {"class_type": "AMTModelLoader", "inputs": {"model_name": "amt-l.pth", "precision": "fp32"} | compiled},
        "102": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 2, "color": 255}},
    }
    for key, node in enumerate(ours(editor), start=103):
        inputs: dict[str, Any] = {}
        if node == "AMTModelLoader":
            continue
        info = editor.server.object_info(node)
        for name, (kind, *rest) in {**info["input"]["required"], **info["input"].get("optional", {})}.items():
            options = rest[0] if rest else {}
            if kind == "COMBO":
                inputs[name] = options["options"][-1]
            elif kind == "BOOLEAN":
                inputs[name] = not options["default"]
            elif kind in ("INT", "FLOAT"):
                inputs[name] = min(options["default"] + 1, options["max"])
            elif kind == "STRING":
                inputs[name] = "https://example.com/a.png\nhttps://example.com/b.png"
            elif kind == "IMAGE":
                inputs[name] = ["102", 0]
            elif kind == "INTERP_MODEL":
                inputs[name] = ["101", 0]
        prompt[str(key)] = {"class_type": node, "inputs": inputs}
    editor.load_prompt(prompt, "all")
    before = editor.prompt()
    for key, node in prompt.items():
        assert before[key]["inputs"] == node["inputs"]
    editor.page.keyboard.press("Control+s")
    name = editor.page.get_by_role("dialog").get_by_role("textbox")
    name.fill("kept")
    name.press("Enter")
    assert isinstance(editor.server, LocalServer)
    file = Path(editor.server.base, "user", "default", "workflows", "kept.json")
    editor.page.wait_for_function("() => !document.querySelector('[role=dialog]')")
    editor.wait_until(lambda: file.is_file() and file.stat().st_size)
    saved = json.loads(file.read_text("utf-8"))
    file.unlink()
    editor.clear()
    editor.load(saved, "kept")
    assert editor.prompt() == before
    picture("all_nodes")


def test_language(editor: EditorPage, picture: Callable[..., None]) -> None:
    texts = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text("utf-8"))["AMTInterpolate"]
    prompt = {"1": {"class_type": "AMTInterpolate", "inputs": {"recursive_interpolation_passes": 3}}}
    try:
        editor.set("Comfy.Locale", "zh")
        editor.open()
        editor.load_prompt(prompt, "zh")
        labels = editor.page.evaluate(
            """() => {
                const [node] = window.app.rootGraph.nodes
                return [node.title, node.widgets[0].label, ...node.outputs.map(slot => slot.localized_name)]
            }"""
        )
        assert labels[0] == texts["display_name"]
        assert labels[1] == texts["inputs"]["recursive_interpolation_passes"]["name"]
        assert labels[3] == texts["outputs"]["1"]["name"]
        page = editor.open_help("AMTInterpolate")
        heading = (ROOT / "web" / "docs" / "AMTInterpolate" / "zh.md").read_text("utf-8").splitlines()[0].lstrip("# ")
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        picture("chinese")
    finally:
        editor.set("Comfy.Locale", "en")
        editor.open()


def test_the_pack_adds_one_script_to_the_page(editor: EditorPage) -> None:
    """And no other request: the editor asks for the pack's other files when somebody opens them.

    All nodes, translations and names of templates come in answers that are there without the pack, too.
    """
    asked: list[str] = []
    editor.page.on("request", lambda request: asked.append(request.url))
    editor.open()
    script = f"/extensions/{PACK_FOLDER}/editor.js"
    assert [url for url in asked if "amt" in url.lower()] == [editor.server.url + script]
    assert [path for path in editor.server.get("/extensions") if PACK_FOLDER in path] == [script]
