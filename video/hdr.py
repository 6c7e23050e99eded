"""HDR10's metadata: the display on which a film was graded, and its light levels (SMPTE ST 2086, CTA-861.3)."""

from __future__ import annotations

import struct
from typing import NamedTuple

import av


class BrightnessMetadata(NamedTuple):
    """The brightness that a film was made for. It is copied to the result unchanged."""

    mastering: tuple[int, ...] | None
    """x and y of green, blue, red and white in 1/50000, then the highest and lowest luminance in 1/10000 cd/m2."""
    light: tuple[int, int] | None
    """The brightest pixel's and the brightest frame's light level in cd/m2."""

    def x264_parameters(self) -> str:
        parts: list[str] = []
        if self.mastering:
            parts.append("mastering-display=G({},{})B({},{})R({},{})WP({},{})L({},{})".format(*self.mastering))
        if self.light:
            parts.append("cll={},{}".format(*self.light))
        return ":".join(parts)


def brightness_of(frame: av.VideoFrame) -> BrightnessMetadata | None:
    display, light = (frame.side_data.get(kind) for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"))
    mastering = _mastering(bytes(display)) if display is not None else None
    levels = struct.unpack_from("=II", bytes(light)) if light is not None else None
    return BrightnessMetadata(mastering, (levels[0], levels[1]) if levels else None) if mastering or levels else None


def _mastering(data: bytes) -> tuple[int, ...] | None:
    """From FFmpeg's AVMasteringDisplayMetadata: ten fractions (x and y of red, green, blue and white, then the lowest
    and the highest luminance), and whether the primaries and the luminance are given."""
    values = struct.unpack_from("=22i", data)
    fractions, given = list(zip(values[:20:2], values[1:20:2], strict=True)), values[20:22]
    if not all(given) or not all(below for _, below in fractions):
        return None
    places = [round(50_000 * above / below) for above, below in fractions[:8]]
    red, green, blue, white = (places[i : i + 2] for i in (0, 2, 4, 6))
    lowest, highest = (round(10_000 * above / below) for above, below in fractions[8:])
    return (*green, *blue, *red, *white, highest, lowest)
