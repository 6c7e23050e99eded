"""Names for the menu, and from a name back to a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from amt_frame_interpolation.models.catalogue import PUBLISHED, Record
from amt_frame_interpolation.models.discovery import find_checkpoint, list_checkpoints
from amt_frame_interpolation.models.errors import CheckpointNotFoundError
from hypothesis import given
from hypothesis import strategies as st

KNOWN = [record.name for record in PUBLISHED]


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    return put(tmp_path / "pack" / "amt-s-open.safetensors")


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    return path


def test_published_names_are_listed_though_nothing_is_there(tmp_path: Path) -> None:
    assert list_checkpoints([tmp_path / "nowhere"], bundled=tmp_path / "missing.safetensors") == KNOWN


def test_the_bundled_one_comes_first_and_only_if_it_is_there(bundled: Path) -> None:
    assert list_checkpoints([], bundled=bundled) == ["amt-s-open.safetensors", *KNOWN]
    bundled.unlink()
    assert list_checkpoints([], bundled=bundled) == KNOWN


def test_files_of_weights_in_all_folders_and_their_subfolders(tmp_path: Path, bundled: Path) -> None:
    one, two = tmp_path / "amt", tmp_path / "frame_interpolation"
    for path in (
        one / "amt-l.pth",
        one / "b.pt",
        one / "mine" / "deep" / "tuned.safetensors",
        two / "amt-l.pth",
        two / "b.pt",
        two / "A.CKPT",
        two / "amt-s-open.safetensors",
        two / "readme.txt",
        two / ".hidden.pth",
        two / ".amt-download-x" / "half.pth",
    ):
        put(path)
    names = list_checkpoints([one, two, one], bundled=bundled)
    assert names == ["amt-s-open.safetensors", *KNOWN, "A.CKPT", "b.pt", "mine/deep/tuned.safetensors"]
    assert find_checkpoint("amt-l.pth", [one, two], bundled=bundled) == one / "amt-l.pth"
    assert find_checkpoint("amt-l.pth", [two, one], bundled=bundled) == two / "amt-l.pth"
    assert find_checkpoint("mine/deep/tuned.safetensors", [two, one]) == one / "mine" / "deep" / "tuned.safetensors"


def test_every_listed_name_is_found_again(tmp_path: Path, bundled: Path) -> None:
    folder = tmp_path / "amt"
    for name in ("x.pth", "ä ö/ü.safetensors", "a..b/c.pt", "..d.e/f.pth", "semi;colon 'quote'.ckpt"):
        put(folder / name)
    names = list_checkpoints([folder], bundled=bundled)
    assert "ä ö/ü.safetensors" in names
    assert "a..b/c.pt" in names
    for name in names:
        found = find_checkpoint(name, [folder], bundled=bundled)
        assert isinstance(found, Record) or found.is_file()


def test_a_name_from_windows_is_found(tmp_path: Path) -> None:
    path = put(tmp_path / "mine" / "tuned.pth")
    assert find_checkpoint("mine\\tuned.pth", [tmp_path]) == path


def test_the_bundled_one_is_preferred_to_a_file_of_its_name(tmp_path: Path, bundled: Path) -> None:
    other = put(tmp_path / "amt" / bundled.name)
    assert find_checkpoint(bundled.name, [other.parent], bundled=bundled) == bundled
    bundled.unlink()
    assert find_checkpoint(bundled.name, [other.parent], bundled=bundled) == other


def test_a_published_one_that_is_not_here_gives_its_record(tmp_path: Path) -> None:
    found = find_checkpoint("amt-g.pth", [tmp_path])
    assert isinstance(found, Record)
    assert found.name == "amt-g.pth"


def test_a_file_that_vanished_says_where_it_was_looked_for(tmp_path: Path) -> None:
    put(tmp_path / "mine.pth")
    assert "mine.pth" in list_checkpoints([tmp_path])
    (tmp_path / "mine.pth").unlink()
    with pytest.raises(CheckpointNotFoundError, match="any more") as caught:
        find_checkpoint("mine.pth", [tmp_path])
    assert str(tmp_path) in str(caught.value)
    assert "mine.pth" in str(caught.value)


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    put(tmp_path / "disk" / "far.pth")
    folder = tmp_path / "amt"
    folder.mkdir()
    try:
        os.symlink(tmp_path / "disk", folder / "linked", target_is_directory=True)
        os.symlink(folder, folder / "loop", target_is_directory=True)
    except OSError:
        pytest.skip("no symbolic links here")
    assert list_checkpoints([folder], bundled=tmp_path / "none")[len(KNOWN) :] == ["linked/far.pth"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../secret.pth",
        "a/../../secret.pth",
        "..\\secret.pth",
        "a\\..\\..\\secret.pth",
        "/etc/secret.pth",
        "\\secret.pth",
        "C:\\secret.pth",
        "C:secret.pth",
        "\\\\server\\share\\secret.pth",
        "//server/share/secret.pth",
        "a\0.pth",
        "secret.txt",
        "secret.pth/",
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    for secret in ("secret.pth", "secret.txt"):
        put(tmp_path / secret)
    folder = tmp_path / "models"
    folder.mkdir()
    with pytest.raises(CheckpointNotFoundError):
        find_checkpoint(name, [folder])


def test_a_whole_path_is_no_name(tmp_path: Path) -> None:
    secret = put(tmp_path / "secret.pth")
    with pytest.raises(CheckpointNotFoundError, match="relative"):
        find_checkpoint(str(secret), [tmp_path])


@given(st.lists(st.sampled_from(["..", ".", "a", "/", "\\", "C:", "", "secret.pth"]), max_size=8))
def test_no_name_leaves_the_folder(base: Path, parts: list[str]) -> None:
    for separator in ("/", "\\", ""):
        try:
            found = find_checkpoint(separator.join([*parts, "secret.pth"]), [base / "models"])
        except CheckpointNotFoundError:
            continue
        assert isinstance(found, Path)
        assert found.resolve().is_relative_to((base / "models").resolve())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("base")
    for place in (base, base / "a", base / "models", base / "models" / "a"):
        put(place / "secret.pth")
    return base
