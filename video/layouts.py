"""Which channels of a sound go into a result that players can play, and as which speakers."""

from __future__ import annotations

from typing import NamedTuple

import av
from av.error import FFmpegError

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""AAC's, by their number of channels."""


class Channels(NamedTuple):
    layout: str
    """FFmpeg's name of the result's layout."""
    count: int
    mixed: bool
    """Whether the source's channels have names, so that they can be mixed. If not, the first `count` are taken."""


def channels_of_samples(count: int) -> Channels:
    """Of channels that have no names. A number that is no layout's becomes stereo, of the first two."""
    layout = LAYOUTS.get(count, "stereo")
    return Channels(layout, av.AudioLayout(layout).nb_channels, False)


def channels_of_stream(context: av.AudioCodecContext) -> Channels:
    given = context.layout
    if given.name in LAYOUTS.values():
        return Channels(given.name, given.nb_channels, True)
    target = next((layout for count, layout in LAYOUTS.items() if count >= given.nb_channels), "7.1")
    if _can_be_mixed(given, target):
        return Channels(target, av.AudioLayout(target).nb_channels, True)
    return channels_of_samples(given.nb_channels)


def _can_be_mixed(given: av.AudioLayout, target: str) -> bool:
    try:
        silence = av.AudioFrame(format="flt", layout=given.name, samples=64)
        silence.sample_rate = 48000
        av.AudioResampler(format="flt", layout=target, rate=48000).resample(silence)
    except (FFmpegError, ValueError):
        return False
    return True
