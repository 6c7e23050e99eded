"""Times AMT on this machine, beside the correlation volume and ComfyUI core's RIFE 4.26 and FILM.

    python scripts/benchmark speed                  AMT-S at 480p and 720p: some minutes on a CPU
    python scripts/benchmark speed --write-docs     everything, into docs/performance.md and the README

Every network runs in a process of its own, AMT-S with its bundled weights, others with random ones; those of one size
take turns, pair by pair, so that all see the same machine, and medians are compared. The first pair of each is not
counted, unless it took so long that it stays the only one. RIFE and FILM need a ComfyUI (COMFYUI_PATH, or what
scripts/comfyui.py has made), and this to be run with its Python.
"""

from __future__ import annotations

import argparse
import platform
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
from _pack import ROOT
from documents.marks import insert
from setup.install import SetupError, find_or_made

from benchmark.meter import own_process
from benchmark.worker import Case, answer, prepare

SIZES = {"256p": (256, 448), "480p": (480, 848), "720p": (720, 1280), "1080p": (1080, 1920), "4k": (2160, 3840)}
ENGINE_SIZE = "256p"
ENGINE_FRAMES = (17, 257)
README, PAGE = ROOT / "README.md", ROOT / "docs" / "performance.md"
SLOW = 10
"""Seconds. What takes longer is done once."""
GIB = 2**30


@dataclass
class Result:
    case: Case
    seconds: list[float] = field(default_factory=list)
    peak: int | None = None
    """Bytes."""
    trouble: str = ""
    """Why there is no result."""

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None


class Worker:
    """A process that runs one network."""

    def __init__(self, case: Case, comfyui: Path | None) -> None:
        self.result = Result(case)
        self._process = own_process()
        self._run(prepare, case, comfyui)

    def ask(self, question: str, *arguments: int) -> float | None:
        """One of the questions of `worker.Running`; None after trouble."""
        return self._run(answer, question, *arguments)

    def _run(self, work: Callable[..., float | None], *arguments: Any) -> float | None:
        if self.result.trouble:
            return None
        try:
            return self._process.submit(work, *arguments).result()
        except BrokenProcessPool:
            said = "the process was killed for its memory"
        except Exception as error:  # whatever it is, the other networks go on
            said = f"{type(error).__name__}: {error}".strip().splitlines()[-1]
        self.result.trouble = "does not fit into memory" if re.search("memory", said, re.I) else said[:80]
        return None

    def time_pair(self) -> None:
        """Adds a pair's seconds, unless pairs are slow and there is one."""
        seconds = self.result.seconds
        if not (seconds and seconds[0] > SLOW) and (taken := self.ask("seconds")):
            seconds.append(taken)

    def finish(self) -> None:
        if found := self.ask("peak"):
            self.result.peak = int(found)
        self._process.shutdown()
        if len(self.result.seconds) > 1:
            del self.result.seconds[0]


def measure(cases: Sequence[Case], comfyui: Path | None, repeats: int) -> list[Result]:
    """Runs the cases in turn, `repeats` times after one that is not counted."""
    workers = [Worker(case, comfyui) for case in cases]
    for _ in range(repeats + 1):
        for worker in workers:
            worker.time_pair()
    for worker in workers:
        worker.finish()
    return [worker.result for worker in workers]


HEAD = (
    "| frames | network | precision | seconds a pair | peak GiB | times as fast as with the volume "
    "| times less memory | times as fast as RIFE | as FILM |",
    "|---|---|---|---|---|---|---|---|---|",
)


def rows(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        case = result.case
        start = f"| {case.size[1]}x{case.size[0]} | {case.name} | {case.precision} |"
        if result.median is None or result.peak is None:
            yield f"{start} {result.trouble} | | | | | |"
            continue
        volume = find(results, case, case.network, volume=True)
        cells = [f"{result.median:.2f}", f"{result.peak / GIB:.2f}"]
        if case.network.startswith("AMT") and not case.volume:
            cells += [ratio(volume and volume.median, result.median), ratio(volume and volume.peak, result.peak)]
        else:
            cells += ["", ""]
        for name in ("RIFE", "FILM"):
            other = find(results, case, name)
            cells.append(ratio(other.median, result.median) if other and case.network.startswith("AMT") else "")
        yield f"{start} {' | '.join(cells)} |"


def find(results: Sequence[Result], case: Case, name: str, *, volume: bool = False) -> Result | None:
    wanted = Case(name, case.size, case.precision, case.device, volume)
    return next((result for result in results if result.case == wanted), None)


def ratio(other: float | None, own: float) -> str:
    return f"{other / own:.2f}" if other else ""


def engine_rows(precision: str, device: str) -> Iterator[str]:
    worker = Worker(Case("AMT-S", SIZES[ENGINE_SIZE], precision, device), None)
    worker.ask("seconds")
    for count in ENGINE_FRAMES:
        share = worker.ask("overhead", count)
        yield f"| {count} | {worker.result.trouble if share is None else f'{100 * share:.1f} %'} |"
    worker.finish()


def machine(device: str) -> str:
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        what = f"{properties.name}, {properties.total_memory / GIB:.0f} GiB"
    else:
        what = f"{_processor()}, {torch.get_num_threads()} threads"
    versions = f"{platform.system()}, Python {platform.python_version()}, PyTorch {torch.__version__}"
    return f"{what}; {versions}; {date.today()}."


def _processor() -> str:
    """Its name and its widest instructions: virtual machines tell no more than the maker."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"model name\s*: (.+)", text)
    return f"{name[1] if name else platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"


def benchmark(device: str, arguments: argparse.Namespace, comfyui: Path | None) -> tuple[list[str], list[str]]:
    """Prints a device's tables as they come; returns them, and AMT-S's rows of the first precision."""
    precisions = arguments.precisions or (["fp32", "fp16"] if device == "cuda" else ["fp32"])
    lines = [machine(device), "", *HEAD]
    print("\n".join(lines), flush=True)
    first: list[str] = []
    for size in (SIZES[name] for name in arguments.sizes):
        cases = [
            Case(network, size, precision, device, volume)
            for precision in precisions
            for network, volume in [
                *((f"AMT-{name}", False) for name in arguments.networks),
                *([("AMT-S", True)] if "S" in arguments.networks else []),
                ("RIFE", False),
                ("FILM", False),
            ]
        ]
        found = list(rows(measure(cases, comfyui, arguments.repeats)))
        print("\n".join(found), flush=True)
        lines += found
        first += [row for row in found if f"| AMT-S | {precisions[0]} |" in row]
    engine = ["", "| frames made of two | engine's own work, of the network's time |", "|---|---|"]
    print("\n".join(engine), flush=True)
    for row in engine_rows(precisions[0], device):
        print(row, flush=True)
        engine.append(row)
    return lines + engine, first


def comfyui_folder() -> Path | None:
    """Of the ComfyUI that there is; None where there is none, or, said, none that can be used."""
    try:
        found = find_or_made()
    except SetupError as error:
        print(error)
        return None
    return found and found.folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES)
    parser.add_argument("--networks", nargs="+", choices=("S", "L", "G"))
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "fp16", "bf16"), help="fp32; on CUDA fp16 too")
    parser.add_argument("--devices", nargs="+", choices=("cpu", "cuda"), help="both, where there are both")
    parser.add_argument("--repeats", type=int, default=3, help="counted pairs of each")
    parser.add_argument("--write-docs", action="store_true", help="every size and network, into the documentation")
    arguments = parser.parse_args()
    arguments.sizes = arguments.sizes or (list(SIZES)[1:] if arguments.write_docs else ["480p", "720p"])
    arguments.networks = arguments.networks or (["S", "L", "G"] if arguments.write_docs else ["S"])
    comfyui = comfyui_folder()
    for device in arguments.devices or ("cpu", "cuda"):
        if device == "cuda" and not torch.cuda.is_available():
            print("CUDA: not measured, no device.")
            continue
        lines, summary = benchmark(device, arguments, comfyui)
        if arguments.write_docs:
            for path, text in ((PAGE, lines), (README, [*HEAD, *summary])):
                if not insert(path, f"performance: {device}", "\n".join(text)):
                    print(f"{path.name} has no marks for {device}.")
