"""The editor in a real browser, with both kinds of nodes that it draws.

The frontend is the one that ComfyUI's requirements ask for. NEWEST_FRONTEND=1 adds the newest one of the package
registry: it changes every week, so it is tested when somebody asks for it, and no release of others fails our tests.

Tests are skipped where there is no browser to drive. BROWSER_TESTS=required makes that a failure.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from editor_page import EditorPage
from PIL import Image, ImageSequence
from servers import PACK_FOLDER, VHS_FOLDER, ServerStarter
from setup.editor import NoBrowserError, browser, prepare_settings
from setup.install import HOME, ROOT, ComfyUI
from setup.server import LocalServer
from tiny_video import video_bytes

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect

FRONTENDS = ("pinned", "newest") if os.environ.get("NEWEST_FRONTEND") == "1" else ("pinned",)
NODES = ("classic", "vue")
SCREENSHOTS = ROOT / ".ci" / "artifacts" / "screenshots"
"""Ignored by git. scripts/documents takes the README's pictures from here."""


def _missing(reason: str) -> NoReturn:
    if os.environ.get("BROWSER_TESTS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    try:
        with browser() as started:
            yield started
    except NoBrowserError as error:
        _missing(str(error))


@pytest.fixture(scope="session")
def newest_frontend(comfyui: ComfyUI) -> Path:
    """The folder of the newest frontend, fetched once into the ignored folder where ComfyUI is made."""
    folder = HOME / "frontend"
    folder.mkdir(parents=True, exist_ok=True)
    # In a folder of its own first: another process that runs these tests may fetch it, too.
    with tempfile.TemporaryDirectory(dir=folder) as fetched:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--quiet"]
        done = subprocess.run(
            [*command, "-d", fetched, "comfyui-frontend-package"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            _missing(f"the newest frontend was not fetched: {done.stderr.strip().splitlines()[-1:]}")
        (wheel,) = Path(fetched).glob("*.whl")
        unpacked = folder / wheel.stem
        if not unpacked.exists():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(Path(fetched) / "part")
            with contextlib.suppress(OSError):  # the other one was faster
                (Path(fetched) / "part").rename(unpacked)
    return unpacked / "comfyui_frontend_package" / "static"


@pytest.fixture(scope="session")
def editor_server(
    chromium: Browser, start_server: ServerStarter, vhs_path: Path | None, request: pytest.FixtureRequest
) -> Callable[[str], LocalServer]:
    """Gives the server with a frontend; started when first asked for. Its demo pictures and clips are small."""
    servers: dict[str, LocalServer] = {}

    def prepare(base: Path) -> None:
        prepare_settings(base)
        for source in (ROOT / "media").glob("amt_demo_*.mp4"):
            (base / "input" / source.name).write_bytes(video_bytes(3, 96, 96))
        with Image.open(ROOT / "media" / "amt_demo_car.webp") as picture:
            first, *rest = [frame.resize((96, 96)) for frame in islice(ImageSequence.Iterator(picture), 3)]
            first.save(base / "input" / "amt_demo_car.webp", save_all=True, append_images=rest)
        for source in (ROOT / "media").glob("amt_demo_*.png"):
            with Image.open(source) as picture:
                picture.save(base / "input" / source.name.replace("amt_demo", "large"))
                picture.resize((96, 96)).save(base / "input" / source.name)

    def get(frontend: str) -> LocalServer:
        if frontend not in servers:
            arguments = []
            if frontend == "newest":
                arguments = ["--front-end-root", str(request.getfixturevalue("newest_frontend"))]
            packs = {PACK_FOLDER: ROOT} | ({VHS_FOLDER: vhs_path} if vhs_path else {})
            servers[frontend] = start_server(packs, arguments=arguments, prepare=prepare)
        return servers[frontend]

    return get


@pytest.fixture(scope="session", params=[f"{frontend}-{nodes}" for frontend in FRONTENDS for nodes in NODES])
def editor(
    request: pytest.FixtureRequest, chromium: Browser, editor_server: Callable[[str], LocalServer]
) -> Iterator[EditorPage]:
    """The editor with one frontend and one kind of nodes, in a page that the tests share."""
    frontend, nodes = request.param.split("-")
    server = editor_server(frontend)
    server.post("/settings", {"Comfy.VueNodes.Enabled": nodes == "vue"})
    editor = EditorPage(chromium, server)
    editor.open()
    yield editor
    editor.page.close()


@pytest.fixture(autouse=True)
def no_complaints(editor: EditorPage) -> Iterator[None]:
    """Nothing that the page complains of comes from the pack."""
    before = len(editor.complaints)
    yield
    # The frontend asks the registry of nodes about nodes by their names, which the server's policy forbids.
    # And it stumbles over the graph that it has just changed, where it replaces a node.
    own = ("https://api.comfy.org", "Attempted to access LGraph reference that was null or undefined")
    said = [text for text in editor.complaints[before:] if not any(part in text for part in own)]
    assert [text for text in said if "amt" in text.lower() or text.startswith("uncaught")] == []


@pytest.fixture
def picture(editor: EditorPage, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Takes a picture of the page, or of a part of it."""
    kind = request.node.callspec.params["editor"]

    def take(name: str, part: FloatRect | None = None) -> None:
        editor.page.screenshot(path=SCREENSHOTS / kind / f"{name}.png", clip=part)

    return take


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failing test leaves a picture of what the editor looked like."""
    report = yield
    editor = getattr(item, "funcargs", {}).get("editor")
    if report.when == "call" and report.failed and isinstance(editor, EditorPage):
        name = re.sub(r"[^-\w]+", "_", item.name)
        path = SCREENSHOTS / "failed" / f"{name}.png"
        editor.page.screenshot(path=path)
        report.sections.append(("the editor", f"{path}\n" + "\n".join(editor.complaints[-10:])))
    return report
