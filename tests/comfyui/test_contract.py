"""Node ids, inputs and outputs are a contract with everybody's saved workflows: no change goes unnoticed."""

from __future__ import annotations

import asyncio
import copy
import difflib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import contract
import pytest
from fal_stand_in import StandIn
from PIL import Image
from servers import PACK_FOLDER, VHS_FOLDER, ServerStarter
from setup.install import ROOT
from setup.server import LocalServer
from tiny_video import video_bytes

WORKFLOWS = contract.DATA / "workflows-0.1.0"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))


@pytest.fixture(scope="module")
def current(comfy: ModuleType) -> dict[str, Any]:
    from amt_frame_interpolation.nodes import AMTExtension

    async def load() -> list[type]:
        extension = AMTExtension()
        await extension.on_load()
        return await extension.get_node_list()

    return contract.contract_of(asyncio.run(load()))


def test_the_schemas_are_those_that_are_written_down(current: dict[str, Any]) -> None:
    """A change to a node is a change to tests/data/contract.json too, made by hand and on purpose."""
    written = (contract.DATA / "contract.json").read_text("utf-8").splitlines()
    diff = difflib.unified_diff(written, contract.as_text(current).splitlines(), "contract.json", "nodes", lineterm="")
    assert not (lines := list(diff)), "\n".join(lines)


def test_workflows_saved_with_version_0_1_0_fit_the_nodes(current: dict[str, Any]) -> None:
    assert contract.broken_promises(contract.read("contract-0.1.0.json"), current) == []


def _first(nodes: dict[str, Any], part: str = "inputs") -> list[dict[str, Any]]:
    return nodes["AMTImagesToVideo"][part]


BREAKING: dict[str, Callable[[dict[str, Any]], object]] = {
    "a node that is gone": lambda nodes: nodes.pop("AMTImagesToVideo"),
    "an input that is gone": lambda nodes: _first(nodes).pop(),
    "a renamed input": lambda nodes: _first(nodes)[2].update(name="fps"),
    "inputs in another order": lambda nodes: _first(nodes).reverse(),
    "another type": lambda nodes: _first(nodes)[2].update(type="INT"),
    "an input in the middle": lambda nodes: _first(nodes).insert(1, {"name": "x", "type": "INT", "optional": True}),
    "a new required input": lambda nodes: _first(nodes).append({"name": "x", "type": "INT"}),
    "an input that was optional": lambda nodes: _first(nodes)[-1].pop("optional"),
    "a higher minimum": lambda nodes: _first(nodes)[3].update(min=1),
    "a lower maximum": lambda nodes: _first(nodes)[3].update(max=7),
    "an option that is gone": lambda nodes: _first(nodes)[4]["options"].pop(),
    "another output": lambda nodes: _first(nodes, "outputs").insert(0, {"name": "images", "type": "IMAGE"}),
}


@pytest.mark.parametrize("change", BREAKING)
def test_a_breaking_change_is_seen(change: str) -> None:
    released = contract.read("contract-0.1.0.json")
    changed = copy.deepcopy(released)
    BREAKING[change](changed)
    assert contract.broken_promises(released, changed)


def test_an_addition_breaks_nothing() -> None:
    released = contract.read("contract-0.1.0.json")
    changed = copy.deepcopy(released)
    changed["AMTNewNode"] = changed["AMTInterpolate"]
    _first(changed).append({"name": "x", "type": "INT", "optional": True})
    _first(changed, "outputs").append({"name": "fps", "type": "FLOAT"})
    _first(changed)[3].update(max=9, default=1)
    assert contract.broken_promises(released, changed) == []


@pytest.fixture(scope="module")
def small_server(start_server: ServerStarter, fal_service: StandIn, vhs_path: Path | None) -> LocalServer:
    """A server whose demo pictures and demo clip are small, and that takes a stand-in for fal.ai."""

    def prepare(base: Path) -> None:
        (base / "input" / "amt_demo_clip.mp4").write_bytes(video_bytes(4, 96, 96))
        for source in (ROOT / "media").glob("amt_demo_*.png"):
            with Image.open(source) as picture:
                picture.resize((96, 96)).save(base / "input" / source.name)

    packs = {PACK_FOLDER: ROOT} | ({VHS_FOLDER: vhs_path} if vhs_path else {})
    return start_server(packs, env={**fal_service.environment, "FAL_KEY": "an-id:a-secret"}, prepare=prepare)


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_of_version_0_1_0_runs(name: str, small_server: LocalServer) -> None:
    """Unchanged, as somebody has it on disk: nothing is refused, and a video comes out."""
    prompt = json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))
    unknown = small_server.unknown_nodes(prompt)
    if unknown and all(node.startswith("VHS_") for node in unknown):
        pytest.skip("no VideoHelperSuite here: set VHS_PATH to its folder, or install it in ComfyUI's custom_nodes")
    assert not unknown
    history = set(small_server.get("/history"))
    result = small_server.queue(prompt, timeout=300)
    if name == "vhs_meta_batch":  # its first run is one batch of many, and queues the next one by itself
        assert set(small_server.get("/history")) > history
    else:
        assert [file.filename for file in result.files if file.filename.endswith(".mp4")]
