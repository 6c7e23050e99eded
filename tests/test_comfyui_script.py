"""scripts/comfyui.py: what it makes of its arguments, without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import comfyui as script
import pytest
from setup.client import Client
from setup.server import LocalServer

EDITOR_WORKFLOW = {"nodes": [{"id": 1, "type": "SaveVideo"}], "links": [], "version": 0.4}


def run(*arguments: str, **env: str) -> tuple[int, str]:
    command = [sys.executable, str(script.ROOT / "scripts" / "comfyui.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["demo", "no_such_workflow"], "There is no workflow no_such_workflow"),
        (["demo", "{file}", "--server", "127.0.0.1:1"], "No answer from ComfyUI at http://127.0.0.1:1"),
        (["demo", "{file}"], "not a ComfyUI folder"),
        (["serve", "--no-browser"], "not a ComfyUI folder"),
        (["test"], "not a ComfyUI folder"),
    ],
)
def test_an_error_is_one_message_and_an_exit_code(arguments: list[str], says: str, tmp_path: Path) -> None:
    file = tmp_path / "workflow.json"
    file.write_text('{"1": {"class_type": "X", "inputs": {}}}', "utf-8")
    code, said = run(*(a.format(file=file) for a in arguments), COMFYUI_PATH=str(tmp_path))
    assert code == 1
    assert says in said
    assert "Traceback" not in said


def test_a_port_in_use_is_refused_before_anything_is_started() -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        code, said = run("serve", "--no-browser", "--port", str(port), COMFYUI_PATH="/nowhere")
    assert (code, f"Port {port} is in use" in said) == (1, True)


@pytest.mark.parametrize("arguments", [[], ["paint"], ["demo", "a", "b"], ["demo", "--fast"], ["serve", "--port", "x"]])
def test_unknown_arguments(arguments: list[str]) -> None:
    code, said = run(*arguments)
    assert code == 2
    assert "usage:" in said


@pytest.mark.parametrize("command", [[], ["demo"], ["serve"], ["test"]])
def test_help_starts_nothing(command: list[str], tmp_path: Path) -> None:
    code, said = run(*command, "--help", COMFYUI_PATH=str(tmp_path))
    assert code == 0
    assert said.startswith("usage:")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not valid JSON"),
        (json.dumps(EDITOR_WORKFLOW), "a workflow of the editor"),
        ("[]", "no API workflow"),
        ('{"1": {"inputs": {}}}', "no API workflow"),
        ('{"last_node_id": 3}', "no API workflow"),
    ],
)
def test_what_is_no_api_workflow(content: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "workflow.json"
    file.write_text(content, "utf-8")
    with pytest.raises(script.UserError, match=says):
        script.read_workflow(str(file))


def test_a_workflow_by_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = {"1": {"class_type": "SaveVideo", "inputs": {}}}
    (tmp_path / "smooth.json").write_text(json.dumps(workflow), "utf-8")
    monkeypatch.setattr(script, "WORKFLOWS", tmp_path)
    for name in ("smooth", "smooth.json", str(tmp_path / "smooth.json")):
        assert script.read_workflow(name) == workflow
    with pytest.raises(script.UserError, match="one of: smooth"):
        script.read_workflow("rough")


def test_only_the_demo_files_that_a_workflow_names_are_uploaded() -> None:
    uploaded: list[str] = []

    class Server:
        def upload(self, path: Path) -> str:
            uploaded.append(path.name)
            return f"{path.stem} (1){path.suffix}"

    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "amt_demo_a.png"}},
        "2": {"class_type": "LoadImage", "inputs": {"image": "amt_demo_a.png"}},
        "3": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}},
        "4": {"class_type": "LoadImage", "inputs": {"image": "../comfyui.py"}},
        "5": {"class_type": "AMTInterpolate", "inputs": {"images": ["1", 0], "recursive_interpolation_passes": 4}},
    }
    before = json.dumps(prompt)
    after = script.upload_demo_files(cast(Client, Server()), prompt)
    assert uploaded == ["amt_demo_a.png"]
    assert [after[i]["inputs"].get("image") for i in "1234"] == [
        "amt_demo_a (1).png",
        "amt_demo_a (1).png",
        "mine.png",
        "../comfyui.py",
    ]
    assert after["5"] == prompt["5"]
    assert json.dumps(prompt) == before


def test_the_editors_settings_stay_as_the_user_made_them(tmp_path: Path) -> None:
    base = script.lay_base(tmp_path, {})
    settings = base / "user" / "default" / "comfy.settings.json"
    script.prepare_editor(base)
    assert json.loads(settings.read_text("utf-8")) == {"Comfy.TutorialCompleted": True}
    settings.write_text("mine", "utf-8")
    script.prepare_editor(base)
    assert settings.read_text("utf-8") == "mine"


def test_of_comfyuis_log_only_the_packs_own_troubles_are_shown() -> None:
    lines = [
        "\x1b[32m[INFO]\x1b[0m Import times for custom nodes:",
        "\x1b[32m[INFO]\x1b[0m    1.0 seconds: /base/custom_nodes/amt-frame-interpolation",
        "\x1b[1m\x1b[31m[ERROR]\x1b[0m ********** ERROR ***********",
        "comfyui-workflow-templates is not installed.",
        "\x1b[33m[WARNING]\x1b[0m AMT Frame Interpolation: fal is missing",
        "\x1b[31m[ERROR]\x1b[0m !!! Exception during processing !!! a cat",
        "\x1b[31m[ERROR]\x1b[0m Traceback (most recent call last):",
        '  File "/base/custom_nodes/amt-frame-interpolation/nodes/loader.py", line 1, in execute',
        "ValueError: a cat",
        "\x1b[32m[INFO]\x1b[0m Prompt executed in 3 seconds",
    ]
    assert script.complaints("\n".join(lines), "amt-frame-interpolation") == [
        "[WARNING] AMT Frame Interpolation: fal is missing",
        "[ERROR] Traceback (most recent call last):\n"
        '  File "/base/custom_nodes/amt-frame-interpolation/nodes/loader.py", line 1, in execute\n'
        "ValueError: a cat",
    ]
    assert script.complaints("", "amt-frame-interpolation") == []


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ([], "/base/output"),
        (["--lowvram", "--output-directory", "/films"], "/films"),
        (["--base-directory=/other", "--cpu"], "/other/output"),
    ],
)
def test_where_videos_are_saved_follows_comfyuis_own_options(options: list[str], folder: str) -> None:
    server = cast(LocalServer, SimpleNamespace(base=Path("/base")))
    assert script.output_folder(server, options) == Path(folder)


def test_a_base_directory_keeps_its_packs_up_to_date(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for pack in (old, new):
        pack.mkdir()
        (pack / "name").write_text(pack.name, "utf-8")
    base = tmp_path / "base"
    for pack in (old, old, new):
        script.lay_base(base, {"pack": pack})
        assert (base / "custom_nodes" / "pack" / "name").read_text("utf-8") == pack.name
    assert (old / "name").exists()


def test_a_base_directory_takes_no_folder_of_the_users_away(tmp_path: Path) -> None:
    mine = tmp_path / "custom_nodes" / "pack" / "work.py"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(OSError):
        script.lay_base(tmp_path, {"pack": script.ROOT})
    assert mine.exists()


def test_the_packages_that_tests_need_come_from_pyproject() -> None:
    assert any(requirement.startswith("pytest") for requirement in script.test_requirements())
