"""ComfyUI's graph editor in a real browser: for the templates, the tests and the pictures of the documentation.

Needs Playwright (`pip install playwright`) and a Chromium or Chrome of the system, or the one that
`playwright install chromium` fetches.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from setup.install import PACK_FOLDER, ROOT, find_or_make
from setup.server import Client, LocalServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Locator, Response

T = TypeVar("T")

SETTINGS = {
    "Comfy.TutorialCompleted": True,  # otherwise the first visit opens the list of templates
    "Comfy.Workflow.Persist": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Locale": "en",
    "Comfy.VueNodes.Enabled": False,
}
"""What a test or a picture needs of the editor; see `prepare_settings`."""

ON_PAGE = """point => {
    const {canvas, ds} = window.app.canvas
    const [x, y] = ds.convertOffsetToCanvas(point)
    const {left, top} = canvas.getBoundingClientRect()
    return [left + x, top + y]
}"""
"""JavaScript: where on the page a point of the graph is."""


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
        self.page = page = chromium.new_page(viewport={"width": 1600, "height": 900})
        self.page.set_default_timeout(120_000)
        self.server = server
        self.complaints: list[str] = []
        """What the page has complained of: errors in the console, uncaught ones, and requests that failed."""
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on(
            "console", lambda said: self.complaints.append(f"console: {said.text}") if said.type == "error" else None
        )
        page.on("response", lambda answer: self._complain_of(answer))

    def _complain_of(self, answer: Response) -> None:
        if answer.status >= 400:
            self.complaints.append(f"{answer.status} {answer.url}")

    # ---- the page

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

    def command(self, name: str) -> None:
        """Carries out one of the editor's commands, as a menu or a key does."""
        self.page.evaluate("name => window.app.extensionManager.command.execute(name)", name)

    def wait_until(self, check: Callable[[], T], seconds: float = 120) -> T:
        """Asks `check` until it answers with something, and returns that.

        For what the server says: the page's own wait_for_function takes the promise of an async function for an answer.
        """
        for _ in range(round(seconds / 0.1)):
            if answer := check():
                return answer
            self.page.wait_for_timeout(100)
        raise TimeoutError(f"nothing after {seconds:.0f} s")

    def set(self, setting: str, value: object) -> None:
        self.page.evaluate("([key, value]) => window.app.extensionManager.setting.set(key, value)", [setting, value])

    def search(self, text: str) -> None:
        """Opens the search for nodes by a double click on the empty canvas, and types."""
        self.clear()
        field = self.page.locator("[role=dialog] input:focus")
        box = self.page.locator("canvas#graph-canvas").bounding_box()
        assert box
        for _ in range(10):
            # What is closing, or the page that is starting, covers the canvas for a moment.
            self.page.wait_for_function(
                "() => !document.querySelector('[role=dialog], .p-dialog-mask, .p-blockui-mask')"
            )
            self.page.mouse.dblclick(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            self.page.wait_for_timeout(500)
            if self.page.get_by_role("dialog").count():
                break
        field.fill(text)

    def drop_link(self, node_type: str) -> None:
        """Drags a link from the first output of the first node of that type, and lets it go over the empty canvas."""
        x, y = self._place(node_type, "node.getConnectionPos(false, 0)")
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + 60, y + 150, steps=8)
        self.page.mouse.move(800, 750, steps=8)
        self.page.mouse.up()

    def choose(self, title: str) -> None:
        """Adds the node of that title, the first hit of the search that is open."""
        count = len(self.types())
        # the first, by its name; the preview beside the list has it, too
        self.page.get_by_text(title, exact=True).first.wait_for()
        self.page.keyboard.press("Enter")
        self.page.wait_for_function("count => window.app.rootGraph.nodes.length === count", arg=count + 1)
        self.page.wait_for_timeout(300)  # the node hangs on the pointer until a click
        self.page.mouse.move(700, 400)
        self.page.wait_for_timeout(100)
        self.page.mouse.click(700, 400)
        self.page.wait_for_timeout(100)

    def list_templates(self, pack: str) -> Locator:
        """Opens the dialog of templates at those of a pack; returns it."""
        self.set("Comfy.RightSidePanel.IsOpen", False)  # the workflow is fitted to the canvas behind it
        self.command("Comfy.BrowseTemplates")
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_text(pack).first.click()
        dialog.get_by_test_id(re.compile("^template-workflow-")).first.wait_for()
        return dialog

    def template(self, dialog: Locator, name: str) -> Locator:
        """The card of a template in the dialog, with its picture."""
        card = dialog.get_by_test_id(f"template-workflow-{name}")
        card.scroll_into_view_if_needed()  # pictures further down are not loaded yet
        card.locator("img").first.wait_for()
        return card

    def open_template(self, pack: str, name: str) -> None:
        """Opens a template from the dialog, as a person does."""
        self.clear()
        dialog = self.list_templates(pack)
        self.template(dialog, name).click()
        dialog.wait_for(state="hidden")
        self.page.wait_for_function("() => window.app.rootGraph.nodes.length > 0")

    def open_help(self, node_type: str) -> Locator:
        """Clicks on the title of the first node of that type, and on the button for help; returns the page."""
        button = self.page.get_by_test_id("info-button")
        for _ in range(20):  # the view may still be moving to show the workflow
            self.page.mouse.click(*self._place(node_type, "[node.pos[0] + 80, node.pos[1] - 15]"))
            self.page.wait_for_timeout(500)
            if button.is_visible():
                break
        button.click()
        return self.page.locator(".node-help-content")

    # ---- the workflow

    def clear(self) -> None:
        self.page.evaluate("() => window.app.rootGraph.clear()")

    def load_prompt(self, prompt: Mapping[str, Any], name: str) -> None:
        """Loads a workflow of the API format, as dropping its file onto the canvas does."""
        self.page.evaluate("async ([prompt, name]) => await window.app.loadApiJson(prompt, name)", [prompt, name])
        self._wait_for(len(prompt), name)

    def load(self, workflow: Mapping[str, Any], name: str) -> None:
        """Loads a workflow of the editor's own format."""
        self.page.evaluate(
            "async ([graph, name]) => await window.app.loadGraphData(graph, true, true, name)", [workflow, name]
        )
        self._wait_for(len(workflow["nodes"]), name)

    def _wait_for(self, count: int, name: str) -> None:
        """Until so many nodes are there, in a tab whose title begins with this."""
        self.page.wait_for_function(
            """([count, name]) => {
                const tab = window.app.extensionManager.workflow.activeWorkflow
                return window.app.rootGraph.nodes.length === count && tab?.filename.startsWith(name)
            }""",
            arg=[count, name],
        )

    def types(self) -> list[str]:
        """The types of the nodes on the canvas."""
        return self.page.evaluate("() => window.app.rootGraph.nodes.map(node => node.type)")

    def _place(self, node_type: str, point: str) -> tuple[float, float]:
        """Where on the page a point of the graph is: JavaScript about `node`, the first node of that type."""
        x, y = self.page.evaluate(
            f"""type => {{
                const node = window.app.rootGraph.nodes.find(node => node.type === type)
                return ({ON_PAGE})({point})
            }}""",
            node_type,
        )
        return x, y

    def place_of_nodes(self, margin: int = 12) -> FloatRect:
        """The part of the page that all nodes take."""
        left, top, right, bottom = self.page.evaluate(
            f"() => {{ const place = {ON_PAGE}"
            """
                const nodes = window.app.rootGraph.nodes.map(node => [...node.pos, ...node.size])
                const [left, top] = place([Math.min(...nodes.map(n => n[0])), Math.min(...nodes.map(n => n[1] - 30))])
                const [right, bottom] = place(
                    [Math.max(...nodes.map(n => n[0] + n[2])), Math.max(...nodes.map(n => n[1] + n[3]))]
                )
                // Vue nodes can be higher than the graph knows.
                const drawn = [...document.querySelectorAll("[data-node-id]")].map(n => n.getBoundingClientRect())
                return [left, top, right, Math.max(bottom, ...drawn.map(box => box.bottom))]
            }"""
        )
        return {
            "x": left - margin,
            "y": top - margin,
            "width": right - left + 2 * margin,
            "height": bottom - top + 2 * margin,
        }

    def set_widget(self, name: str, value: object) -> None:
        """Sets the widgets of that name on all nodes."""
        self.page.evaluate(
            """([name, value]) => {
                const widgets = window.app.rootGraph.nodes.flatMap(node => node.widgets ?? [])
                widgets.filter(widget => widget.name === name).forEach(widget => { widget.value = value })
            }""",
            [name, value],
        )

    def workflow(self) -> dict[str, Any]:
        """What is on the canvas, as the editor saves it."""
        return self._converted()["workflow"]

    def prompt(self) -> dict[str, Any]:
        """What is on the canvas, as the editor queues it: the API format."""
        return self._converted()["output"]

    def _converted(self) -> dict[str, Any]:
        # as text: the browser's `undefined` would come out as null otherwise
        return json.loads(self.page.evaluate("async () => JSON.stringify(await window.app.graphToPrompt())"))

    # ---- running it

    def run(self) -> None:
        """Presses Run."""
        self.page.get_by_test_id("queue-button").click()

    def wait_for_text(self, node_type: str, text: str) -> str:
        """Waits until the node of that type shows a text with `text` in it; returns all that it shows."""
        found = self.page.wait_for_function(
            """([type, text]) => {
                const node = window.app.rootGraph.nodes.find(node => node.type === type)
                const shown = (node?.widgets ?? []).map(widget => widget.value)
                return shown.find(value => typeof value === "string" && value.includes(text))
            }""",
            arg=[node_type, text],
        )
        return found.json_value()

    def wait_for_output(self, node_type: str) -> dict[str, Any]:
        """Waits until the node of that type has something to show from a run; returns that."""
        found = self.page.wait_for_function(
            """type => {
                const node = window.app.rootGraph.nodes.find(node => node.type === type)
                return window.app.nodeOutputs?.[node?.id]
            }""",
            arg=node_type,
        )
        return found.json_value()
