"""Makes the subgraph blueprint that the editor lists with its own: subgraphs/AMT Keyframes to Video.json.

  python scripts/documents blueprint

The nodes are loaded into the real editor, turned into a subgraph there, and saved as the editor saves it. Needs what
the browser tests need; run it with ComfyUI's Python.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from setup.editor import Editor, open_editor
from setup.install import PACK_FOLDER, ROOT
from setup.server import LocalServer

from documents.templates import lay_out, pack_of

TARGET = ROOT / "subgraphs" / "AMT Keyframes to Video.json"
DESCRIPTION = "Makes a smooth video from keyframes, or from any image batch, and saves it."
PROMPT: dict[str, Any] = {
    "1": {"class_type": "AMTModelLoader", "inputs": {}},
    "2": {"class_type": "AMTImagesToVideo", "inputs": {"interp_model": ["1", 0]}},
    "3": {
        "class_type": "SaveVideo",
        "inputs": {"video": ["2", 0], "filename_prefix": "video/AMT", "format": "auto", "codec": "auto"},
    },
}
SHOWN = [
    (2, "images"),
    (2, "output_fps"),
    (2, "recursive_interpolation_passes"),
    (2, "end"),
    (1, "model_name"),
    (3, "filename_prefix"),
]
"""What the subgraph's node shows, in this order: inputs of the nodes in it."""

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


def make_blueprint(editor: Editor, server: LocalServer) -> dict[str, Any]:
    editor.load_prompt(PROMPT, "blueprint")
    editor.page.evaluate(MAKE_SUBGRAPH, SHOWN)
    workflow = editor.workflow()
    (outer,) = workflow["nodes"]
    (subgraph,) = workflow["definitions"]["subgraphs"]
    subgraph["id"] = outer["type"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK_FOLDER}/blueprint"))
    for kind in ("inputs", "outputs"):  # the editor numbers them at random
        for slot in subgraph[kind]:
            slot["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK_FOLDER}/blueprint/{kind}/{slot['name']}"))
    subgraph |= {"name": TARGET.stem, "category": "Video Tools", "description": DESCRIPTION}
    lay_out(subgraph, PROMPT)
    for node in subgraph["nodes"]:
        node["properties"] = {"Node name for S&R": node["type"], **pack_of(server, node["type"])}
    right = max(node["pos"][0] + node["size"][0] for node in subgraph["nodes"])
    subgraph["inputNode"]["bounding"][:2] = [-250, 0]
    subgraph["outputNode"]["bounding"][:2] = [right + 100, 0]
    # The picture that is shown while frames are made. The editor would take the saved video for an image.
    preview = "$$canvas-image-preview"
    outer |= {
        "title": TARGET.stem,
        "pos": [0, 0],
        "size": [340, 190],
        "properties": {
            **pack_of(server, "AMTImagesToVideo"),
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
        editor.open()
        blueprint = make_blueprint(editor, server)
    TARGET.write_text(json.dumps(blueprint, indent=2) + "\n", "utf-8")
    print(TARGET.relative_to(ROOT))
