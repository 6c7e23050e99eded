"""The translations against the nodes' schemas, whose English texts are the source."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
from amt_frame_interpolation.models.catalogue import CATALOGUE
from setup.install import ROOT

LOCALES = ROOT / "locales"
LANGUAGES = ("zh", "zh-TW", "ja", "ko", "fr", "es", "ru", "pt-BR")


def read(language: str, file: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / file).read_text("utf-8"))


def texts(schema: Any) -> dict[str, Any]:
    """A schema's English texts, in the form of nodeDefs.json."""

    def slot(name: str, content: Any) -> dict[str, Any]:
        labels = getattr(content, "extra_dict", {}).get("labels", {})
        return {
            "name": name,
            **({"tooltip": content.tooltip} if content.tooltip else {}),
            **({"options": labels} if labels else {}),
        }

    # a dot would begin another level: the editor looks for it with "_" instead
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": {item.id.replace(".", "_"): slot(item.display_name or item.id, item) for item in schema.inputs},
        "outputs": {
            str(index): slot(item.display_name or item.id or item.io_type, item)
            for index, item in enumerate(schema.outputs)
        },
    }


@pytest.fixture(scope="module")
def english(comfy: ModuleType) -> dict[str, Any]:
    """All nodes' texts, in the form of nodeDefs.json."""
    from amt_frame_interpolation.nodes import AMTExtension

    async def load() -> list[type]:
        extension = AMTExtension()
        await extension.on_load()
        return await extension.get_node_list()

    schemas = [node.define_schema() for node in asyncio.run(load())]
    assert schemas
    return {schema.node_id: texts(schema) for schema in schemas}


def leaves(content: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def test_every_text_is_there_in_english(english: dict[str, Any]) -> None:
    """Everything has a tooltip, and every node a description of one sentence."""
    for node, content in english.items():
        assert re.fullmatch(r"(?:[^.]|\.(?=\w))+\.", content["description"]), node
        for kind in ("inputs", "outputs"):
            for slot, shown in content[kind].items():
                assert shown.get("tooltip", "").endswith("."), (node, kind, slot)


def test_languages() -> None:
    """English is in the schemas alone."""
    assert {path.name for path in LOCALES.iterdir()} == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_key_is_missing_and_none_is_made_up(english: dict[str, Any], language: str) -> None:
    translated = {path for path, _ in leaves(read(language, "nodeDefs.json"))}
    assert translated == {path for path, _ in leaves(english)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts(english: dict[str, Any], language: str) -> None:
    original = dict(leaves(english))
    for path, text in leaves(read(language, "nodeDefs.json")):
        assert isinstance(text, str), path
        assert text, path
        assert text == text.strip(), path
        # vue-i18n gives these a meaning: links, placeholders, plurals. As text they are written {'@'}.
        assert not re.search(r"[@{}|]", re.sub(r"\{'[@{}|]+'\}", "", text)), path
        if path[-1] in ("tooltip", "description"):
            assert text != original[path], f"not translated: {path}"
            # numbers and the names of files, variables and folders stay what they are
            for kept in re.findall(r"\d[\d.]*\d|\d|[A-Z_]{4,}|models/\w+|https|base64", original[path]):
                assert kept in text.replace("\u202f", "").replace(",", ".") or kept in text, (path, kept)


def test_every_word_of_a_list_has_a_label(english: dict[str, Any]) -> None:
    """web/editor.js shows it in place of the value, in the language of the editor."""
    from amt_frame_interpolation.nodes import AMTExtension

    for node in asyncio.run(AMTExtension().get_node_list()):
        schema: Any = node.define_schema()
        for item in schema.inputs:
            words = [o for o in getattr(item, "options", None) or [] if re.fullmatch("[a-z ]+", o)]
            assert set(words) <= set(english[schema.node_id]["inputs"][item.id].get("options", {})), item.id


@pytest.mark.parametrize("language", LANGUAGES)
def test_tooltips_explain_the_choices_as_the_list_shows_them(english: dict[str, Any], language: str) -> None:
    """And name the API's value, where it is another word."""
    translated = read(language, "nodeDefs.json")
    for texts in (english, translated):
        for node, content in texts.items():
            for name, shown in content["inputs"].items():
                for value, label in shown.get("options", {}).items():
                    told = shown["tooltip"].lower()
                    assert label.lower() in told, (node, name, label)
                    assert value in told, (node, name, value)


@pytest.mark.parametrize("language", [None, *LANGUAGES])
def test_licence_and_size_of_a_model_are_told_before_it_is_downloaded(
    english: dict[str, Any], language: str | None
) -> None:
    texts = read(language, "nodeDefs.json") if language else english
    tooltip = texts["AMTModelLoader"]["inputs"]["model_name"]["tooltip"]
    assert told_of(tooltip) == [(r.name, f"{r.bytes / 1e6:.1f}" if r.bytes else "", r.licence) for r in CATALOGUE]


def told_of(text: str) -> list[tuple[str, str, str]]:
    """Of each model that a text tells of: its file, its size in MB where that is known, and its licence."""
    found = re.findall(r"([\w-]+\.(?:safetensors|pth)) ?[(（]([^,，、]+)[,，、] ?([^)）]+)[)）]", text)
    return [(name, "".join(re.findall(r"^[\d.]+", size)), licence) for name, size, licence in found]


@pytest.mark.parametrize("language", LANGUAGES)
def test_categories(english: dict[str, Any], language: str) -> None:
    """The pack's own part of the category is named; "video" is ComfyUI's."""
    assert set(read(language, "main.json")) == {"nodeCategories"}
    assert set(read(language, "main.json")["nodeCategories"]) == {"AMT"}
