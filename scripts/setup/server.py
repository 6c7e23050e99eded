"""Starts a ComfyUI server and stops it: for scripts/comfyui.py, the tests and documents. Standard library only."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from amt_frame_interpolation.waiting import wait_until

from setup.client import Client, ServerError
from setup.install import ComfyUI, clean_env

PRIVATE = ("--disable-api-nodes", "--database-url", "sqlite:///:memory:")
"""Options of ComfyUI for a server that asks nobody on the network, and that another one may run beside."""
START_SECONDS = 300
"""Until a server must answer. The first start reads a few hundred MB of libraries."""


def free_port(port: int = 0) -> int | None:
    """`port` if nothing listens there on loopback (any free one for 0), else None."""
    with socket.socket() as sock:
        if os.name != "nt":  # there, the option would let us bind beside a listener
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return None
        return sock.getsockname()[1]


def lay_base(base: Path, packs: Mapping[str, Path]) -> Path:
    """Makes a base directory (input, output, models, ...) for a server, with these packs linked in as custom nodes."""
    for name in ("custom_nodes", "input", "output", "models", "user/default"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for name, target in packs.items():
        link = base / "custom_nodes" / name
        if link.exists() and link.samefile(target):
            continue
        if link.is_symlink():
            link.unlink()
        elif os.path.lexists(link):
            os.rmdir(link)  # a junction that leads elsewhere; refuses a folder with something in it
        _link(link, target)
    return base


def _link(link: Path, target: Path) -> None:
    if sys.platform == "win32":
        import _winapi

        _winapi.CreateJunction(str(target), str(link))  # a symbolic link needs a privilege there
    else:
        link.symlink_to(target, target_is_directory=True)


# Runs beside a server. Its input ends when the process that started both has gone, even killed: the server goes too.
_WATCH = """
import os, signal, subprocess, sys, time
group = int(sys.argv[1])
sys.stdin.read()
if os.name == "nt":
    subprocess.run(["taskkill", "/F", "/T", "/PID", str(group)], capture_output=True)
else:
    os.killpg(group, signal.SIGTERM)
    time.sleep(5)
    os.killpg(group, signal.SIGKILL)
"""


class LocalServer(Client):
    """A ComfyUI server that this process started, and stops: a context manager.

    Args:
        comfyui: what to start.
        log: file for what it writes.
        base: its base directory (see `lay_base`); None for the ComfyUI's own folders.
        arguments: further options of ComfyUI's main.py.
        port: None takes a free one.
        device: "cpu" keeps it off the GPU; by default what ComfyUI's Python computes on.
        env: environment variables to set.

    Raises:
        ServerError: it did not start; with the end of its log.
    """

    def __init__(
        self,
        comfyui: ComfyUI,
        *,
        log: Path,
        base: Path | None = None,
        arguments: Sequence[str] = (),
        port: int | None = None,
        device: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        port = port or free_port()
        super().__init__(f"http://127.0.0.1:{port}")
        self.comfyui = comfyui
        self.base = base or comfyui.folder
        self.log = log
        isolated = ["-s"] if comfyui.python.parent.name == "python_embeded" else []
        command = [str(comfyui.python), *isolated, "main.py", "--port", str(port), *arguments]
        if base is not None:
            command += ["--base-directory", str(base)]
        if (device or comfyui.device) == "cpu":
            command.append("--cpu")
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("wb") as output:
                self.process = subprocess.Popen(
                    command,
                    cwd=comfyui.folder,
                    env=clean_env(PYTHONUNBUFFERED="1", **(env or {})),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    # in a group of its own: Ctrl-C comes to us alone, and all of it can be stopped at once
                    start_new_session=True,  # POSIX
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # Windows
                )
        except OSError as error:
            raise ServerError(f"ComfyUI did not start: {error}") from error
        self._watch = subprocess.Popen(
            [sys.executable, "-c", _WATCH, str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        try:
            wait_until(self._answers, lambda: self._check_start(deadline), 0.2)
        except BaseException:
            self.stop()
            raise

    def _answers(self, pause: float) -> bool:
        try:
            self.get("/system_stats")
        except (ServerError, urllib.error.HTTPError):
            time.sleep(pause)
            return False
        return True

    def _check_start(self, deadline: float) -> None:
        self.check()
        if time.monotonic() > deadline:
            raise ServerError(f"ComfyUI did not answer within {START_SECONDS} s.{self._end_of_log()}")

    @classmethod
    def private(
        cls,
        comfyui: ComfyUI,
        base: Path,
        packs: Mapping[str, Path],
        *,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        prepare: Callable[[Path], object] | None = None,
    ) -> LocalServer:
        """A server on the CPU with these packs and a base directory of its own: for tests and documents.

        `prepare` gets the base directory before the start, to put settings, models or input files there.
        """
        lay_base(base, packs)
        if prepare:
            prepare(base)
        log = base / "comfyui.log"
        return cls(comfyui, log=log, base=base, arguments=(*PRIVATE, *arguments), device="cpu", env=env)

    @property
    def input(self) -> Path:
        return self.base / "input"

    @property
    def output(self) -> Path:
        return self.base / "output"

    @property
    def models(self) -> Path:
        return self.base / "models"

    def log_text(self, start: int = 0) -> str:
        """What the server has written since byte `start` of its log, without colour codes."""
        with self.log.open("rb") as file:
            file.seek(start)
            return re.sub(r"\x1b\[[0-9;]*m", "", file.read().decode("utf-8", "replace"))

    def log_size(self) -> int:
        return self.log.stat().st_size

    def _end_of_log(self) -> str:
        return "\n".join([f"\nThe end of its log ({self.log}):", *self.log_text().splitlines()[-25:]])

    def check(self) -> None:
        code = self.process.poll()
        if code is not None:
            raise ServerError(f"ComfyUI has stopped (exit code {code}).{self._end_of_log()}")

    def stop(self) -> None:
        """Stops the server as Ctrl-C does, and everything it started: within two seconds. Nothing if it has stopped."""
        if self._watch.poll() is None:
            self._watch.kill()
            self._watch.communicate()
        if sys.platform == "win32":
            if self.process.poll() is None:
                command = ["taskkill", "/F", "/T", "/PID", str(self.process.pid)]
                subprocess.run(command, capture_output=True, check=False)
            self.process.wait()
            return
        # SIGINT lets ComfyUI tidy up, unless it was inherited as ignored: from a shell script's background, say
        polite = signal.SIGTERM if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else signal.SIGINT
        for sent, seconds in ((polite, 1.5), (signal.SIGKILL, None)):
            if self.process.poll() is None:
                self._signal(sent)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(seconds)
        self._signal(signal.SIGKILL)  # what it may have left behind, say an ffmpeg

    def _signal(self, number: int) -> None:
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
