"""Still images as bytes: from lines of text (URLs, data URIs) to pixels, and from pixels to PNG."""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from threading import Event

import numpy as np
import torch
from PIL import Image, ImageOps

from .errors import RemoteError
from .fetch import MIB, Resolve, Rules, check_url, fetch_all, system_resolve

ESCAPES = {"%2B": "+", "%2F": "/", "%3D": "="}
"""How the characters of base64 that mean something in URLs may be written."""
URL_SAFE = str.maketrans("-_", "+/")
"""RFC 4648, section 5."""
CONTINUED = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
"""A further line of a data URI that was wrapped."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
"""Those that the picture needs, and its orientation."""
MAX_FRAMES = 1000
MAX_PIXELS = 2**26
"""The most pixels that a frame may have: 8192 x 8192."""
MAX_TOTAL_PIXELS = 2**29
"""The most pixels of all frames together: 6 GiB as float32 RGB."""


def url_rules(environment: Mapping[str, str] = os.environ) -> Rules:
    """The rules for frames by URL. The machine's owner can widen them. A workflow cannot."""
    return Rules(private=environment.get("AMT_URLS", "").strip().lower() == "lan")


def parse(text: str, rules: Rules) -> dict[str, str | bytes]:
    """Reads text with one frame on each line: "line 1" and so on -> the URL, or the bytes of a data URI.

    Blank lines are skipped, and nothing is fetched.

    Raises:
        RemoteError: a line is wrong. The message names it and says what is wrong with it.
    """
    frames: dict[str, str | bytes] = {}
    for number, line in _lines(text):
        if line:
            name = f"line {number}"
            try:
                frames[name] = _data_uri(line, rules) if line[:5].lower() == "data:" else str(check_url(line, rules))
            except RemoteError as error:
                raise RemoteError(f"{name}: {error}") from None
    if not frames:
        raise RemoteError("no frames: expected one https URL or base64 data URI a line")
    if len(frames) > MAX_FRAMES:
        raise RemoteError(f"{len(frames)} frames: expected at most {MAX_FRAMES}. Use fewer, and more passes")
    return frames


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, from 1. A data URI that was wrapped is one line."""
    number, parts = 0, [""]
    for next_number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if parts[0][:5].lower() == "data:" and CONTINUED.fullmatch(line):
            parts.append(line)
        else:
            yield number, "".join(parts)
            number, parts = next_number, [line]
    yield number, "".join(parts)


def _data_uri(uri: str, rules: Rules) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise RemoteError("expected a data URI of the form data:image/png;base64,...")
    if len(body) > rules.max_bytes * 4 // 3 + 4:
        raise RemoteError(f"larger than {rules.max_bytes // MIB} MiB. Make it smaller")
    try:
        for escape, character in ESCAPES.items():
            body = body.replace(escape, character).replace(escape.lower(), character)
        encoded = body.translate(URL_SAFE).rstrip("=")
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise RemoteError("the part after base64, is not base64: it may have been cut. Copy it again") from None


def collect(text: str, rules: Rules, *, stop: Event | None = None, resolve: Resolve = system_resolve) -> list[bytes]:
    """The file of each line of `text`, in order, fetched where it is a URL. Raises RemoteError."""
    frames = parse(text, rules)
    urls = {name: frame for name, frame in frames.items() if isinstance(frame, str)}
    fetched = iter(fetch_all(urls, rules, stop=stop, resolve=resolve) if urls else ())
    return [frame if isinstance(frame, bytes) else next(fetched) for frame in frames.values()]


def decode(files: Sequence[bytes]) -> torch.Tensor:
    """The images as IMAGE [frames, height, width, 3], or 4 channels if any pixel of any of them is transparent.

    The bytes of a file decide which kind of image it is. Of an animation the first picture is taken. EXIF orientation
    is applied, and 16-bit grey keeps its precision.

    Raises:
        RemoteError: a file is no image or is broken, has too many pixels, or has another size than the first one.
    """
    total = 0
    for number, file in enumerate(files, 1):
        with _open(number, file) as image:
            width, height = image.size
        total += width * height
        if width * height > MAX_PIXELS or total > MAX_TOTAL_PIXELS:
            raise RemoteError(
                f"frame {number} is {width} x {height}: expected at most {MAX_PIXELS // 2**20} megapixels a frame "
                f"and {MAX_TOTAL_PIXELS // 2**20} in all. Make the frames smaller"
            )
    pixels = [_pixels(number, file) for number, file in enumerate(files, 1)]
    height, width = pixels[0].shape[:2]
    for number, frame in enumerate(pixels, 1):
        if frame.shape[:2] != (height, width):
            raise RemoteError(
                f"frame {number} is {frame.shape[1]} x {frame.shape[0]}, frame 1 is {width} x {height}: "
                "all frames must have one size. Resize them first"
            )
    channels = max(frame.shape[2] for frame in pixels)
    images = torch.ones((len(pixels), height, width, channels))
    for image, frame in zip(images, pixels, strict=True):
        values = torch.from_numpy(frame)
        image[..., : frame.shape[2]] = values if values.dtype == torch.float32 else values.float() / 255
    return images


def _open(number: int, file: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(_without_texts(file)), formats=FORMATS)
    except Image.DecompressionBombError:
        raise RemoteError(f"frame {number} has too many pixels. Make it smaller") from None
    except Exception as error:  # hostile bytes cause errors of many types
        start = file[:256].lstrip().lower()
        hint = (
            " It looks like a web page: use the address of the picture itself."
            if start.startswith((b"<!doctype", b"<html", b"<?xml"))
            else ""
        )
        raise RemoteError(
            f"frame {number} is not a PNG, JPEG, WebP or GIF image ({type(error).__name__}, {len(file)} bytes).{hint}"
        ) from None


def _pixels(number: int, file: bytes) -> np.ndarray:
    """[height, width, 3 or 4] uint8, or float32 0..1 for 16-bit grey; 4 channels only where something shows through."""
    with _open(number, file) as image:
        try:
            upright = _upright(image)
            if upright.mode.startswith("I"):
                grey = np.asarray(upright).astype(np.float32) / 65535
                return np.repeat(grey[..., None], 3, axis=2)
            if "transparency" in upright.info or "A" in upright.getbands():
                rgba = np.array(upright.convert("RGBA"))
                return rgba if (rgba[..., 3] < 255).any() else rgba[..., :3]
            return np.array(upright.convert("RGB"))
        except Exception as error:
            raise RemoteError(
                f"frame {number} could not be decoded ({type(error).__name__}): cut or damaged. Save it anew"
            ) from None


def _upright(image: Image.Image) -> Image.Image:
    """As its EXIF data says; as it is where those are damaged."""
    image.load()  # a damaged picture is not to be taken for damaged EXIF data
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _without_texts(file: bytes) -> bytes:
    """A PNG file without its texts and other extras, which may be damaged or huge while the picture is whole."""
    if not file.startswith(PNG_START):
        return file
    parts, place = [PNG_START], len(PNG_START)
    while place + 12 <= len(file):
        end = place + 12 + int.from_bytes(file[place : place + 4], "big")
        if file[place + 4 : place + 8] in PNG_CHUNKS:
            parts.append(file[place:end])
        place = end
    return b"".join(parts)


def png(frame: torch.Tensor) -> bytes:
    """[height, width, channels >= 3] 0..1 to an 8-bit RGB PNG with nothing in it but the pixels."""
    values = frame[..., :3].float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
