"""Times the networks on this machine, beside the correlation volume and ComfyUI core's RIFE 4.26 and FILM.

    python scripts/benchmark.py --sizes 480p 720p --networks S
    python scripts/benchmark.py --write        every size and network, to docs/performance.md; takes hours on a CPU

Every network runs in a process of its own, with random weights; those of one size take turns, pair by pair, and
medians and their ratios are printed. RIFE and FILM need a ComfyUI: COMFYUI_PATH, or what scripts/comfyui.py has made.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import _pack
import torch
from _comfyui_setup import ComfyUI, SetupError, find_or_made

SIZES = {"256p": (256, 448), "480p": (480, 848), "720p": (720, 1280), "1080p": (1080, 1920), "4k": (2160, 3840)}
PAGE = _pack.ROOT / "docs" / "performance.md"
MARKS = "<!-- measured -->", "<!-- /measured -->"
GIB = 2**30


@dataclass(frozen=True)
class Case:
    network: str
    size: tuple[int, int]
    precision: str
    device: str
    volume: bool = False

    @property
    def name(self) -> str:
        return f"{self.network}, volume" if self.volume else self.network


@dataclass
class Result:
    case: Case
    seconds: list[float]
    peak: int | None = None
    """Bytes."""
    trouble: str = ""
    """Why there is no result."""


class Worker:
    """A process that runs one network."""

    def __init__(self, case: Case, comfyui: ComfyUI | None) -> None:
        self.result = Result(case, [])
        python, env = sys.executable, dict(os.environ)
        if not case.network.startswith("AMT"):
            if comfyui is None:
                self.result.trouble = "no ComfyUI"
                return
            python, env["PYTHONPATH"] = str(comfyui.python), str(comfyui.folder)
        lacking = _lacks_memory(case)
        if lacking:
            self.result.trouble = lacking
            return
        script = Path(__file__).with_name("_benchmark_worker.py")
        self._process = subprocess.Popen(
            [python, str(script), json.dumps(asdict(case))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        self._read()

    def pair(self) -> float | None:
        answer = self._ask("pair")
        return float(answer) if answer else None

    def finish(self) -> None:
        answer = self._ask("peak")
        if answer:
            self.result.peak = int(answer)
            self._process.communicate()

    def _ask(self, question: str) -> str:
        if self.result.trouble:
            return ""
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        # What libraries print is passed over.
        for line in self._process.stdout:
            if re.fullmatch(r"ready|[\d.e-]+", line.strip()):
                return line
        _, errors = self._process.communicate()
        last = (errors.strip().splitlines() or ["killed, by want of memory perhaps"])[-1]
        self.result.trouble = "out of memory" if "memory" in last else last[:80]
        return ""


def _lacks_memory(case: Case) -> str:
    """Whether the volumes would not fit into the memory that is free: a swapping machine measures nothing."""
    height, width = case.size
    needed = 3 * 4 * (height * width // 64) ** 2
    if not case.volume or needed < 0.9 * (free := _free_memory(case.device)):
        return ""
    return f"needs {needed / GIB:.0f} GiB, {free / GIB:.0f} free"


def _free_memory(device: str) -> float:
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else float("inf")


def measure(cases: Sequence[Case], comfyui: ComfyUI | None, repeats: int) -> list[Result]:
    """Runs the cases in turn, `repeats` times after one that is not counted."""
    workers = [Worker(case, comfyui) for case in cases]
    for turn in range(repeats + 1):
        for worker in workers:
            seconds = worker.pair()
            if seconds is not None and turn:
                worker.result.seconds.append(seconds)
    for worker in workers:
        worker.finish()
    return [worker.result for worker in workers]


def table(results: Sequence[Result]) -> Iterator[str]:
    """One size's rows. Ratios above 1 say how many times less time or memory the row's network takes."""
    by_case = {result.case: result for result in results}
    for result in results:
        case = result.case
        start = f"| {case.size[1]}x{case.size[0]} | {case.name} | {case.precision} |"
        if not result.seconds:
            yield f"{start} {result.trouble} | | | | | |"
            continue
        volume = by_case.get(Case(case.network, case.size, case.precision, case.device, volume=True))
        others = [by_case.get(Case(name, case.size, case.precision, case.device)) for name in ("RIFE", "FILM")]
        memory = f"{result.peak / GIB:.2f}" if result.peak else ""
        less = ""
        if volume and volume is not result and volume.peak and result.peak:
            less = f"{volume.peak / result.peak:.1f}"
        ratios = [_ratio(other, result) for other in (volume, *others)]
        seconds = statistics.median(result.seconds)
        yield f"{start} {seconds:.2f} | {memory} | {ratios[0]} | {less} | {ratios[1]} | {ratios[2]} |"


def _ratio(other: Result | None, result: Result) -> str:
    """The median of the turns' ratios."""
    if other is None or other is result or not other.seconds:
        return ""
    return f"{statistics.median(a / b for a, b in zip(other.seconds, result.seconds, strict=True)):.2f}"


HEAD = (
    "| frames | network | precision | seconds a pair | peak GiB | times as fast as with the volume "
    "| times less memory | times as fast as RIFE | as FILM |\n|---|---|---|---|---|---|---|---|---|"
)


def machine(device: str) -> str:
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        what = f"{properties.name}, {properties.total_memory / GIB:.0f} GiB"
    else:
        what = f"{_processor()}, {torch.get_num_threads()} threads"
    return f"{what}; {platform.system()}, Python {platform.python_version()}, PyTorch {torch.__version__}"


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def write(device: str, lines: Sequence[str]) -> None:
    """Puts a device's table into the page, in the place of what was measured there before."""
    text = PAGE.read_text()
    start, end = (mark.replace("measured", f"measured {device}") for mark in MARKS)
    before, rest = text.split(start)
    _, after = rest.split(end)
    PAGE.write_text(f"{before}{start}\n" + "\n".join(lines) + f"\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["480p", "720p", "1080p", "4k"])
    parser.add_argument("--networks", nargs="+", choices=("S", "L", "G"), default=["S", "L", "G"])
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "fp16", "bf16"), help="fp32; on CUDA fp16 too")
    parser.add_argument("--volume", nargs="*", choices=("S", "L", "G"), default=["S"], help="run with the volume too")
    parser.add_argument("--others", nargs="*", choices=("RIFE", "FILM"), default=["RIFE", "FILM"])
    parser.add_argument("--devices", nargs="+", choices=("cpu", "cuda"), help="both, where there are both")
    parser.add_argument("--repeats", type=int, default=5, help="counted pairs of each")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.relative_to(_pack.ROOT)}")
    arguments = parser.parse_args()
    try:
        comfyui = find_or_made()
    except SetupError as error:
        print(error)
        comfyui = None

    for device in arguments.devices or (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]):
        lines = [machine(device), "", HEAD]
        print("\n".join(lines), flush=True)
        precisions = arguments.precisions or (["fp32", "fp16"] if device == "cuda" else ["fp32"])
        for size in (SIZES[name] for name in arguments.sizes):
            cases = [
                Case(network, size, precision, device, volume)
                for precision in precisions
                for network, volume in [
                    *((f"AMT-{name}", False) for name in arguments.networks),
                    *((f"AMT-{name}", True) for name in arguments.volume if name in arguments.networks),
                    *((name, False) for name in arguments.others),
                ]
            ]
            rows = list(table(measure(cases, comfyui, arguments.repeats)))
            print("\n".join(rows), flush=True)
            lines += rows
        if arguments.write:
            write(device, lines)


if __name__ == "__main__":
    main()
