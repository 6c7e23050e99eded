"""Starting and stopping a server, with a stand-in for ComfyUI that answers at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from setup.client import Client, ServerError
from setup.install import ROOT, ComfyUI
from setup.server import LocalServer

MAIN = """
import http.server, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("arguments", *sys.argv[1:], "child", child.pid, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler)
try:
    server.serve_forever()
except KeyboardInterrupt:
    print("Stopped server", flush=True)
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="looks at processes in the POSIX way")


@pytest.fixture
def stand_in(tmp_path: Path) -> ComfyUI:
    (tmp_path / "main.py").write_text(MAIN, "utf-8")
    return ComfyUI(tmp_path, Path(sys.executable), "cpu")


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # a dead one that nobody has waited for is still there
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_it_stops_with_everything_it_started(stand_in: ComfyUI, tmp_path: Path) -> None:
    with LocalServer(stand_in, log=tmp_path / "log", base=tmp_path / "base", arguments=["--more"]) as server:
        said = server.log_text().split()
        assert said[:3] == ["arguments", "--port", server.url.rpartition(":")[2]]
        assert said[3:7] == ["--more", "--base-directory", str(tmp_path / "base"), "--cpu"]
        child = int(said[-1])
        assert runs(child)
    assert "Stopped server" in server.log_text()
    assert eventually(lambda: not runs(child))
    server.stop()
    with pytest.raises(ServerError, match="has stopped"):
        server.check()
    with pytest.raises(ServerError, match="No answer"):
        server.get("/system_stats")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_server_outlives_a_process_that_is_killed(stand_in: ComfyUI, tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        "from pathlib import Path\nfrom setup.server import LocalServer\nfrom setup.install import ComfyUI\n"
        f"comfyui = ComfyUI(Path({str(tmp_path)!r}), Path(sys.executable), 'cpu')\n"
        f"server = LocalServer(comfyui, log=Path({str(log)!r}))\n"
        "print(server.process.pid, server.url, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            pid, url = process.stdout.readline().split()
            child = int(log.read_text("utf-8").split()[-1])
            assert Client(url).get("/system_stats") == {}
        finally:
            process.send_signal(number)
    assert eventually(lambda: not runs(int(pid)) and not runs(child))
