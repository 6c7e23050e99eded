"""The key, the checks before anything is sent, and what is done with the file that comes back."""

from __future__ import annotations

import io
import logging
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from amt_frame_interpolation.remote import clip, request, result
from amt_frame_interpolation.remote.credentials import read_key
from amt_frame_interpolation.remote.errors import RemoteError, plain
from amt_frame_interpolation.remote.fetch import check_url
from fal_stand_in import StandIn, stand_in
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_video import video_bytes

KEY = "0a1b-key-id:5e6f-key-secret"


# --- the key


def test_the_key_comes_from_the_environment_or_a_file_that_it_names(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f" {KEY}\n")
    file.chmod(0o600)
    assert read_key({"FAL_KEY": f"{KEY}\n"}) == KEY
    assert read_key({"FAL_KEY_FILE": str(file)}) == KEY
    assert read_key({"FAL_KEY": "the:first", "FAL_KEY_FILE": str(file)}) == "the:first"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"FAL_KEY": "  "},
        {"FAL_KEY": "no-colon-SECRET"},
        {"FAL_KEY": "two:SECRET words"},
        {"FAL_KEY": "id:SECRET\r\nX-Injected: 1"},
        {"FAL_KEY": "schlüssel:SECRET"},
        {"FAL_KEY_FILE": "/nonexistent/SECRET"},
        {"FAL_KEY_FILE": str(Path(__file__).parent)},
        {"FAL_KEY_FILE": __file__},
        {"FAL_KEY_ID": "a", "FAL_KEY_SECRET": "SECRET"},
    ],
)
def test_without_a_usable_key_it_says_what_to_do_and_shows_nothing(environment: dict[str, str]) -> None:
    with pytest.raises(RemoteError, match="FAL_KEY") as caught:
        read_key(environment)
    assert "SECRET" not in str(caught.value)
    assert "nonexistent" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_key_file_inside_the_pack_is_refused(tmp_path: Path) -> None:
    inside = Path(__file__).parent / ".." / "key.txt"
    link = tmp_path / "link"
    link.symlink_to(inside.resolve())
    for path in (inside, link):
        with pytest.raises(RemoteError, match="inside this node pack"):
            read_key({"FAL_KEY_FILE": str(path)})


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_a_key_file_that_others_can_read_is_remarked_upon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o600)
    read_key({"FAL_KEY_FILE": str(file)})
    assert caplog.text == ""
    file.chmod(0o600 | stat.S_IRGRP)
    assert read_key({"FAL_KEY_FILE": str(file)}) == KEY
    assert "chmod 600" in caplog.text
    assert KEY not in caplog.text
    assert str(tmp_path) not in caplog.text


# --- before anything is sent


@pytest.mark.parametrize(
    ("shape", "passes", "word"),
    [
        ((1, 8, 8, 3), 4, "1 frame"),
        ((501, 8, 8, 3), 1, "501 frame"),
        ((2, 8, 20000, 3), 4, "20000 x 8"),
        ((100, 2160, 3840, 3), 6, "GiB"),
    ],
)
def test_requests_out_of_bounds_are_refused(shape: tuple[int, ...], passes: int, word: str) -> None:
    with pytest.raises(RemoteError, match=word):
        request.check_frames(shape, passes)


@pytest.mark.parametrize(("fps", "passes"), [(0, 4), (-1, 4), (241, 4), (24, 0), (24, 7), (24, -1)])
def test_settings_out_of_bounds_are_refused(fps: int, passes: int) -> None:
    with pytest.raises(RemoteError, match="expected 1 to"):
        request.settings(fps, passes)


def test_settings_are_named_as_the_endpoint_names_them() -> None:
    assert request.settings(24, 4) == {"output_fps": 24, "recursive_interpolation_passes": 4}


# --- where the result may come from


@pytest.mark.parametrize(
    "url",
    [
        "https://fal.media/files/a.mp4",
        "https://v3.fal.media/files/a.mp4",
        "https://storage.googleapis.com/falserverless/a.mp4",
    ],
)
def test_fals_own_addresses(url: str) -> None:
    check_url(url, result.RULES)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://v3.fal.media/a.mp4",
            "https://v3.fal.media:8443/a",
            "https://user@v3.fal.media/a",
            "ftp://fal.media/a",
        ),
        *("https://fal.media.evil.example/a", "https://evilfal.media/a", "https://fal.media@evil.example/a"),
        *("https://evil.example/fal.media", "https://evil.example/?fal.media", "https://fal.mediа/a"),
        *("https://storage.googleapis.com/other/a.mp4", "https://storage.googleapis.com/falserverless.evil/a.mp4"),
        *("https://storage.googleapis.com/falserverless/../other/a.mp4", "https://169.254.169.254/", "https://[::1]/"),
        *("https://2130706433/", "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "data:video/mp4,x"),
        *("//fal.media/a", "fal.media/a", "", "https://"),
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(RemoteError):
        check_url(url, result.RULES)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with stand_in(tmp_path_factory.mktemp("fal")) as service:
        yield service


@pytest.fixture
def fal(service: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    service.reset()
    return service


FILE = "https://v3.fal.media/files/result/a.mp4"


def get(url: str = FILE, **rules: Any) -> bytes:
    how = result.Rules(**{**vars(result.RULES), "stall": 0.5, "seconds": 3, **rules})
    return result.download({"video": {"url": url}}, stop=threading.Event(), rules=how)


def test_the_result_is_fetched_without_credentials_even_from_netrc(
    fal: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password SECRET\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    fal.video = b"here"
    assert get() == b"here"
    assert {"authorization", "cookie"}.isdisjoint(fal.requests[0].headers)


def test_redirects_of_the_result_stay_with_fal(fal: StandIn) -> None:
    fal.video = b"here"
    fal.fault("GET", r".*/a\.mp4", status=302, headers={"Location": "https://fal.run/files/result/b.mp4"})
    assert get() == b"here"
    for target in (
        "https://evil.example/",
        "http://v3.fal.media/b",
        "https://fal.media.evil.example/",
        "file:///etc/x",
    ):
        fal.reset()
        fal.fault("GET", r".*/a\.mp4", status=302, headers={"Location": target})
        with pytest.raises(RemoteError):
            get()
        assert {request.host for request in fal.requests} == {"v3.fal.media"}


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"status": 404}, "HTTP 404"),
        ({"status": 302, "headers": {"Location": FILE}, "times": 9}, "more than 3 redirects"),
        ({"status": 200, "headers": {"Content-Length": str(2**40)}}, "larger"),
        ({"status": 200, "body": bytes(2**20 + 1)}, "larger"),
        ({"status": 200, "body": b"x", "headers": {"Content-Encoding": "gzip"}}, "compressed"),
        ({"status": 200, "body": b"cut", "headers": {"Content-Length": "10"}}, "silent"),
        ({"drop": True, "times": 9}, "broke off"),
        ({"delay": 1}, "silent"),
    ],
    ids=str,
)
def test_the_download_is_bounded(fal: StandIn, fault: dict[str, Any], word: str) -> None:
    fal.fault("GET", r".*/a\.mp4", **fault)
    with pytest.raises(RemoteError, match=word) as caught:
        get(max_bytes=2**20)
    assert "://" not in str(caught.value)


# --- what the file is


@pytest.mark.parametrize("kind", ["mp4", "webm", "gif"])
def test_the_kind_is_judged_by_the_bytes(kind: str) -> None:
    data = video_bytes(kind=kind)
    assert clip.measure(data) == (5, 32, 24)
    images = clip.decode(data, max_frames=99, check=lambda: None)
    assert images.shape == (5, 24, 32, 3)
    assert images.dtype == torch.float32
    expected = torch.arange(5) * 40 / 255
    assert torch.allclose(images.mean((1, 2, 3)), expected, atol=0.04)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<!doctype html>",
        b"\x89PNG\r\n\x1a\n",
        video_bytes(kind="mpegts"),
        video_bytes(kind="avi"),
    ],
)
def test_what_is_no_mp4_webm_or_gif_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteError, match="no MP4, WebM or GIF"):
        clip.measure(data)


def test_a_playlist_behind_the_right_first_bytes_opens_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(video_bytes())
    for head in (b"\0\0\0\0ftyp", b"\x1a\x45\xdf\xa3", b"GIF89a"):
        with pytest.raises(RemoteError):
            clip.decode(head + f"\n#EXTM3U\n{secret}\n".encode(), max_frames=9, check=lambda: None)


def test_a_cut_video_is_an_error_and_not_a_short_one() -> None:
    data = video_bytes(frames=48, width=320, height=240)
    for part in (10, 2, 1.05):
        with pytest.raises(RemoteError):
            clip.decode(data[: int(len(data) / part)], max_frames=99, check=lambda: None)


def test_frames_beyond_the_limit_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(clip.decode(video_bytes(frames=9), max_frames=4, check=lambda: None)) == 4
    assert "9 frames" in caplog.text


def test_a_size_beyond_reason_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "MAX_PIXELS", 32 * 24 - 1)
    with pytest.raises(RemoteError, match="32 x 24"):
        clip.measure(video_bytes())


def test_decoding_can_be_interrupted() -> None:
    class Interrupt(BaseException):
        pass

    def check() -> None:
        raise Interrupt

    with pytest.raises(Interrupt):
        clip.decode(video_bytes(), max_frames=9, check=check)


def test_the_copy_for_the_upload_holds_the_picture_alone() -> None:
    data = video_bytes(prompt="WORKFLOW-TEXT", comment="WORKFLOW-TEXT")
    assert b"WORKFLOW-TEXT" in data
    copy = clip.picture_only(data)
    assert b"WORKFLOW-TEXT" not in copy
    with av.open(io.BytesIO(copy)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert not {"prompt", "comment"} & set(container.metadata)
    images = [clip.decode(file, max_frames=9, check=lambda: None) for file in (data, copy)]
    assert torch.equal(*images)


_text = st.text(st.characters(exclude_characters="/;", exclude_categories=()))  # lone surrogates, too


@settings(deadline=None)
@given(_text, _text)
def test_text_from_the_other_side_is_one_short_line_without_addresses(before: str, after: str) -> None:
    nasty = f"{before} https://x.example/?token=1 DATA:image/png;base64,AAAA wss://y/z {KEY} <b> {after}"
    shown = plain(nasty, secrets=(KEY,))
    assert len(shown) <= 300
    shown.encode()
    for bad in ("://", ";base64,AAAA", KEY, "<", ">", "\n", "\r", "\x1b"):
        assert bad not in shown


def test_a_secret_is_hidden_however_far_away_it_stands() -> None:
    assert "secret" not in plain("https://" + "x" * 5990 + " " + KEY, secrets=(KEY,))
