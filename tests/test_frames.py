"""Images judged by their bytes: formats, orientation, transparency, bombs, damage; data URIs; PNG for the upload."""

from __future__ import annotations

import base64
import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from amt_frame_interpolation.remote import frames
from amt_frame_interpolation.remote.errors import RemoteError
from amt_frame_interpolation.remote.fetch import Rules
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

RULES = Rules()


def picture(height: int = 6, width: int = 8, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **how)
    return buffer.getvalue()


def uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


# --- decoding


@pytest.mark.parametrize(("kind", "how"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_come_through_bit_for_bit(kind: str, how: dict[str, Any]) -> None:
    pixels = [picture(seed=seed) for seed in range(3)]
    images = frames.decode([encoded(frame, kind, **how) for frame in pixels])
    assert images.dtype == torch.float32
    assert torch.equal(images, torch.from_numpy(np.stack(pixels)).float() / 255)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg(mode: str) -> None:
    smooth = np.linspace(0, 255, 64 * 48, dtype=np.uint8).reshape(48, 64)
    buffer = io.BytesIO()
    Image.fromarray(smooth).convert(mode).save(buffer, "JPEG", quality=95)
    images = frames.decode([buffer.getvalue()])
    assert images.shape == (1, 48, 64, 3)
    assert (images[0, :, :, 0] * 255 - torch.from_numpy(smooth)).abs().max() < 12


def test_the_first_picture_of_an_animation() -> None:
    stills = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        buffer = io.BytesIO()
        stills[0].save(buffer, kind, save_all=True, append_images=stills[1:], duration=100, loop=0)
        assert torch.equal(frames.decode([buffer.getvalue()]).mean((0, 1, 2)).round(), torch.tensor([1.0, 0.0, 0.0]))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # a white block, top left
    stored = {  # how a camera that was held so stores it
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = frames.decode([encoded(np.ascontiguousarray(stored), kind, exif=exif.tobytes())])[0]
    assert image.shape == (16, 32, 3)
    assert (image - torch.from_numpy(upright) / 255).abs().mean() < 0.05


def test_transparency_gives_a_fourth_channel_to_all_frames_and_opaque_alpha_gives_none() -> None:
    clear, opaque = picture(channels=4), picture(seed=1)
    solid = np.dstack([opaque, np.full((6, 8), 255, np.uint8)])
    images = frames.decode([encoded(clear, "PNG"), encoded(opaque, "PNG")])
    assert torch.equal(images[0], torch.from_numpy(clear).float() / 255)
    assert torch.equal(images[1, ..., 3], torch.ones(6, 8))
    assert frames.decode([encoded(solid, "PNG")]).shape == (1, 6, 8, 3)


def test_a_palette_with_a_transparent_colour() -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    for kind in ("PNG", "GIF"):
        buffer = io.BytesIO()
        image.save(buffer, kind, transparency=1)
        images = frames.decode([buffer.getvalue()])
        assert images[0, :, :, 3].tolist() == [[1, 0], [0, 1]]


def test_sixteen_bit_grey_keeps_its_precision() -> None:
    grey = np.array([[0, 1, 256], [32768, 65534, 65535]], np.uint16)
    images = frames.decode([encoded(grey, "PNG")])
    assert images.shape == (1, 2, 3, 3)
    assert torch.allclose(images[0, ..., 0] * 65535, torch.from_numpy(grey.astype(np.float32)), atol=0.01)


def test_frames_of_different_sizes_are_refused_by_name() -> None:
    with pytest.raises(RemoteError, match="frame 2 is 8 x 7, frame 1 is 8 x 6"):
        frames.decode([encoded(picture(), "PNG"), encoded(picture(height=7), "PNG")])


# --- hostile images


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    body = zlib.compress(bytes(10**6))
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8193, 8192), (50_000, 50_000), (2**31 - 1, 1), (1, 2**30)])
def test_decompression_bombs_are_refused_by_their_header(size: tuple[int, int]) -> None:
    with pytest.raises(RemoteError, match="pixels"):
        frames.decode([png_header(*size)])


def test_many_frames_may_not_be_too_much_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_TOTAL_PIXELS", 100)
    with pytest.raises(RemoteError, match=r"frame 3 .* in all"):
        frames.decode([encoded(picture(), "PNG")] * 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x00\x00\x00\x00WEBP",
        b"\xff\xd8\xff\xe0",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"BM" + bytes(60),
        b"II*\x00" + bytes(60),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"#EXTM3U\nhttps://evil.example/",
    ],
)
def test_what_is_none_of_the_four_formats_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteError, match=r"frame 1 (is not a PNG, JPEG, WebP or GIF|could not be decoded)"):
        frames.decode([data])


def test_a_web_page_is_called_one() -> None:
    with pytest.raises(RemoteError, match="looks like a web page"):
        frames.decode([b"\n<!DOCTYPE html><html>Sign in</html>"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_cut_images_are_refused(kind: str) -> None:
    data = encoded(picture(64, 64), kind)
    with pytest.raises(RemoteError, match="frame 2"):
        frames.decode([data, data[: len(data) // 2]])


@settings(deadline=None)
@given(st.data())
def test_damaged_images_never_do_worse_than_a_clear_error(data: st.DataObject) -> None:
    file = bytearray(encoded(picture(12, 12), data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]))))
    for place in data.draw(st.lists(st.integers(0, len(file) - 1), min_size=1, max_size=8)):
        file[place] ^= data.draw(st.integers(1, 255))
    try:
        images = frames.decode([bytes(file)])
    except RemoteError:
        return
    assert images.isfinite().all()
    assert images.min() >= 0
    assert images.max() <= 1


# --- lines


def test_lines_of_urls_and_data_uris() -> None:
    text = f"\n  https://a.example/1.png  \r\n\n{uri(b'two')}\nDATA:IMAGE/PNG;name=x;BASE64,dHdv\nHTTPS://a.example/2?x=1\n"
    assert frames.parse(text, RULES) == {
        "line 2": "https://a.example/1.png",
        "line 4": b"two",
        "line 5": b"two",
        "line 6": "https://a.example/2?x=1",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no frames"),
        (" \n\t\n", "no frames"),
        ("https://a.example/1\nframe.png", "line 2: expected a URL that starts with https://"),
        ("http://a.example/1", "line 1: expected a URL that starts with https://"),
        ("https://10.0.0.1/", "line 1: 10.0.0.1 is not a public address"),
        ("https://me:secret@a.example/", "user name or password"),
        ("data:image/png,plain", "line 1: expected a data URI of the form"),
        ("data:image/png;base64", "line 1: expected a data URI of the form"),
        ("data:image/png;base64,@@@@", "is not base64"),
        ("data:image/png;base64,abcde", "is not base64"),
        ("https://a.example/\n" * 1001, "1001 frames: expected at most 1000"),
    ],
)
def test_lines_that_are_neither_are_refused_by_number(text: str, message: str) -> None:
    with pytest.raises(RemoteError) as caught:
        frames.parse(text, RULES)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_data_uri_has_the_same_size_limit_as_a_file() -> None:
    with pytest.raises(RemoteError, match="larger than 1 MiB"):
        frames.parse(uri(bytes(2**20 + 9)), Rules(max_bytes=2**20))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_data_uris_hold_any_bytes(data: bytes) -> None:
    assert frames.parse(uri(data), RULES) == {"line 1": data}
    assert frames.parse(uri(data).rstrip("=").replace("+", "%2B"), RULES) == {"line 1": data}


def test_only_the_environment_opens_the_local_network() -> None:
    assert not frames.url_rules({}).private
    assert not frames.url_rules({"AMT_URLS": "all"}).private
    assert frames.url_rules({"AMT_URLS": "lan"}).private


# --- PNG for the upload


@settings(deadline=None)
@given(seed=st.integers(0, 99), height=st.integers(1, 9), width=st.integers(1, 9), channels=st.sampled_from([3, 4]))
def test_png_holds_the_pixels_and_nothing_else(seed: int, height: int, width: int, channels: int) -> None:
    pixels = picture(height, width, channels, seed)
    data = frames.png(torch.from_numpy(pixels).float() / 255)
    assert np.array_equal(np.array(Image.open(io.BytesIO(data))), pixels[..., :3])
    kinds, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kinds.append(data[place + 4 : place + 8])
        place += 12 + length
    assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}


def test_png_clamps_and_rounds() -> None:
    values = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 2.0]).reshape(1, 4, 1).expand(1, 4, 3)
    assert np.array(Image.open(io.BytesIO(frames.png(values))))[0, :, 0].tolist() == [0, 0, 1, 255]


# ---- what other services send


def _png(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


NOISE = np.random.default_rng(3).integers(0, 255, (40, 60, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "written",
    [
        lambda text: text.replace("+", "-").replace("/", "_"),
        lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),
        lambda text: text.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        lambda text: text.replace("+", "%2b").replace("/", "%2f").replace("=", "%3d"),
        lambda text: "\n".join(text[k : k + 76] for k in range(0, len(text), 76)),
        lambda text: "\r\n".join(text[k : k + 64] for k in range(0, len(text), 64)),
    ],
    ids=["URL-safe", "URL-safe, without padding", "escaped", "escaped, lower case", "wrapped", "wrapped, CRLF"],
)
def test_base64_as_other_services_write_it(written: Callable[[str], str]) -> None:
    file = _png(NOISE)
    uri = "data:image/png;base64," + written(base64.b64encode(file).decode())
    lines = frames.parse(f"{uri}\n{uri}\nhttps://example.com/3.png", Rules())
    assert list(lines.values())[:2] == [file, file]
    assert len(lines) == 3


def test_an_escaped_data_uri_takes_little_memory() -> None:
    uri = "data:image/png;base64," + "%2B" * 2**20
    tracemalloc.start()
    frames.parse(uri, Rules())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(uri)


def _with_chunk(file: bytes, kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    """A PNG with one more chunk behind its header."""
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
    return file[:33] + chunk + file[33:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: _with_chunk(file, b"zTXt", b"notes\0\0" + zlib.compress(bytes(2**24))),
        lambda file: _with_chunk(file, b"zTXt", b"notes\0\0no zlib stream"),
        lambda file: _with_chunk(file, b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(bytes(2**24))),
        lambda file: _with_chunk(file, b"tEXt", b"prompt\0" + b"x" * 2**20, checksum=1),
        lambda file: _with_chunk(file, b"eXIf", b"MM\0*\0\0\0\xff\xff\xff"),
        lambda file: _with_chunk(file, b"iCCP", b"profile\0\0damaged"),
    ],
    ids=["large text", "damaged text", "large workflow", "wrong checksum of a text", "EXIF", "colour profile"],
)
def test_a_png_is_its_picture_whatever_else_is_in_it(damage: Callable[[bytes], bytes]) -> None:
    images = frames.decode([damage(_png(NOISE))])
    assert np.array_equal((images[0].numpy() * 255).round().astype(np.uint8), NOISE)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("exif", [b"Exif\0\0damaged", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40])
def test_damaged_exif_data_cost_no_picture(kind: str, exif: bytes) -> None:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, kind, exif=exif)
    assert frames.decode([buffer.getvalue()]).shape == (1, 40, 60, 3)
