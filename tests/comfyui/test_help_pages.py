"""The help pages: what the editor shows in a node's Info tab."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from setup.install import ROOT

DOCS = ROOT / "web" / "docs"
LANGUAGES = ("en", "zh", "ja")
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def schemas(comfy: ModuleType) -> dict[str, Any]:
    from amt_frame_interpolation.nodes import AMTExtension

    async def load() -> list[Any]:
        extension = AMTExtension()
        await extension.on_load()
        return await extension.get_node_list()

    return {schema.node_id: schema for schema in (node.define_schema() for node in asyncio.run(load()))}


def test_every_node_has_its_pages_and_no_other(schemas: dict[str, Any]) -> None:
    """NODE/LANGUAGE.md is asked for first, NODE.md where there is none in that language."""
    wanted = {f"{node}.md" for node in schemas} | {f"{node}/{lang}.md" for node in schemas for lang in LANGUAGES}
    assert {page.relative_to(DOCS).as_posix() for page in PAGES} == wanted


def test_english_is_the_page_for_other_languages(schemas: dict[str, Any]) -> None:
    for node in schemas:
        assert (DOCS / f"{node}.md").read_text("utf-8") == (DOCS / node / "en.md").read_text("utf-8")


def test_pages_name_every_input_and_output(schemas: dict[str, Any]) -> None:
    for node, schema in schemas.items():
        slots = [item.id for item in schema.inputs] + [item.id or item.io_type for item in schema.outputs]
        for language in LANGUAGES:
            named = re.findall(r"\*\*(\w+)\*\*", (DOCS / node / f"{language}.md").read_text("utf-8"))
            for slot in slots:
                assert slot in named, (node, language, slot)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_pictures_are_there(page: Path) -> None:
    """The editor looks for them in the folder of the pages, wherever the page lies."""
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text("utf-8")):
        assert (DOCS / picture).is_file(), picture


def test_one_script_is_loaded_with_the_editor() -> None:
    """ComfyUI has the browser import every .js below the web folder."""
    assert list((ROOT / "web").rglob("*.js")) == [ROOT / "web" / "editor.js"]
