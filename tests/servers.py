"""A real ComfyUI for tests, in two tiers.

`comfyui_server` is a server with the pack (and VideoHelperSuite where there is one) that all tests of a run share;
`start_server` starts one more, with other options. `comfy` makes ComfyUI's modules importable in the test process, for
tests that need no server.

ComfyUI is found as scripts/comfyui.py finds it. Tests are skipped where there is none; where COMFYUI_PATH names one,
they fail if it cannot be used.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest
from setup.install import PACK_FOLDER, ROOT, ComfyUI, find_or_made
from setup.server import LocalServer, lay_base

VHS_FOLDER = "ComfyUI-VideoHelperSuite"

ServerStarter = Callable[..., LocalServer]


def _missing(reason: str) -> NoReturn:
    if os.environ.get("COMFYUI_PATH"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def comfyui() -> ComfyUI:
    """The ComfyUI to test with: its folder and its Python."""
    found = find_or_made()
    if found is None:
        _missing("no ComfyUI here: set COMFYUI_PATH, or let `python3 scripts/comfyui.py test` make one")
    return found


@pytest.fixture(scope="session")
def start_server(comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerStarter]:
    """Starts a server on the CPU with a base directory of its own, and stops it at the end of the run.

    `start_server(packs={folder name: path}, arguments=[...], env={...}, prepare=callable, base=folder)`; `packs`
    defaults to this pack alone, `prepare` gets the base directory before the start, to put models or input files there.
    """
    servers: list[LocalServer] = []

    def start(
        packs: Mapping[str, Path] | None = None,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        prepare: Callable[[Path], object] | None = None,
        base: Path | None = None,
    ) -> LocalServer:
        base = base or tmp_path_factory.mktemp("comfyui")
        packs = {PACK_FOLDER: ROOT} if packs is None else packs
        server = LocalServer.private(comfyui, base, packs, arguments=arguments, env=env, prepare=prepare)
        servers.append(server)
        return server

    try:
        yield start
    finally:
        with ThreadPoolExecutor() as pool:  # ComfyUI takes seconds to stop
            list(pool.map(LocalServer.stop, servers))


@pytest.fixture(scope="session")
def vhs_path(comfyui: ComfyUI) -> Path | None:
    """VideoHelperSuite's folder: VHS_PATH, or in ComfyUI's custom_nodes; None where there is none."""
    named = os.environ.get("VHS_PATH")
    if named:
        path = Path(named).expanduser().absolute()
        assert (path / "videohelpersuite").is_dir(), f"VHS_PATH is {named}, which is not VideoHelperSuite"
        return path
    custom_nodes = comfyui.folder / "custom_nodes"
    there = [path for path in custom_nodes.glob("*") if (path / "videohelpersuite").is_dir()]
    return there[0] if there else None


@pytest.fixture(scope="session")
def comfyui_server(start_server: ServerStarter, vhs_path: Path | None) -> LocalServer:
    """The server that the tests share; it has VideoHelperSuite where there is one."""
    return start_server({PACK_FOLDER: ROOT} | ({VHS_FOLDER: vhs_path} if vhs_path else {}))


@pytest.fixture(scope="session")
def vhs_server(comfyui_server: LocalServer, vhs_path: Path | None) -> LocalServer:
    """The shared server, for tests that need VideoHelperSuite's nodes."""
    if vhs_path is None:
        pytest.skip("no VideoHelperSuite here: set VHS_PATH to its folder, or install it in ComfyUI's custom_nodes")
    assert comfyui_server.object_info("VHS_VideoCombine"), (
        f"VideoHelperSuite did not load:\n{comfyui_server.log_text()}"
    )
    return comfyui_server


@pytest.fixture(scope="session")
def comfy(comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Makes ComfyUI's modules importable in this process (on the CPU, with a base directory of its own).

    Import what needs them inside the test or a fixture, after this one. Returns the package `comfy`.
    """
    base = lay_base(tmp_path_factory.mktemp("comfy"), {})
    sys.path.insert(0, str(comfyui.folder))  # in front, as it is when ComfyUI runs: it has top-level names like `utils`
    arguments, sys.argv = sys.argv, ["main.py", "--cpu", "--base-directory", str(base)]
    try:
        importlib.import_module("comfy.options").enable_args_parsing()
        importlib.import_module("comfy.cli_args")
        importlib.import_module("folder_paths")
        importlib.import_module("comfy.model_management")
        return importlib.import_module("comfy")
    except ImportError as error:
        sys.path.remove(str(comfyui.folder))
        _missing(f"{sys.executable} cannot import ComfyUI ({error}); run pytest with {comfyui.python}")
    finally:
        sys.argv = arguments


# ---- a failing test shows what the servers that it used have written meanwhile

_log_start = pytest.StashKey[dict[str, int]]()


def _servers(item: pytest.Item) -> dict[str, LocalServer]:
    used: Mapping[str, Any] = getattr(item, "funcargs", {})
    return {name: value for name, value in used.items() if isinstance(value, LocalServer)}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    item.stash[_log_start] = {name: server.log_size() for name, server in _servers(item).items()}
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call" and report.failed:
        for name, server in _servers(item).items():
            text = server.log_text(item.stash[_log_start].get(name, 0))
            report.sections.append((f"{name} wrote", "\n".join(text.splitlines()[-60:])))
    return report
