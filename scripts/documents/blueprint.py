"""Makes the subgraph blueprints that the editor lists with its own: subgraphs/NAME.json.

  python scripts/documents blueprint

The nodes are loaded into the real editor, turned into a subgraph there, and saved as the editor saves it. Needs what
the browser tests need; run it with ComfyUI's Python.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from setup.editor import Editor, open_editor
from setup.install import PACK_FOLDER, ROOT
from setup.server import LocalServer

from documents.templates import lay_out, pack_of

FOLDER = ROOT / "subgraphs"


@dataclass(frozen=True)
class Blueprint:
    """A loader, one of the pack's nodes that makes a video, and a node that saves it."""

    name: str
    description: str
    node: str
    """The pack's node."""
    key: str
    """What its ids are made of, so that they stay the same."""
    shown: tuple[tuple[int, str], ...]
    """What the subgraph's node shows, in this order: inputs of the nodes in it."""

    @property
    def prompt(self) -> dict[str, Any]:
        return {
            "1": {"class_type": "AMTModelLoader", "inputs": {}},
            "2": {"class_type": self.node, "inputs": {"interp_model": ["1", 0]}},
            "3": {
                "class_type": "SaveVideo",
                "inputs": {"video": ["2", 0], "filename_prefix": "video/AMT", "format": "auto", "codec": "auto"},
            },
        }


BLUEPRINTS = (
    Blueprint(
        name="AMT Keyframes to Video",
        description="Makes a smooth video from keyframes, or from any image batch, and saves it.",
        node="AMTImagesToVideo",
        key="blueprint",
        shown=(
            (2, "images"),
            (2, "output_fps"),
            (2, "recursive_interpolation_passes"),
            (2, "end"),
            (1, "model_name"),
            (3, "filename_prefix"),
        ),
    ),
    Blueprint(
        name="AMT Smooth Video",
        description="Makes a video smoother, slower, or of an exact frame rate, keeps its sound, and saves it.",
        node="AMTInterpolateVideo",
        key="blueprint-video",
        shown=(
            (2, "video"),
            (2, "time"),
            (2, "recursive_interpolation_passes"),
            (2, "output_fps"),
            (1, "model_name"),
            (3, "filename_prefix"),
        ),
    ),
)

MAKE_SUBGRAPH = """shown => {
    const {subgraph, node} = window.app.rootGraph.convertToSubgraph(new Set(window.app.rootGraph.nodes))
    for (const [id, name] of shown) {
        const inner = subgraph.getNodeById(id)
        const slot = inner.inputs.find(input => input.name === name)
        subgraph.addInput(name, slot.type).connect(slot, inner)
    }
    const video = subgraph.getNodeById(2)
    subgraph.addOutput("VIDEO", "VIDEO").connect(video.outputs[0], video)
    return node.id
}"""


def make_blueprint(editor: Editor, server: LocalServer, made: Blueprint) -> dict[str, Any]:
    editor.load_prompt(made.prompt, made.key)
    editor.page.evaluate(MAKE_SUBGRAPH, made.shown)
    workflow = editor.workflow()
    (outer,) = workflow["nodes"]
    (subgraph,) = workflow["definitions"]["subgraphs"]
    subgraph["id"] = outer["type"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK_FOLDER}/{made.key}"))
    for kind in ("inputs", "outputs"):  # the editor numbers them at random
        for slot in subgraph[kind]:
            slot["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK_FOLDER}/{made.key}/{kind}/{slot['name']}"))
    subgraph |= {"name": made.name, "category": "Video Tools", "description": made.description}
    lay_out(subgraph, made.prompt)
    for node in subgraph["nodes"]:
        node["properties"] = {"Node name for S&R": node["type"], **pack_of(server, node["type"])}
    right = max(node["pos"][0] + node["size"][0] for node in subgraph["nodes"])
    subgraph["inputNode"]["bounding"][:2] = [-250, 0]
    subgraph["outputNode"]["bounding"][:2] = [right + 100, 0]
    # The picture that is shown while frames are made. The editor would take the saved video for an image.
    preview = "$$canvas-image-preview"
    outer |= {
        "title": made.name,
        "pos": [0, 0],
        "size": [340, 190],
        "properties": {
            **pack_of(server, made.node),
            "previewExposures": [{"name": preview, "sourceNodeId": "2", "sourcePreviewName": preview}],
        },
    }
    return {
        "revision": 0,
        "last_node_id": outer["id"],
        "last_link_id": 0,
        "nodes": [outer],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {},
    }


def main() -> None:
    with open_editor() as (editor, server):
        for blueprint in BLUEPRINTS:
            editor.open()
            path = FOLDER / f"{blueprint.name}.json"
            path.write_text(json.dumps(make_blueprint(editor, server, blueprint), indent=2) + "\n", "utf-8")
            print(path.relative_to(ROOT))
