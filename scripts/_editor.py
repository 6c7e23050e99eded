"""ComfyUI's graph editor in a real browser: for the templates, the tests and the pictures of the documentation.

Needs Playwright (`pip install playwright`) and a Chromium or Chrome of the system, or the one that
`playwright install chromium` fetches.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _comfyui_server import Client
    from playwright.sync_api import Browser, Page

SETTINGS = {
    "Comfy.TutorialCompleted": True,  # otherwise the first visit opens the list of templates
    "Comfy.Workflow.Persist": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Locale": "en",
    "Comfy.VueNodes.Enabled": False,
}
"""What a test or a picture needs of the editor; see `prepare_settings`."""


class NoBrowser(Exception):
    """There is no browser to drive; the text says what is missing."""


def prepare_settings(base: Path, **changed: object) -> None:
    """Writes the editor's settings into a server's base directory; to be called before the server starts."""
    (base / "user" / "default" / "comfy.settings.json").write_text(json.dumps({**SETTINGS, **changed}), "utf-8")


def find_browser() -> str:
    """Raises NoBrowser."""
    named = os.environ.get("CHROMIUM")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise NoBrowser(
            f"no browser here ({', '.join(names)}): install Chromium (Debian: apt-get install chromium) "
            "or name one in the environment variable CHROMIUM"
        )
    return found


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A headless browser that asks nobody but the server. Raises NoBrowser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NoBrowser("Playwright is not installed here: pip install playwright") from None
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


class Editor:
    """The editor of a server, in one page of a browser."""

    def __init__(self, page: Page, server: Client) -> None:
        self.page = page
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
        self._wait_for(len(prompt))

    def load(self, workflow: Mapping[str, Any], name: str) -> None:
        """Loads a workflow of the editor's own format."""
        self.page.evaluate(
            "async ([graph, name]) => await window.app.loadGraphData(graph, true, true, name)", [workflow, name]
        )
        self._wait_for(len(workflow["nodes"]))

    def _wait_for(self, count: int) -> None:
        self.page.wait_for_function("count => window.app.rootGraph.nodes.length === count", arg=count)

    def workflow(self) -> dict[str, Any]:
        """What is on the canvas, as the editor saves it."""
        return self._converted()["workflow"]

    def prompt(self) -> dict[str, Any]:
        """What is on the canvas, as the editor queues it: the API format."""
        return self._converted()["output"]

    def _converted(self) -> dict[str, Any]:
        # as text: the browser's `undefined` would come out as null otherwise
        return json.loads(self.page.evaluate("async () => JSON.stringify(await window.app.graphToPrompt())"))
