"""Text from outside, made fit to show."""

from __future__ import annotations

import os
import sys

import pytest
from amt_frame_interpolation.printable import LIMIT, printable
from hypothesis import given
from hypothesis import strategies as st

surrogates = st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF)
anything = st.text(st.characters(codec=None, categories=None) | surrogates)


@given(anything, st.integers(1, 50))
def test_whatever_comes_every_log_can_take_what_goes_on(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert shown.isprintable()
    assert len(shown) <= limit
    assert printable(shown, limit) == shown


@given(st.binary(max_size=80))
def test_bytes_that_should_be_utf_8(data: bytes) -> None:
    assert printable(data).isprintable()


@pytest.mark.parametrize("text", ["amt-s.pth", "Größe – 日本語 العربية.safetensors", "🎞️ clip", "", "two  spaces"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert printable(text.encode()) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\udcffb", "a\ufffdb"),  # a file's name that is not UTF-8, as Python reads it
        ("half \ud800", "half \ufffd"),
        (b"a\xffb", "a\ufffdb"),
        ("a\x1b[31mb", "a\ufffd[31mb"),
        ("a\0b", "a\ufffdb"),
        ("one\r\ntwo\tthree\u2028four\u3000five", "one  two three four five"),
        ("safe\u202egpj.exe", "safegpj.exe"),
        ("a\u200bb\ufeff", "ab"),
        (ValueError("no"), "no"),
    ],
)
def test_what_cannot_be_shown(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_long_text_is_cut_and_shows_that_it_was() -> None:
    assert printable("x" * LIMIT) == "x" * LIMIT
    assert printable("x" * (LIMIT + 1)) == "x" * (LIMIT - 1) + "…"
    assert printable("\u200b" * 5000 + "x", 10) == "…"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are always Unicode")
def test_the_name_of_a_file_that_is_not_utf_8() -> None:
    assert printable(os.fsdecode(b"caf\xe9.pth")) == "caf\ufffd.pth"
