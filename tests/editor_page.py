"""What a person does in the editor, and what one sees there: for the tests in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from setup.editor import Editor

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, FloatRect, Locator, Response
    from setup.client import Client

T = TypeVar("T")

ON_PAGE = """point => {
    const {canvas, ds} = window.app.canvas
    const [x, y] = ds.convertOffsetToCanvas(point)
    const {left, top} = canvas.getBoundingClientRect()
    return [left + x, top + y]
}"""
"""JavaScript: where on the page a point of the graph is."""


class EditorPage(Editor):
    """The editor of a server, with somebody at the mouse and the keys."""

    def __init__(self, chromium: Browser, server: Client) -> None:
        super().__init__(chromium, server)
        self.complaints: list[str] = []
        """What the page has complained of: errors in the console, uncaught ones, and requests that failed."""
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("console", self._note_error)
        self.page.on("response", self._note_failure)

    def _note_error(self, said: ConsoleMessage) -> None:
        if said.type == "error":
            self.complaints.append(f"console: {said.text}")

    def _note_failure(self, answer: Response) -> None:
        if answer.status >= 400:
            self.complaints.append(f"{answer.status} {answer.url}")

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

    def clear(self) -> None:
        self.page.evaluate("() => window.app.rootGraph.clear()")

    def load(self, workflow: Mapping[str, Any], name: str) -> None:
        """Loads a workflow of the editor's own format."""
        self.page.evaluate(
            "async ([graph, name]) => await window.app.loadGraphData(graph, true, true, name)", [workflow, name]
        )
        self.wait_for_nodes(len(workflow["nodes"]), name)

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

    def prompt(self) -> dict[str, Any]:
        """What is on the canvas, as the editor queues it: the API format."""
        return self.converted()["output"]

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
