#!/usr/bin/env python3
"""Try, test and use the pack in a real ComfyUI, with one command each. Standard library only.

  python3 scripts/comfyui.py demo [WORKFLOW]   make a video of two pictures through ComfyUI's API queue
  python3 scripts/comfyui.py serve             open ComfyUI's editor with the pack
  python3 scripts/comfyui.py test [PYTEST ...] run the linters and all tests

A ComfyUI that is there is used: the one named by the environment variable COMFYUI_PATH, or the one in whose
custom_nodes the pack lies. Otherwise one is made in the folder .comfyui, once.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # noqa: UP036  (it is what a user with an older one runs)
    sys.exit(f"Python 3.10 or newer is needed; this is {sys.version.split()[0]} ({sys.executable}).")

import argparse
import ast
import copy
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.error
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from setup.client import Client, OutputFile, QueueError, ServerError
from setup.install import HOME, PACK_FOLDER, ROOT, ComfyUI, SetupError, clean_env, find_or_made, find_or_make
from setup.server import PRIVATE, LocalServer, free_port, lay_base

WORKFLOWS = ROOT / "workflows" / "api"
FIRST_WORKFLOW = "amt_01_frame_interpolation_16_to_32_fps_with_sound"
DEMO_FILES = ROOT / "media"
TEST_PROCESSES = 3
"""More than most machines of CI have cores: many tests wait for a server, a browser or a cluster."""
VIDEOS = {".mp4", ".mkv", ".webm", ".mov", ".gif", ".webp"}


def say(text: str = "") -> None:
    print(text, flush=True)


class UserError(Exception):
    """Something asked for that cannot be done; the text says what can."""


# --------------------------------------------------------------------------------------------------------------- demo


def demo(workflow: str, server: str | None) -> int:
    prompt = read_workflow(workflow)  # before a long set-up
    if server:
        client = Client(server)
        client.get("/system_stats")  # no answer, or no ComfyUI, is said before anything is uploaded
        return run_demo(client, prompt, workflow)
    comfyui = find_or_make(say)
    with tempfile.TemporaryDirectory(prefix="amt-demo-") as temporary:
        # a temporary folder of its own: a server empties it when it starts, and another one may be running
        options = [*PRIVATE, "--temp-directory", temporary]
        base = place(comfyui)
        if base is None:
            options += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", str(comfyui.pack_folder())]
        with start(comfyui, base, options, "demo") as local:
            return run_demo(local, prompt, workflow)


def place(comfyui: ComfyUI) -> Path | None:
    """The base directory to start a ComfyUI with: None (its own) where the pack lies in its custom_nodes, else ours."""
    return None if comfyui.pack_folder() else lay_base(HOME / "base", {PACK_FOLDER: ROOT})


def start(
    comfyui: ComfyUI, base: Path | None, options: Sequence[str], name: str, port: int | None = None
) -> LocalServer:
    """Starts a server whose log is in `.comfyui/NAME.log`: there is much in it that looks wrong and is not."""
    say(f"Starting ComfyUI {comfyui.version} ({comfyui.device}) ...")
    begun = time.monotonic()
    server = LocalServer(comfyui, log=HOME / f"{name}.log", base=base, arguments=options, port=port)
    say(f"  ready after {time.monotonic() - begun:.0f} s; its log is {server.log}")
    return server


def run_demo(server: Client, prompt: dict[str, Any], workflow: str) -> int:
    prompt = upload_demo_files(server, prompt)
    title = Path(workflow).stem
    shown = ""

    def waiting(state: str, seconds: float) -> None:
        nonlocal shown
        if sys.stdout.isatty():
            print(f"\r{title}: {state}, {seconds:.0f} s ", end="", flush=True)
        elif state != shown:
            say(f"{title}: {state} ...")
        shown = state

    result = server.queue(prompt, timeout=3600, waiting=waiting)
    if sys.stdout.isatty():
        print("\r", end="")
    say(f"{title}: done in {result.seconds:.1f} s")
    files = [file for file in result.files if file.type == "output"] or result.files
    if not files:
        raise UserError(f"{title} ran, but saved no file.")
    for file in files:
        show(server, file)
    return 0


def show(server: Client, file: OutputFile) -> None:
    """Fetches a file that the demo made and says where it lies; a video gets a contact sheet."""
    path = server.download(file, HOME / "demo")
    if path.suffix.lower() not in VIDEOS:
        say(f"Picture:       {path}" if path.suffix.lower() in {".png", ".jpg"} else f"File:          {path}")
        return
    sheet = path.with_name(f"{path.stem.rstrip('_')}-frames.png")
    python = server.comfyui.python if isinstance(server, LocalServer) else _python_for_sheets()
    done = subprocess.run(
        [python, ROOT / "scripts" / "documents", "contact_sheet", path, sheet],
        capture_output=True,
        text=True,
        env=clean_env(),
        check=False,
    )
    say(f"Video:         {path}" + (f"  ({done.stdout.strip()})" if done.returncode == 0 else ""))
    if done.returncode == 0:
        say(f"Contact sheet: {sheet}")
    else:
        say(f"Contact sheet: none; it needs PyAV and Pillow ({(done.stderr.strip().splitlines() or ['failed'])[-1]})")


def _python_for_sheets() -> Path:
    comfyui = find_or_made()
    return comfyui.python if comfyui else Path(sys.executable)


def read_workflow(workflow: str) -> dict[str, Any]:
    """The API workflow of that name in workflows/api, or in a file of one's own."""
    path = Path(workflow)
    if not path.is_file():
        path = WORKFLOWS / f"{path.stem}.json"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in WORKFLOWS.glob("*.json"))) or "none yet"
        raise UserError(f"There is no workflow {workflow}. Give the path of an API workflow or one of: {there}.")
    try:
        prompt = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if isinstance(prompt, dict) and isinstance(prompt.get("nodes"), list):
        raise UserError(f"{path} is a workflow of the editor. Export it for the API (Workflow > Export (API)).")
    if not isinstance(prompt, dict) or not all(isinstance(n, dict) and "class_type" in n for n in prompt.values()):
        raise UserError(f'{path} is no API workflow: expected {{"1": {{"class_type": ..., "inputs": ...}}, ...}}.')
    return prompt


def upload_demo_files(server: Client, prompt: dict[str, Any]) -> dict[str, Any]:
    """Uploads the files of media that the workflow names; gives the workflow with their names on the server."""
    prompt = copy.deepcopy(prompt)
    there: dict[str, str] = {}
    for node in prompt.values():
        for key, value in node.get("inputs", {}).items():
            if isinstance(value, str) and re.fullmatch(r"amt_demo_\w+\.\w+", value) and (DEMO_FILES / value).is_file():
                if value not in there:
                    there[value] = server.upload(DEMO_FILES / value)
                node["inputs"][key] = there[value]
    return prompt


# -------------------------------------------------------------------------------------------------------------- serve


def serve(port: int | None, browser: bool, options: Sequence[str]) -> int:
    if port is not None and free_port(port) is None:
        raise UserError(f"Port {port} is in use. Choose another with --port, or leave it out to have a free one taken.")
    comfyui = find_or_make(say)
    base = place(comfyui)
    query = ""
    if base is not None:
        prepare_editor(base)
        options = ["--database-url", f"sqlite:///{base / 'user' / 'comfyui.db'}", *options]
        if (ROOT / "workflows" / f"{FIRST_WORKFLOW}.json").is_file():
            query = f"/?template={FIRST_WORKFLOW}&source={PACK_FOLDER}"
    with start(comfyui, base, options, "serve", port or free_port(8188)) as server:
        say(f"\nThe editor is at {server.url}{query}\nVideos are saved in {output_folder(server, options)}")
        say("Ctrl-C stops it.\n")
        if browser:
            webbrowser.open(server.url + query)
        try:
            follow(server, comfyui.pack_folder() or PACK_FOLDER)
        except KeyboardInterrupt:
            server.stop()
            say("Stopped.")
            return 0


def output_folder(server: LocalServer, options: Sequence[str]) -> Path:
    """Where a server with these options saves what it makes."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--base-directory", type=Path, default=server.base)
    parser.add_argument("--output-directory", type=Path)
    known, _ = parser.parse_known_args(options)
    return known.output_directory or known.base_directory / "output"


def follow(server: LocalServer, pack: str) -> NoReturn:
    """Shows the warnings and errors in the server's log that are about the pack, until the server stops.

    Raises:
        ServerError: it has stopped.
    """
    with server.log.open(encoding="utf-8", errors="replace") as log:
        while True:
            for said in complaints(log.read(), pack):
                say(said)
            server.check()
            time.sleep(0.5)


def complaints(log: str, pack: str) -> list[str]:
    """The warnings and errors of a ComfyUI's log that are about the pack: its messages, and tracebacks through it."""
    records = re.split(r"^(?=\[[A-Z]+\] )", re.sub(r"\x1b\[[0-9;]*m", "", log), flags=re.MULTILINE)
    wanted = rf"\[(WARNING|ERROR|CRITICAL)\] .*(\bAMT\b|\b{re.escape(pack)}\b)"
    return [record.strip() for record in records if re.match(wanted, record, re.DOTALL)]


def prepare_editor(base: Path) -> None:
    """Spares the user of our own ComfyUI its first-run dialog."""
    settings = base / "user" / "default" / "comfy.settings.json"
    if not settings.exists():
        settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}), "utf-8")


# --------------------------------------------------------------------------------------------------------------- test


def test(pytest_arguments: Sequence[str]) -> int:
    comfyui = find_or_make(say)
    python = str(comfyui.python)
    say(f"ComfyUI {comfyui.version} in {comfyui.folder}, {python}")
    wanted = test_requirements()
    if os.environ.get("VHS_PATH"):
        wanted += ["imageio-ffmpeg"]  # what VideoHelperSuite asks for beyond them
    install = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", *wanted]
    # Processes that each take every core wait for one another: they share the cores. A quarter less time in all.
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // TEST_PROCESSES))
    environment = clean_env(COMFYUI_PATH=str(comfyui.folder), OMP_NUM_THREADS=threads)
    # a file's tests share servers; files keep the order that tests/conftest.py gives them
    spread = ["-n", str(TEST_PROCESSES), "--dist", "loadfile", "--no-loadscope-reorder"]
    jobs: dict[str, list[str]] = {
        "test packages": install,
        "ruff check": [python, "-m", "ruff", "check", "."],
        "ruff format": [python, "-m", "ruff", "format", "--check", "."],
        "basedpyright": [python, "-m", "basedpyright", "--pythonpath", python, "--level", "error"],
        "pytest": [python, "-m", "pytest", *spread, *pytest_arguments],
    }
    outcome = []
    for name, command in jobs.items():
        say(f"\n== {name}")
        start = time.monotonic()
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        outcome.append((name, code, time.monotonic() - start))
        if code and command is install:
            raise SetupError("The packages that the tests need were not installed; see above. Is the network there?")
    say("\n== " + ", ".join(f"{name} {'failed' if code else 'ok'} ({s:.0f} s)" for name, code, s in outcome))
    return 1 if any(code for _, code, _ in outcome) else 0


def test_requirements() -> list[str]:
    """The `test` extra of pyproject.toml. Python 3.10 has no TOML reader; a TOML list of strings reads as Python."""
    found = re.search(r"^test\s*=\s*(\[[^\]]*\])", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    if not found:
        raise SetupError("pyproject.toml has no list `test` in [project.optional-dependencies].")
    return list(ast.literal_eval(found[1]))


# --------------------------------------------------------------------------------------------------------------- main


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo | serve | test")
    parse_demo = commands.add_parser("demo", help="make a video of two pictures through ComfyUI's API queue")
    parse_demo.add_argument(
        "workflow", nargs="?", default=FIRST_WORKFLOW, help="name in workflows/api, or the path of an API workflow"
    )
    parse_demo.add_argument("--server", metavar="URL", help="use this running ComfyUI, which must have the pack")
    parse_serve = commands.add_parser(
        "serve",
        help="open ComfyUI's editor with the pack",
        epilog="Further options go to ComfyUI (say, --lowvram).",
        allow_abbrev=False,
    )
    parse_serve.add_argument("--port", type=int, help="8188 or the next best by default")
    parse_serve.add_argument("--no-browser", action="store_true", help="do not open the browser")
    commands.add_parser(
        "test", help="run the linters and all tests", epilog="Further arguments go to pytest (say, -n 0 --pdb)."
    )
    if list(arguments[:1]) == ["test"] and not {"-h", "--help"} & set(arguments):
        asked, rest = parser.parse_args(["test"]), list(arguments[1:])  # pytest's own, untouched
    else:
        asked, rest = parser.parse_known_args(arguments)
    if rest and asked.command == "demo":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    signal.signal(signal.SIGTERM, _terminated)  # so that a server is stopped on the way out
    try:
        if asked.command == "demo":
            return demo(asked.workflow, asked.server)
        if asked.command == "serve":
            return serve(asked.port, not asked.no_browser, rest)
        return test(rest)
    except (UserError, SetupError, ServerError, QueueError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except urllib.error.HTTPError as error:
        print(f"\n{error.url} answered: {error.code} {error.reason}. Is that a ComfyUI?", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Run it again to go on.", file=sys.stderr)
        return 130


def _terminated(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
