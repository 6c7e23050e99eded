"""The catalogue's facts, as the sources give them."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError

import pytest
from amt_frame_interpolation.amt.network import G, L, S
from amt_frame_interpolation.models.catalogue import BUNDLED, CATALOGUE, PUBLISHED, Record, by_digest, by_name


def published(name: str) -> Record:
    record = by_name(name)
    assert record is not None
    return record


@pytest.mark.parametrize(
    ("name", "size", "digest", "config", "pinned"),
    [
        ("amt-s.pth", 12038359, "07e7e03405c213fe4405678db9b42d05671e48c56faf6a441b99bb0047d3cf77", S, True),
        ("amt-l.pth", 51816419, "985a3569f6e9e27d1a45a96ed02518cff9cf5cbee49c88193a84afbd8cf264f3", L, False),
        ("amt-g.pth", 122649595, "a39af8744e8e6db16ebd29cb3dd09596fae38f360d8bb024288b3fe468256d07", G, False),
    ],
)
def test_the_published_checkpoints(name: str, size: int, digest: str, config: object, pinned: bool) -> None:
    record = published(name)
    assert (record.bytes, record.sha256, record.config) == (size, digest, config)
    assert record.pinned == pinned
    assert not record.any_time
    assert by_digest(digest) is record


def test_the_gopro_checkpoint_has_no_digest_and_every_time() -> None:
    record = published("gopro_amt-s.pth")
    assert record.sha256 is None
    assert not record.pinned
    assert record.any_time
    assert record.config is S


def test_all_published_ones_can_be_had_and_are_not_for_commerce() -> None:
    for record in PUBLISHED:
        assert record.url == f"https://huggingface.co/lalala125/AMT/resolve/main/{record.name}"
        assert record.licence == "CC BY-NC 4.0"


def test_the_bundled_one_comes_with_the_pack_under_its_licence() -> None:
    assert BUNDLED.name == "amt-s-open.safetensors"
    assert BUNDLED.url is None
    assert BUNDLED.licence == "Apache-2.0"
    assert not BUNDLED.any_time


def test_records_are_consistent() -> None:
    assert len({record.name for record in CATALOGUE}) == len(CATALOGUE)
    for record in CATALOGUE:
        assert record.sha256 is None or re.fullmatch("[0-9a-f]{64}", record.sha256)
        assert (record.confirmations > 0) == (record.sha256 is not None and record.repo is not None)
    with pytest.raises(FrozenInstanceError):
        BUNDLED.name = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_unknown_names_and_digests_have_no_record() -> None:
    assert by_name("amt-x.pth") is None
    assert by_digest("0" * 64) is None
