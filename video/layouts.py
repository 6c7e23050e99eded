"""Chooses the channels of a sound that go into the result, and their speakers, so that players can play it."""

from __future__ import annotations

from typing import NamedTuple

import av
from av.error import FFmpegError

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""The number of channels -> the layout that AAC has for it."""


class Channels(NamedTuple):
    layout: str
    """FFmpeg's name of the result's layout."""
    count: int
    mixed: bool
    """Whether the source's channels have names, so that they can be mixed. If not, the first `count` are taken."""


def channels_of_samples(count: int) -> Channels:
    """The layout for channels without names. If no layout has this number, the first two channels become stereo."""
    layout = LAYOUTS.get(count, "stereo")
    return Channels(layout, av.AudioLayout(layout).nb_channels, False)


def channels_of_stream(context: av.AudioCodecContext) -> Channels:
    given = context.layout
    if given.name in LAYOUTS.values():
        return Channels(given.name, given.nb_channels, True)
    if given.name.endswith(" channels"):  # FFmpeg's name where the file gives none
        return channels_of_samples(given.nb_channels)
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
