"""The house as docs/development.md draws it: which room may import which, and how large a file may grow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from setup.install import ROOT

ROOMS: dict[str, set[str]] = {
    "printable": set(),
    "waiting": set(),
    "amt.out_of_memory": set(),
    "amt.network": set(),
    "amt.timeline": set(),
    "amt.fast": {"amt.network", "amt.out_of_memory"},
    "amt": {"amt.network", "amt.timeline", "amt.fast", "amt.out_of_memory"},
    "models": {"amt", "amt.network", "amt.fast", "printable", "waiting"},
    "video": {"amt", "amt.timeline", "printable", "waiting"},
    "remote": {"amt.timeline", "video", "printable", "waiting"},
    "cluster": {"amt", "amt.network", "amt.timeline", "amt.fast", "models", "video", "printable", "waiting"},
}
"""Each room with those that it may import. `nodes` may import all of them, and none imports `nodes`."""
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server", "execution"}
LONGEST = 300
"""Lines of a file that ComfyUI loads."""


def runtime() -> list[Path]:
    tops = {name.partition(".")[0] for name in ROOMS} | {"nodes"}
    files = (path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0].removesuffix(".py") in tops)
    return sorted(files)


FILES = {path.relative_to(ROOT).as_posix(): path for path in runtime()}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}


def module(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module(name): name for name in FILES}


def room(name: str) -> str:
    """The room of a module: the longest of the rooms' names that it begins with."""
    return max((r for r in (*ROOMS, "nodes") if name == r or name.startswith(f"{r}.")), key=len)


def imports(name: str) -> Iterator[tuple[str, bool]]:
    """What a file imports, wherever in it: modules of the pack (True) and of others (False)."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or "", False
        elif isinstance(node, ast.ImportFrom):
            base = name.split("/")[: -node.level]
            stem = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:  # a name of a package may be a module in it
                inner = f"{stem}.{alias.name}" if stem else alias.name
                yield (inner if inner in MODULES else stem), True


def own(name: str) -> set[str]:
    return {imported for imported, ours in imports(name) if ours}


def test_every_import_of_the_pack_is_understood() -> None:
    """What is imported is found: the other tests look at everything."""
    assert {imported for name in FILES for imported in own(name)} <= MODULES.keys()
    assert own("nodes/interpolate.py")


@pytest.mark.parametrize("name", FILES)
def test_arrows_run_one_way(name: str) -> None:
    here = room(module(name))
    allowed = {here, *ROOMS} if here == "nodes" else {here, *ROOMS[here]}
    assert {imported for imported in own(name) if room(imported) not in allowed} == set()


def test_no_import_circle() -> None:
    graph = {name: {target for target in own(path) if target != name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these import each other: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("name", [name for name in FILES if room(module(name)) != "nodes"])
def test_only_nodes_know_comfyui(name: str) -> None:
    """A machine that only computes needs none."""
    assert {imported.partition(".")[0] for imported, ours in imports(name) if not ours}.isdisjoint(COMFYUI)


@pytest.mark.parametrize("name", FILES)
def test_own_modules_are_imported_by_relative_names(name: str) -> None:
    """ComfyUI imports the pack under the name of its folder, and has a module `nodes` of its own."""
    tops = {path.partition("/")[0].removesuffix(".py") for path in FILES} - {"nodes"}
    assert {imported.partition(".")[0] for imported, ours in imports(name) if not ours}.isdisjoint(tops)
    if name != "models/transfer.py":  # a program of its own, which takes the folder of this pack out of its path
        assert "sys.path" not in FILES[name].read_text("utf-8")


def test_no_node_file_imports_another() -> None:
    """So a broken file costs its own nodes alone."""
    with_nodes = {
        name
        for name, tree in TREES.items()
        if name.startswith("nodes/")
        and any(isinstance(target, ast.Name) and target.id == "NODES" for target in assigned(tree))
    }
    assert "nodes/interpolate.py" in with_nodes
    assert {name: shared for name in with_nodes if (shared := {MODULES[m] for m in own(name)} & with_nodes)} == {}


def assigned(tree: ast.Module) -> Iterator[ast.expr]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from node.targets
        elif isinstance(node, ast.AnnAssign):
            yield node.target


def test_the_plan_knows_no_tensors() -> None:
    assert "torch" not in {imported.partition(".")[0] for imported, _ in imports("amt/timeline/plan.py")}


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_too_long_to_read(name: str) -> None:
    assert len(FILES[name].read_text("utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("name", FILES)
def test_exceptions_are_called_errors(name: str) -> None:
    exceptions = [
        node.name
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ClassDef)
        and any(
            isinstance(base, ast.Name) and (base.id.endswith(("Error", "Exception")) or base.id == "Warning")
            for base in node.bases
        )
    ]
    assert [exception for exception in exceptions if not exception.endswith(("Error", "Warning"))] == []
