"""What is declared is what is used: packages, the files of the registry's archive, the version."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from setup.install import ROOT, ComfyUI

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OWN = {
    *("comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server"),
    *("torch", "triton"),
}
"""ComfyUI's own modules; and torch, which is made for a machine's GPU (Triton comes with it). See pyproject.toml."""
NAMES = {"PIL": "pillow", "fal_client": "fal-client", "httpx": "fal-client"}
"""Packages whose name is not that of what is imported. httpx is how fal-client speaks, and comes with it."""


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def names(requirements: list[str]) -> set[str]:
    """The packages that these lines of a requirements file ask for, as registries spell them."""
    found = (re.match(r"[A-Za-z0-9][\w.-]*", line) for line in requirements)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


def runtime_files() -> list[Path]:
    """What ComfyUI loads: every Python file but those of the folders for developing."""
    outside = {"tests", "scripts"}
    return [
        path
        for path in ROOT.rglob("*.py")
        if not (parts := path.relative_to(ROOT).parts)[0].startswith(".") and parts[0] not in {*outside, "runs"}
    ]


def imported(path: Path) -> Iterator[str]:
    """The top-level modules of other packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module or ""]
        for module in modules:
            if (top := module.partition(".")[0]) not in sys.stdlib_module_names:
                yield top


def used() -> dict[str, list[str]]:
    """The packages that the runtime imports, each with the files that do."""
    found: dict[str, list[str]] = {}
    for path in runtime_files():
        for module in imported(path):
            if module not in OWN:
                (name,) = names([NAMES.get(module, module)])
                found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    return found


def test_every_import_of_the_runtime_is_declared(metadata: dict[str, Any]) -> None:
    project = metadata["project"]
    optional = (project["optional-dependencies"].get(extra, []) for extra in ("fal", "ray"))
    declared = names([*project["dependencies"], *(package for extra in optional for package in extra)])
    assert {name: files for name, files in used().items() if name not in declared} == {}


def test_every_dependency_is_imported(metadata: dict[str, Any]) -> None:
    assert names(metadata["project"]["dependencies"]) <= used().keys()


def test_nothing_asks_for_another_torch(metadata: dict[str, Any]) -> None:
    """ComfyUI-Manager installs what requirements.txt and install.py ask for; here is neither."""
    everything = [*metadata["project"]["dependencies"]]
    for extra in metadata["project"]["optional-dependencies"].values():
        everything += extra
    assert not {name for name in names(everything) if name.startswith(("torch", "nvidia", "cuda"))}
    assert not [name for name in ("requirements.txt", "install.py") if (ROOT / name).exists()]


def test_comfyui_brings_every_dependency(metadata: dict[str, Any], comfyui: ComfyUI) -> None:
    """So there is nothing to install."""
    brought = names((comfyui.folder / "requirements.txt").read_text("utf-8").splitlines())
    waiting = list(brought)
    while waiting:  # what its packages need in turn
        try:
            needs = importlib.metadata.requires(waiting.pop()) or []
        except importlib.metadata.PackageNotFoundError:  # one that a ComfyUI for tests leaves out
            continue
        new = names([need for need in needs if "extra ==" not in need]) - brought
        brought |= new
        waiting += new
    assert names(metadata["project"]["dependencies"]) <= brought


# ---- the registry's archive


def archive() -> set[str]:
    """The files that `comfy node publish` packs: those that git knows, less what .comfyignore's patterns name."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached"]
    known = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())
    command += ["--ignored", "--exclude-from", str(ROOT / ".comfyignore")]
    return known - set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout: the files that belong to it are not known")
def test_the_archive_has_what_runs_and_nothing_else() -> None:
    files = archive()
    folders = {name.partition("/")[0] for name in files if "/" in name}
    assert not folders & {"tests", "scripts", ".ci", ".github", "runs"}
    runtime = {path.relative_to(ROOT).as_posix() for path in runtime_files()}
    assert runtime <= files
    assert {"LICENSE", "README.md", "pyproject.toml", "models/amt-s-open.safetensors", "media/NOTICE"} <= files
    for folder in ("workflows", "locales", "web", "subgraphs"):
        assert folder in folders
    assert sum((ROOT / name).stat().st_size for name in files) < 40e6


def test_the_version_is_that_of_the_newest_entry_of_the_changelog(metadata: dict[str, Any]) -> None:
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert versions[0] == metadata["project"]["version"]
