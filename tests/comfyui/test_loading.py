"""The pack loads in a real ComfyUI, under whatever folder name people give it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import contract
import pytest
from setup.install import ROOT
from setup.server import LocalServer

NODE_IDS = sorted(contract.read("contract.json"))


@pytest.fixture(scope="module", params=["amt-frame-interpolation", "My_AMT_pack"])
def folder_and_server(request: pytest.FixtureRequest, start_server) -> tuple[str, LocalServer]:
    """The shared server has the pack under the first name; another one gets it under the other."""
    if request.param == "amt-frame-interpolation":
        return request.param, request.getfixturevalue("comfyui_server")
    return request.param, start_server({request.param: ROOT})


def complaints(log: str, folder: str) -> list[str]:
    """Lines in which ComfyUI says that a pack did not load, or warns of it by name."""
    lines = log.partition("To see the GUI go to")[0].splitlines()  # what comes later is said by workflows
    return [
        line
        for line in lines
        if "IMPORT FAILED" in line
        or "Traceback (most recent call last)" in line
        or (re.search(r"\[(WARNING|ERROR|CRITICAL)\]|Error", line) and folder in line)
    ]


def test_loads_without_complaint(folder_and_server: tuple[str, LocalServer]) -> None:
    folder, server = folder_and_server
    log = server.log_text()
    assert re.search(rf"\d seconds: .*[\\/]{re.escape(folder)}\n", log), log
    assert complaints(log, folder) == []


def test_every_node_is_there(folder_and_server: tuple[str, LocalServer]) -> None:
    folder, server = folder_and_server
    known = {name: info["python_module"] for name, info in server.get("/object_info").items()}
    ours = sorted(name for name, module in known.items() if module == f"custom_nodes.{folder}")
    assert ours == NODE_IDS


def test_a_pack_that_does_not_load_is_noticed(start_server, tmp_path: Path) -> None:
    """The check above can fail: ComfyUI says so in the way that it looks for."""
    broken = tmp_path / "broken-pack"
    broken.mkdir()
    (broken / "__init__.py").write_text("async def comfy_entrypoint():\n    raise RuntimeError('no')\n", "utf-8")
    server = start_server({"broken-pack": broken})
    assert any("IMPORT FAILED" in line for line in complaints(server.log_text(), "broken-pack"))


def test_no_node_file_imports_another() -> None:
    files = {path.stem: path.read_text("utf-8") for path in (ROOT / "nodes").glob("*.py")}
    families = {name for name, text in files.items() if re.search(r"^NODES\b", text, re.MULTILINE)}
    assert {"interpolate", "interpolate_video", "load_model", "fal"} <= families
    for name in families:
        assert not families & set(re.findall(r"from \.(\w+) import", files[name])), name


def test_a_broken_file_costs_its_own_nodes_alone(start_server, tmp_path: Path) -> None:
    pack = tmp_path / "amt-damaged"
    shutil.copytree(ROOT, pack, ignore=shutil.ignore_patterns(".*", "tests", "runs", "*.safetensors"))
    broken = {"interpolate": "AMTInterpolate", "load_frames": "AMTLoadFrames", "load_model": "AMTModelLoader"}
    for file in broken:
        (pack / "nodes" / f"{file}.py").write_text("import a_package_that_is_not_there\n", "utf-8")
    server = start_server({pack.name: pack})
    for node in NODE_IDS:
        assert (server.object_info(node) == {}) == (node in broken.values()), node
    for file in broken:
        assert f"nodes/{file}.py are missing" in server.log_text()
