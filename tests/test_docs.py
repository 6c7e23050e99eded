"""The documentation names what there is: files, commands and their options, nodes, inputs, environment variables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import contract
import pytest
from setup.install import ROOT

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "models/*.md", ".github/*.md")
    for path in ROOT.glob(pattern)
)
OF_COMFYUI = {"models/amt", "models/frame_interpolation"}
"""Folders of ComfyUI that look like ours."""
OTHERS_OPTIONS = {"--ignore": "pytest", "--lowvram": "ComfyUI"}
OTHERS_NAMES = {
    *("AMT VFI", "AMT VFI (replaced)"),  # a node of another pack, and what stands in for it
    *(path.stem for path in (ROOT / "subgraphs").glob("*.json")),  # the blueprints
    "AMT Frame Interpolation for ComfyUI",  # the pack
}


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def code(page: str) -> Iterator[str]:
    """Every piece of code in the page: what stands between backticks, and each line of a block."""
    text = read(page)
    for block in re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", read(page))
    ours = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in ours if not ((ROOT / page).parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page: str) -> None:
    tops = {path.name for path in ROOT.iterdir() if path.is_dir()} - {".ci", ".comfyui", "runs"}
    named = {match for text in code(page) for match in re.findall(r"(?<![\w/.-])[\w.-]+(?:/[\w.-]+)+", text)}
    ours = {path for path in named if path.partition("/")[0] in tops and path not in OF_COMFYUI}
    ours -= {path for path in ours if path.startswith("video/AMT")}  # SaveVideo's prefix for file names
    assert {path for path in ours if not (ROOT / path).exists()} == set()


# ---- commands


@cache
def options(script: str) -> set[str]:
    """The options of scripts/SCRIPT: of one file, or of all parsers in a folder. Read, not run: torch is slow."""
    path = ROOT / "scripts" / script
    files = path.glob("*.py") if path.is_dir() else [path]
    return {
        str(argument.value)
        for file in files
        for call in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"
        for argument in call.args
        if isinstance(argument, ast.Constant) and str(argument.value).startswith("--")
    }


def all_options() -> set[str]:
    return {option for path in (ROOT / "scripts").iterdir() for option in options(path.name)}


@pytest.mark.parametrize("page", PAGES)
def test_commands_run_what_there_is(page: str) -> None:
    for text in code(page):
        for script, rest in re.findall(r"python3? scripts/([\w./]+)([^|&;#]*)", text):
            path = ROOT / "scripts" / script
            assert (path / "__main__.py" if path.is_dir() else path).is_file(), text
            words = rest.split()
            used = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert used <= options(script) | OTHERS_OPTIONS.keys(), text
            if path.is_dir() and words and words[0].isidentifier():  # a command of that folder
                assert (path / f"{words[0]}.py").is_file(), text


@pytest.mark.parametrize("page", PAGES)
def test_options_exist(page: str) -> None:
    """Also those that stand alone, as in: with `--initial FILE` more hours are added."""
    known = all_options() | OTHERS_OPTIONS.keys() | {"--help"}
    for text in code(page):
        if text.startswith("--"):
            assert set(re.findall(r"--[a-z][\w-]*", text)) <= known, text


def test_options_are_found() -> None:
    """The reading of the parsers finds what is known to be there."""
    assert "--port" in options("comfyui.py")
    assert "--samples" in options("training")


# ---- nodes


class Named(NamedTuple):
    nodes: set[str]
    shown: set[str]
    """Display names."""


@cache
def nodes() -> Named:
    """Node ids and display names, read from the schemas without ComfyUI."""
    found = [
        {keyword.arg: keyword.value.value for keyword in call.keywords if isinstance(keyword.value, ast.Constant)}
        for path in (ROOT / "nodes").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "Schema"
    ]
    return Named({str(schema["node_id"]) for schema in found}, {str(schema["display_name"]) for schema in found})


def test_schemas_are_found() -> None:
    assert nodes().nodes == contract.read("contract.json").keys()


@pytest.mark.parametrize("page", PAGES)
def test_nodes_are_called_by_their_names(page: str) -> None:
    names = set(re.findall(r"\*+((?:AMT|Load AMT|Load Frames)\b[^*\n|]*)\*+", read(page)))
    assert names <= nodes().shown | OTHERS_NAMES


def test_the_readme_has_a_row_for_every_node() -> None:
    rows = set(re.findall(r"^\| \*\*(.+?)\*\* \|", read("README.md"), re.MULTILINE))
    assert rows == nodes().shown - {"AMT VFI (replaced)"}


def slots() -> dict[str, set[str]]:
    """Every input and output of the nodes, with the options that it has."""
    found: dict[str, set[str]] = {}
    for node in contract.read("contract.json").values():
        for slot in (*node["inputs"], *node["outputs"]):
            given = slot.get("options", [])
            keys = [option["key"] if isinstance(option, dict) else option for option in given]
            found.setdefault(slot["name"], set()).update(keys if isinstance(given, list) else [])
    return found


OF_OTHERS = {"_meta", "frame_rate", "frames", "logs", "custom_nodes", "amt_frame_interpolation"}
"""Words in the pages that look like inputs, and belong to requests, to other packs or to Python."""


def told(page: str) -> str:
    """The page without the first column of its tables in docs/migration.md: what things are called elsewhere."""
    return re.sub(r"^\|[^|]*\|", "|", read(page), flags=re.MULTILINE) if page == "docs/migration.md" else read(page)


@pytest.mark.parametrize("page", ["README.md", "docs/migration.md"])
def test_inputs_and_their_options_exist(page: str) -> None:
    known = slots()
    text = re.sub(r"^```.*?^```", "", told(page), flags=re.MULTILINE | re.DOTALL)
    for piece in re.findall(r"`([^`\n]+)`", text):
        if match := re.fullmatch(r"([a-z]\w+): ([\w ]+)", piece):
            name, option = match.groups()
            assert name in OF_OTHERS or option in known.get(name, ()), piece
        elif re.fullmatch(r"[a-z0-9]*(?:_[a-z0-9]+)+", piece):
            assert piece in known or piece in OF_OTHERS, piece


# ---- environment variables and the specification


@cache
def source() -> str:
    """All Python files of the pack, its scripts and its tests but this one, as one text."""
    top = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".") and path.name != "runs"]
    files = {*ROOT.glob("*.py"), *(path for folder in top for path in folder.rglob("*.py"))} - {Path(__file__)}
    return "\n".join(path.read_text("utf-8") for path in files)


@pytest.mark.parametrize("page", PAGES)
def test_environment_variables_are_read_somewhere(page: str) -> None:
    names = {name for text in code(page) for name in re.findall(r"^([A-Z]+(?:_[A-Z]+)+)(?:=\S*)?$", text)}
    assert {name for name in names - {"GLIBC_TUNABLES"} if name not in source()} == set()


def test_cited_sections_of_the_specification_exist() -> None:
    sections = set(re.findall(r"^## (\d)\.", read("docs/network.md"), re.MULTILINE))
    assert set(re.findall(r"docs/network\.md,? sections? (\d)", source())) <= sections
