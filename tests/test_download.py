"""Downloads from a stand-in of the hub, with the huggingface_hub that is installed."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock as Mock

import pytest
import torch
from amt_frame_interpolation.amt.network import AMT, S
from amt_frame_interpolation.models.catalogue import BUNDLED, Record, by_name
from amt_frame_interpolation.models.download import _workplace, download
from amt_frame_interpolation.models.errors import (
    DiskFullError,
    DownloadError,
    NotPublishedError,
    OfflineError,
    WrongDigestError,
)
from golden import golden_state_dict
from hub import REPO, Hub
from huggingface_hub import constants

CONTENT = bytes(range(256)) * 8192  # 2 MiB
OTHER = CONTENT[::-1]


def record_of(content: bytes, *, like: str = "amt-s.pth") -> Record:
    """A catalogue record of this content, as well confirmed as the one it is like."""
    known = by_name(like)
    assert known is not None
    digest = hashlib.sha256(content).hexdigest() if known.sha256 else None
    return replace(known, repo=REPO, sha256=digest, bytes=len(content) if digest else None)


RECORD = record_of(CONTENT)


Set = Callable[[str, object], None]


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Sets what huggingface_hub takes from the environment when it is imported: here, and for other processes."""

    def set_it(name: str, value: object) -> None:
        monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(constants, "ENDPOINT" if name == "HF_ENDPOINT" else name, value)
        if name == "HF_ENDPOINT":
            template = f"{value}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return set_it


@pytest.fixture(autouse=True)
def environment(setting: Set, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TRANSFORMERS_OFFLINE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    setting("HF_HUB_OFFLINE", False)
    setting("HF_HUB_CACHE", str(tmp_path / "hf-cache"))
    setting("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    setting("HF_HUB_DOWNLOAD_TIMEOUT", 2)
    setting("HF_HUB_ETAG_TIMEOUT", 20)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def hub(setting: Set) -> Iterator[Hub]:
    with Hub({RECORD.name: CONTENT}) as hub:
        setting("HF_ENDPOINT", hub.url)
        yield hub
    # The transfers that nobody waited for end when the hub is gone; tests of other files look for such threads.
    wait_for(lambda: not any(thread.name == "amt-download" for thread in threading.enumerate()), seconds=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "amt"


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_good_file_comes_whole_and_alone(hub: Hub, folder: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    path = download(RECORD, folder, progress=lambda done, total: calls.append((done, total)))
    assert path == folder / "amt-s.pth"
    assert path.read_bytes() == CONTENT
    assert left(folder) == ["amt-s.pth"]
    assert calls
    assert all(0 <= done <= len(CONTENT) and total == len(CONTENT) for done, total in calls)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_progress_counts_what_has_arrived(hub: Hub, folder: Path) -> None:
    hub.body = "slow"
    seen: list[int] = []

    def progress(done: int, total: int | None) -> None:
        seen.append(done)
        if done >= len(CONTENT) // 2 - 65536:  # the rest of the half may wait in a buffer
            hub.release.set()

    download(RECORD, folder, progress=progress)
    assert hub.release.is_set()
    assert (folder / RECORD.name).read_bytes() == CONTENT


def test_a_file_that_is_there_is_left_alone(hub: Hub, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / RECORD.name).write_bytes(b"the user's own")
    assert download(RECORD, folder).read_bytes() == b"the user's own"
    assert not hub.requests


def test_a_wrong_digest_is_refused_with_both_digests(hub: Hub, folder: Path) -> None:
    hub.files[RECORD.name] = OTHER
    with pytest.raises(WrongDigestError) as caught:
        download(RECORD, folder)
    message = str(caught.value)
    assert RECORD.sha256
    assert RECORD.sha256 in message
    assert hashlib.sha256(OTHER).hexdigest() in message
    assert "single source" not in message
    assert left(folder) == []


@pytest.mark.parametrize("name", ["amt-l.pth", "amt-g.pth"])
def test_a_mismatch_of_a_digest_with_one_source_says_so_and_how_to_go_on(hub: Hub, folder: Path, name: str) -> None:
    record = record_of(CONTENT, like=name)
    hub.files[name] = OTHER
    with pytest.raises(WrongDigestError) as caught:
        download(record, folder)
    message = str(caught.value)
    assert record.sha256
    for part in (record.sha256, hashlib.sha256(OTHER).hexdigest(), "single source", str(folder / name), record.url):
        assert part
        assert part in message
    assert left(folder) == []


def test_without_a_known_digest_a_sound_checkpoint_is_taken_and_its_digest_logged(
    hub: Hub, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = record_of(b"", like="gopro_amt-s.pth")
    torch.save({"state_dict": golden_state_dict(AMT(S))}, tmp_path / "made.pth")
    content = (tmp_path / "made.pth").read_bytes()
    hub.files[record.name] = content
    with caplog.at_level("INFO"):
        assert download(record, folder).read_bytes() == content
    assert hashlib.sha256(content).hexdigest() in caplog.text
    assert left(folder) == [record.name]


def test_without_a_known_digest_anything_else_is_refused(hub: Hub, folder: Path) -> None:
    record = record_of(b"", like="gopro_amt-s.pth")
    hub.files[record.name] = b"<!DOCTYPE html><title>Please log in</title>"
    with pytest.raises(DownloadError, match="web page"):
        download(record, folder)
    assert left(folder) == []


def test_a_connection_that_closes_early_leaves_nothing(hub: Hub, folder: Path) -> None:
    hub.body = "cut"
    with pytest.raises(DownloadError, match=re.escape(hub.url)):
        download(RECORD, folder)
    assert left(folder) == []


def test_a_failing_server(hub: Hub, folder: Path) -> None:
    hub.body = "error"
    with pytest.raises(DownloadError, match="500"):
        download(RECORD, folder)
    assert left(folder) == []


def test_a_file_that_the_hub_does_not_have(hub: Hub, folder: Path) -> None:
    del hub.files[RECORD.name]
    with pytest.raises(NotPublishedError, match=re.escape(str(folder / RECORD.name))):
        download(RECORD, folder)
    assert left(folder) == []


def test_no_network(folder: Path) -> None:
    with pytest.raises(DownloadError, match="HF_ENDPOINT") as caught:
        download(RECORD, folder)
    assert type(caught.value) is DownloadError
    assert left(folder) == []


def test_offline_mode_asks_nobody(hub: Hub, folder: Path, setting: Set) -> None:
    setting("HF_HUB_OFFLINE", True)
    with pytest.raises(OfflineError, match=re.escape(str(folder / RECORD.name))):
        download(RECORD, folder)
    assert not hub.requests
    assert left(folder) == []


def fill_hub_cache(content: bytes) -> None:
    """What another program leaves that downloaded the file with huggingface_hub."""
    with Hub({RECORD.name: content}) as hub:
        program = f"from huggingface_hub import hf_hub_download; hf_hub_download({REPO!r}, {RECORD.name!r})"
        subprocess.run([sys.executable, "-c", program], env=os.environ | {"HF_ENDPOINT": hub.url}, check=True)


def test_offline_mode_finds_what_the_hub_has_in_its_cache(folder: Path, setting: Set) -> None:
    fill_hub_cache(CONTENT)
    setting("HF_HUB_OFFLINE", True)
    assert download(RECORD, folder).read_bytes() == CONTENT
    assert left(folder) == [RECORD.name]


def test_a_bad_file_in_the_hub_cache_does_not_stand_in_the_way(hub: Hub, folder: Path) -> None:
    fill_hub_cache(OTHER)
    assert download(RECORD, folder).read_bytes() == CONTENT


def test_a_transfer_that_stalls_is_given_up(hub: Hub, folder: Path, setting: Set) -> None:
    setting("HF_HUB_DOWNLOAD_TIMEOUT", 300)
    setting("HF_HUB_ETAG_TIMEOUT", 300)
    hub.body = "stall"
    with pytest.raises(DownloadError, match="stalled"):
        download(RECORD, folder, stall_seconds=2)
    assert hub.halfway.is_set()
    assert left(folder) == []


def test_an_interruption_while_the_network_is_silent(hub: Hub, folder: Path) -> None:
    class Cancelled(BaseException):
        pass

    hub.body = "stall"

    def progress(done: int, total: int | None) -> None:
        if hub.halfway.is_set():
            raise Cancelled

    with pytest.raises(Cancelled):
        download(RECORD, folder, progress=progress)
    assert left(folder) == []


def test_what_comes_after_an_interruption_is_not_kept(hub: Hub, folder: Path) -> None:
    hub.body = "slow"
    before = set(threading.enumerate())

    def progress(done: int, total: int | None) -> None:
        if hub.requests:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(RECORD, folder, progress=progress)
    hub.release.set()
    wait_for(lambda: all(thread.name != "amt-download" for thread in set(threading.enumerate()) - before))
    assert left(folder) == []


def test_the_first_word_of_progress_comes_before_the_network_is_asked(hub: Hub, folder: Path) -> None:
    class Cancelled(BaseException):
        pass

    def progress(done: int, total: int | None) -> None:
        assert (done, total) == (0, len(CONTENT))
        raise Cancelled

    with pytest.raises(Cancelled):
        download(RECORD, folder, progress=progress)
    assert not hub.requests
    assert left(folder) == []


def test_too_little_room_is_seen_before_the_transfer(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DiskFullError, match=f"1000 .*{len(CONTENT)}|{len(CONTENT)} .*1000"):
        download(RECORD, folder)
    assert not hub.requests
    assert left(folder) == []


def test_a_disk_that_fills_up(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = io.open

    def open_on_a_full_disk(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        opened = really_open(file, mode, *args, **kwargs)
        if not str(file).endswith(".incomplete"):
            return opened

        def write(data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        return Mock(wraps=opened, write=write, __enter__=lambda self: self, __exit__=lambda *_: opened.close())

    monkeypatch.setattr(io, "open", open_on_a_full_disk)
    with pytest.raises(DiskFullError, match="No space left"):
        download(RECORD, folder)
    assert left(folder) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_folder_that_cannot_be_written_to(hub: Hub, folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    with pytest.raises(DownloadError, match="can be written"):
        download(RECORD, folder)


def test_a_folder_that_is_a_file(hub: Hub, folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_bytes(b"")
    with pytest.raises(DownloadError, match=re.escape(str(folder))):
        download(RECORD, folder)
    assert folder.read_bytes() == b""


def test_the_bundled_checkpoint_is_not_downloaded(hub: Hub, folder: Path) -> None:
    with pytest.raises(DownloadError, match="install the pack"):
        download(BUNDLED, folder)
    assert not hub.requests


PROGRAM = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent / "scripts")]!r}
import _pack
from pathlib import Path
from amt_frame_interpolation.models.download import download
from test_download import RECORD
download(RECORD, Path(sys.argv[1]))
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)])


def test_two_processes_at_once(hub: Hub, folder: Path, setting: Set) -> None:
    setting("HF_HUB_DOWNLOAD_TIMEOUT", 300)
    setting("HF_HUB_ETAG_TIMEOUT", 300)
    hub.body = "slow"
    processes = [start(folder), start(folder)]
    wait_for(lambda: len(left(folder)) == 2 and hub.downloads == 2, 240)
    hub.release.set()
    assert [process.wait(60) for process in processes] == [0, 0]
    assert (folder / RECORD.name).read_bytes() == CONTENT
    assert left(folder) == [RECORD.name]


def test_what_a_killed_process_leaves_is_swept_and_a_running_download_is_not(
    hub: Hub, folder: Path, setting: Set
) -> None:
    setting("HF_HUB_DOWNLOAD_TIMEOUT", 300)
    setting("HF_HUB_ETAG_TIMEOUT", 300)
    hub.body = "slow"
    killed, running = start(folder), start(folder)
    wait_for(lambda: len(left(folder)) == 2 and hub.downloads == 2, 240)
    killed.kill()
    killed.wait(30)
    assert len(left(folder)) == 2

    other = record_of(OTHER, like="amt-l.pth")
    hub.files[other.name] = OTHER
    hub.body = "whole"
    download(other, folder)
    assert len(left(folder)) == 2  # this file and the running download

    hub.release.set()
    assert running.wait(60) == 0
    assert left(folder) == [other.name, RECORD.name]
    assert (folder / RECORD.name).read_bytes() == CONTENT


def test_a_folder_that_is_swept_before_its_lock_is_held_is_given_up_for_another(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder, made = tempfile.mkdtemp, []

    def make_and_let_another_process_sweep(**options: Any) -> str:
        made.append(make_folder(**options))
        if len(made) < 3:
            with _workplace(folder):
                pass
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_let_another_process_sweep)
    assert download(RECORD, folder).read_bytes() == CONTENT
    assert len(made) > 2
    assert left(folder) == [RECORD.name]


def test_no_download_sweeps_the_folder_of_another(folder: Path) -> None:
    folder.mkdir(parents=True)

    def download_often(number: int) -> None:
        for _ in range(50):
            with _workplace(folder) as work:
                (work / "file").write_text(str(number))
                assert (work / "file").read_text() == str(number)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(download_often, range(4)))
    assert left(folder) == []
