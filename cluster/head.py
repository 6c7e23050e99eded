"""Has a video made by a Ray cluster: starts the driver, listens to it, and joins what it brings."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO, NamedTuple

from ..printable import printable
from ..video.join import join_videos
from ..waiting import Background
from .request import Request, dump

PACK = Path(__file__).parent.parent
PACKAGE = "amt_frame_interpolation"
"""The pack's name in the driver and in the workers, whatever the folder is called in which ComfyUI has it."""
SHIPPED = ("amt", "cluster", "video", "printable.py", "waiting.py")
"""What workers need of the pack. Weights travel with the request."""
DRIVER = f"from {PACKAGE}.cluster.driver import main; main()"
SECRETS = ("FAL_KEY", "FAL_KEY_FILE", "HF_TOKEN")
"""Environment variables that no process of the cluster needs."""
RECONNECT_SECONDS = 10
"""How long the driver waits for a cluster that has gone; Ray's own 60 are long for a person."""


class RayMissingError(RuntimeError):
    """Ray is not installed."""


class ClusterError(RuntimeError):
    """The cluster could not do the work. The message says why."""


class Progress(NamedTuple):
    """How far the cluster is."""

    done: int
    """Frames."""
    total: int
    by_node: dict[str, int]
    """Frames that each machine has made."""


class Result(NamedTuple):
    length: Fraction
    """Of the picture, in seconds."""
    notes: list[str]
    used: Counter[int]
    """How many pairs had their motion found at which scale."""
    workers: int


def check_ray() -> None:
    """Raises RayMissingError."""
    if importlib.util.find_spec("ray") is None:
        raise RayMissingError(
            "Ray is not installed. Install it into ComfyUI's Python and start ComfyUI anew: python -m pip install ray. "
            "On one GPU, AMT Video Interpolation does the same without it."
        )


def interpolate_over_ray(
    request: Request, path: Path, check: Callable[[], object], report: Callable[[Progress], object]
) -> Result:
    """Writes the file. After any error there is none, and nothing of the work is left on this machine.

    The cluster is that of RAY_ADDRESS; without it, a Ray of this machine is started, and ended after the work.

    check: called now and then; an exception that it raises ends the work. report: called with how far it is.

    Raises:
        RayMissingError: Ray is not installed.
        ClusterError: the cluster could not do the work.
        WriteError: the file could not be written.
    """
    check_ray()
    with (
        tempfile.TemporaryDirectory(prefix="amt_", dir=path.parent) as folder,
        tempfile.TemporaryDirectory(prefix="amt", ignore_cleanup_errors=True) as ray_folder,
    ):
        work = Path(folder)
        package = _ship(work / "code")
        (work / "request").write_bytes(dump(request))
        result = _drive(work, package, ray_folder, check, report)
        segments = [work / f"{number}.mp4" for number in range(1, int(result["segments"]) + 1)]
        join_videos(segments, path, check)
    used = Counter({int(scale): pairs for scale, pairs in result["used"].items()})
    return Result(Fraction(result["length"]), result["notes"], used, result["workers"])


def _ship(folder: Path) -> Path:
    """A copy of the pack's code under its own name."""
    package = folder / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in SHIPPED:
        if (PACK / name).is_dir():
            shutil.copytree(PACK / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PACK / name, package / name)
    return package


def _drive(
    folder: Path, package: Path, ray_folder: str, check: Callable[[], object], report: Callable[[Progress], object]
) -> dict[str, Any]:
    """What the driver says at its end."""
    environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
    environment |= {
        "AMT_RAY_FOLDER": ray_folder,
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(RECONNECT_SECONDS),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    with (folder / "log").open("w+b") as log:
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(folder), str(package)],
            cwd=package.parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        try:
            assert driver.stdout is not None
            said: list[dict[str, Any]] = []
            listener = Background(lambda stop: _listen(driver.stdout, said, stop), "amt-ray")  # pyright: ignore[reportArgumentType]

            def look() -> None:
                check()
                while said:
                    _hear(said.pop(0), report)

            last = listener.result(look)
            look()
        finally:
            _end(driver)
        if "error" in last:
            raise ClusterError(f"Ray: {last['error']}")
        if "segments" not in last:
            log.seek(0)
            reason = printable(log.read()[-2000:].decode(errors="replace").strip().rpartition("\n")[2], 300)
            raise ClusterError(
                f"Ray ended in the middle of the work{f': {reason}' if reason else ''}. Is its head still running? "
                "Start the cluster again, or leave RAY_ADDRESS out to use this machine alone."
            )
    return last


def _listen(lines: BinaryIO, said: list[dict[str, Any]], stop: Event) -> dict[str, Any]:
    """Collects what the driver says, and returns the last of it."""
    last: dict[str, Any] = {}
    for line in lines:
        if stop.is_set():
            break
        last = json.loads(line)
        said.append(last)
    return last


def _hear(line: dict[str, Any], report: Callable[[Progress], object]) -> None:
    if "done" in line:
        report(Progress(line["done"], line["total"], line["by_node"]))


def _end(driver: subprocess.Popen[bytes]) -> None:
    """Ends the driver, if it has not ended. A Ray that it started for the work ends with it, and so do its workers."""
    if driver.poll() is None:
        if os.name == "posix":
            os.killpg(driver.pid, signal.SIGKILL)
        else:
            driver.kill()
    driver.wait()
    for pipe in (driver.stdin, driver.stdout):
        if pipe is not None:
            pipe.close()
