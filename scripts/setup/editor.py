"""ComfyUI's graph editor in a real browser: for the templates, the blueprint and the tests.

Needs Playwright (`pip install playwright`) and a Chromium or Chrome of the system, or the one that
`playwright install chromium` fetches.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup.client import Client
from setup.install import PACK_FOLDER, ROOT, find_or_make
from setup.server import LocalServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SETTINGS = {
    "Comfy.TutorialCompleted": True,  # otherwise the first visit opens the list of templates
    "Comfy.Workflow.Persist": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Locale": "en",
    "Comfy.VueNodes.Enabled": False,
}
"""What a test or a picture needs of the editor; see `prepare_settings`."""


class NoBrowserError(Exception):
    """There is no browser to drive; the text says what is missing."""


def prepare_settings(base: Path) -> None:
    """Writes the editor's settings into a server's base directory; to be called before the server starts."""
    (base / "user" / "default" / "comfy.settings.json").write_text(json.dumps(SETTINGS), "utf-8")


def find_browser() -> str:
    """Raises NoBrowserError."""
    named = os.environ.get("CHROMIUM")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise NoBrowserError(
            f"no browser here ({', '.join(names)}): install Chromium (Debian: apt-get install chromium) "
            "or name one in the environment variable CHROMIUM"
        )
    return found


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A headless browser that asks nobody but the server. Raises NoBrowserError."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NoBrowserError("Playwright is not installed here: pip install playwright") from None
    path = find_browser()
    quiet = ["disable-background-networking", "disable-component-update", "disable-sync", "no-first-run", "disable-gpu"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        quiet.append("no-sandbox")  # Chromium refuses to run as root otherwise
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=[f"--{option}" for option in quiet])
        try:
            yield started
        finally:
            started.close()


@contextlib.contextmanager
def open_editor(packs: Mapping[str, Path] | None = None) -> Iterator[tuple[Editor, LocalServer]]:
    """The editor of a server of its own, with this pack, others, and the pack's demo pictures; both end with this."""
    with tempfile.TemporaryDirectory() as base, browser() as chromium:
        with_ours = {PACK_FOLDER: ROOT, **(packs or {})}
        with LocalServer.private(find_or_make(), Path(base), with_ours, prepare=prepare_settings) as server:
            yield Editor(chromium, server), server


class Editor:
    """The editor of a server, in one page of a browser."""

    def __init__(self, chromium: Browser, server: Client) -> None:
        self.page = chromium.new_page(viewport={"width": 1600, "height": 900})
        self.page.set_default_timeout(120_000)
        self.server = server

    def open(self, path: str = "/", *, nodes: Collection[str] = ()) -> None:
        """Loads the page and waits until the editor can be worked with: until nodes of these types are there.

        By default that is any node: the workflow that the editor starts with would replace one that is loaded earlier.
        """
        self.page.goto(self.server.url + path, wait_until="domcontentloaded")
        self.page.wait_for_function(
            """types => {
                const nodes = window.app?.vueAppReady ? window.app.rootGraph.nodes : []
                const there = new Set(nodes.map(node => node.type))
                return there.size > 0 && types.every(type => there.has(type))
            }""",
            arg=list(nodes),
        )

    def load_prompt(self, prompt: Mapping[str, Any], name: str) -> None:
        """Loads a workflow of the API format, as dropping its file onto the canvas does."""
        self.page.evaluate("async ([prompt, name]) => await window.app.loadApiJson(prompt, name)", [prompt, name])
        self.wait_for_nodes(len(prompt), name)

    def wait_for_nodes(self, count: int, name: str) -> None:
        """Until so many nodes are there, in a tab whose title begins with this."""
        self.page.wait_for_function(
            """([count, name]) => {
                const tab = window.app.extensionManager.workflow.activeWorkflow
                return window.app.rootGraph.nodes.length === count && tab?.filename.startsWith(name)
            }""",
            arg=[count, name],
        )

    def workflow(self) -> dict[str, Any]:
        """What is on the canvas, as the editor saves it."""
        return self.converted()["workflow"]

    def converted(self) -> dict[str, Any]:
        """What is on the canvas, as a workflow of the editor's own format and of the API's."""
        # as text: the browser's `undefined` would come out as null otherwise
        return json.loads(self.page.evaluate("async () => JSON.stringify(await window.app.graphToPrompt())"))
