"""Joins the files of segments to one video, without decoding anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import Stream

from .container import open_file, video_stream
from .encode import AHEAD, WriteError
from .tracks import add_copy


class JoinError(ValueError):
    """The files are no segments of one video."""


def join_videos(paths: Sequence[Path], path: Path, check: Callable[[], object] = lambda: None) -> None:
    """Writes the segments, in order, as one mp4 file. The sound is that of the first, as `interpolate_video` writes it.

    check: called now and then. An exception that it raises ends the work; after any error there is no file.

    Raises:
        JoinError: the files do not belong together.
        UnreadableVideoError: one of them cannot be read.
        WriteError: the file cannot be written.
    """
    if not paths:
        raise JoinError("expected at least one segment, got none")
    try:
        with ExitStack() as files, av.open(str(path), "w", format="mp4") as joined:
            first = files.enter_context(open_file(str(paths[0])))
            _join(first, paths, joined, check)
    except FFmpegError as error:
        path.unlink(missing_ok=True)
        raise WriteError(f"the video could not be written to {path.parent}: {error}. Free some space.") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _join(first: InputContainer, paths: Sequence[Path], joined: OutputContainer, check: Callable[[], object]) -> None:
    model = video_stream(first)
    picture = cast(av.VideoStream, joined.add_stream_from_template(model, opaque=True))
    picture.time_base = model.time_base
    copies = {stream.index: add_copy(joined, stream) for stream in first.streams.audio}
    for stream in first.streams.audio:
        copies[stream.index].metadata.update(stream.metadata)
        copies[stream.index].disposition = int(stream.disposition)  # pyright: ignore[reportAttributeAccessIssue]
    sound = _Sound(first, copies)
    end = None
    for path in paths:
        check()
        with open_file(str(path)) as file:
            stream = video_stream(file)
            _compare(path, model, stream)
            moved = 0
            for number, packet in enumerate(packet for packet in file.demux(stream) if packet.size):
                if packet.pts is None or packet.dts is None:
                    raise JoinError(f"{path.name}: expected a segment of a video, got a file without times")
                if number == 0 and end is not None:
                    moved = end - packet.pts
                packet.pts += moved
                packet.dts += moved
                after = packet.pts + (packet.duration or 0)
                end = after if end is None else max(end, after)
                time = packet.dts * cast(Fraction, packet.time_base)
                for heard in sound.until(time + AHEAD):
                    joined.mux(heard)
                packet.stream = picture
                joined.mux(packet)
    for heard in sound.until(None):
        joined.mux(heard)


def _compare(path: Path, model: av.VideoStream, stream: av.VideoStream) -> None:
    def kind(stream: av.VideoStream) -> tuple[object, ...]:
        context = stream.codec_context
        return context.name, context.width, context.height, context.pix_fmt, context.extradata, stream.time_base

    if kind(stream) != kind(model):
        raise JoinError(
            f"{path.name}: expected a segment of the same video as the first file, made with the same settings, got "
            f"{stream.codec_context.width} x {stream.codec_context.height} {stream.codec_context.name} of another kind"
        )


class _Sound:
    """The packets of all sound tracks, in the order of the file."""

    def __init__(self, file: InputContainer, copies: dict[int, av.AudioStream]) -> None:
        self._packets = self._all(file, copies) if copies else iter(())
        self._next: av.Packet | None = None

    @staticmethod
    def _all(file: InputContainer, copies: dict[int, av.AudioStream]) -> Iterator[av.Packet]:
        tracks: list[Stream] = [stream for stream in file.streams if stream.index in copies]
        for packet in file.demux(tracks):
            if packet.size:
                packet.stream = copies[packet.stream.index]
                yield packet

    def until(self, time: Fraction | None) -> Iterator[av.Packet]:
        """Those that begin before this time, in seconds. None: all that are left."""
        while packet := self._next or next(self._packets, None):
            self._next = packet
            if time is not None and (packet.dts or 0) * cast(Fraction, packet.time_base) >= time:
                return
            self._next = None
            yield packet
