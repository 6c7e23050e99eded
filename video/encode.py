"""Writes video files, frame by frame."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from torch import Tensor

from ..amt.transfer import to_bytes
from .colour import BT709, Colour, from_rgb, pixel_format
from .hdr import BrightnessMetadata
from .tracks import Track

VISUALLY_LOSSLESS = 12
"""The constant rate factor of x264: its quality, where lower is better."""
LARGEST = 2**31 - 1
"""The largest number in FFmpeg's fractions, which have 32 bits."""
FINEST_TICK = Fraction(1, 1_000_000)
"""The clock for times that no such fraction divides. It is finer than the clock of any container."""
AHEAD = Fraction(1, 2)
"""How many seconds of sound are written ahead of the picture."""


class WriteError(OSError):
    """The video could not be written."""


class SoundError(ValueError):
    """A sound track does not fit into the video's file."""


class VideoWriter:
    """An H.264 file in an mp4 container. A context manager: on an error the file is removed.

    path: where to write it, or an open file, which stays open.

    rate: frames a second. Where the frames come with irregular times, it may be approximate.
    tick: the seconds of which all times are multiples; 1 / rate unless given. With it, frames may be irregular.
    bits: bits of a colour. More than 8 are stored as 10.
    pixel_aspect: the width of a pixel divided by its height.
    brightness: the HDR10 metadata, where the source has some.
    from_zero: whether the first frame is shown at 0, whatever its time.
    """

    def __init__(
        self,
        path: Path | BinaryIO,
        *,
        rate: Fraction,
        tick: Fraction | None = None,
        colour: Colour = BT709,
        bits: int = 8,
        pixel_aspect: Fraction = Fraction(1),
        brightness: BrightnessMetadata | None = None,
        sound: Sequence[Track] = (),
        from_zero: bool = False,
    ) -> None:
        self._file = path
        self._path = path if isinstance(path, Path) else None
        """Of a file that is to be removed after an error."""
        self._constant = tick is None and is_representable(1 / rate)
        self._rate, self._tick = _representable_rate(rate), tick or 1 / rate
        if not is_representable(self._tick):
            self._tick = FINEST_TICK
        self._brightness = brightness
        self._colour, self._bits, self._pixel_aspect = colour, bits, pixel_aspect
        self._sound = sound
        self._stream: av.VideoStream | None = None
        self._encoder: av.VideoCodecContext | None = None
        self._origin: int | None = None if from_zero else 0
        """In ticks."""
        self._reformatter = VideoReformatter()
        self._durations: dict[int, int] = {}
        self._last: int | None = None

    def __enter__(self) -> VideoWriter:
        try:
            file = self._file if self._path is None else str(self._path)
            self._container = av.open(file, "w", format="mp4")
        except (FFmpegError, OSError) as error:
            self._remove()
            raise self._write_error(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
            self._container.close()
        except (FFmpegError, OSError) as problem:
            error = error or problem
            if error is problem:
                raise self._write_error(problem) from problem
        except BaseException as problem:
            error = problem
            raise
        finally:
            for track in self._sound:
                track.close()
            if error is not None:
                self._remove()

    def _remove(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def write(self, frame: Tensor, time: Fraction | None = None, duration: Fraction | None = None) -> None:
        """frame: [h, w, 3], float 0..1 or uint8. All frames have the first one's size; odd sides grow by one pixel.

        time: when the frame is shown, in seconds. Without it, right after the last one.
        duration: how long the frame is shown, in seconds. Without it, until the next one.
        """
        picture = from_rgb(_even(_quantised(frame, self._bits)), self._colour, self._bits, self._reformatter)
        try:
            stream = self._stream or self._open_streams(picture)
            encoder = self._encoder = self._encoder or self._next_encoder(stream)
            pts = round(time / self._tick) if time is not None else 0 if self._last is None else self._last + 1
            self._origin = pts if self._origin is None else self._origin
            pts -= self._origin
            picture.pts, picture.time_base = pts, self._tick
            self._durations[pts] = max(1, round(duration / self._tick)) if duration is not None else 1
            self._last = pts
            self._mux(stream, encoder, picture)
        except FFmpegError as error:
            raise self._write_error(error) from error

    def begin_part(self) -> None:
        """The encoder begins anew, so that what comes now does not depend on what came before."""
        try:
            if self._stream is not None and self._encoder is not None:
                self._mux(self._stream, self._encoder, None)
                self._encoder = None
        except FFmpegError as error:
            raise self._write_error(error) from error

    def _finish(self) -> None:
        if self._stream is not None:
            if self._encoder is not None:
                self._mux(self._stream, self._encoder, None)
            self._mux_sound(None)

    def _mux(self, stream: av.VideoStream, encoder: av.VideoCodecContext, picture: av.VideoFrame | None) -> None:
        for packet in encoder.encode(picture):
            packet.stream = stream
            if packet.pts is not None:
                packet.duration = self._durations.pop(packet.pts, 1)
                self._mux_sound(packet.pts * self._tick + AHEAD)
            self._container.mux(packet)

    def _mux_sound(self, until: Fraction | None) -> None:
        for track in self._sound:
            for packet in track.packets(until):
                try:
                    self._container.mux(packet)
                except FFmpegError as error:
                    if not isinstance(error, ValueError):  # the disk is at fault, not the packet
                        raise
                    seconds = float((packet.pts or 0) * packet.time_base)
                    raise SoundError(
                        f"the video's sound cannot be copied from {seconds:.2f} s on: {error.strerror}. "
                        "Convert the sound to AAC first, or leave it out."
                    ) from error

    def _open_streams(self, picture: av.VideoFrame) -> av.VideoStream:
        stream = self._container.add_stream("libx264", rate=self._rate)
        self._encoder = stream.codec_context
        self._set_up(self._encoder, picture.width, picture.height)
        for track in self._sound:
            track.join(self._container)
        self._stream = stream
        return stream

    def _next_encoder(self, stream: av.VideoStream) -> av.VideoCodecContext:
        """One like the stream's own, whose packets begin with a whole picture."""
        own = stream.codec_context
        encoder = av.VideoCodecContext.create("libx264", "w")
        encoder.framerate, encoder.flags = self._rate, own.flags
        self._set_up(encoder, own.width, own.height)
        return encoder

    def _set_up(self, context: av.VideoCodecContext, width: int, height: int) -> None:
        context.options = self._options()
        context.width, context.height = width, height
        context.pix_fmt = pixel_format(self._colour, self._bits)
        context.time_base = self._tick
        if not self._constant:
            context.max_b_frames = (
                0  # with B-frames, mp4 would store the durations of irregular frames in another order
            )
        context.sample_aspect_ratio = self._pixel_aspect
        context.colorspace, context.color_range = self._colour.matrix, self._colour.range
        context.color_primaries, context.color_trc = self._colour.primaries, self._colour.transfer

    def _options(self) -> dict[str, str]:
        options = {"crf": str(VISUALLY_LOSSLESS)}
        if self._brightness is not None:
            options["x264-params"] = self._brightness.x264_parameters()
        return options

    def _write_error(self, error: Exception) -> WriteError:
        if not isinstance(error, OSError):  # it comes from an encoder, a filter or the container
            return WriteError(
                f"the video could not be encoded: {error}. The disk is not at fault. If the source has sound, leave it "
                "out or convert it to AAC first; if that does not help, please report it with the source."
            )
        free = ""
        folder = Path(tempfile.gettempdir()) if self._path is None else self._path.parent
        with suppress(OSError):
            free = f" ({shutil.disk_usage(folder).free / 2**20:.0f} MiB are free there)"
        return WriteError(
            f"the video could not be written to {folder}{free}: {error}. Free some space, "
            "or start ComfyUI with --temp-directory on a disk that has some."
        )


def is_representable(fraction: Fraction) -> bool:
    return fraction.numerator <= LARGEST and fraction.denominator <= LARGEST


def _representable_rate(rate: Fraction) -> Fraction:
    """The nearest one."""
    return rate.limit_denominator(max(1, int(LARGEST / max(rate, 1))))


def _quantised(frame: Tensor, bits: int) -> np.ndarray:
    """The frame as uint8, or as uint16 for more than 8 bits."""
    if bits <= 8:
        return (to_bytes(frame) if frame.is_floating_point() else frame).cpu().numpy()
    if frame.is_floating_point():
        return (frame.float().clamp(0, 1).cpu().numpy() * 65535 + 0.5).astype(np.uint16)
    return frame.cpu().numpy().astype(np.uint16) * 257


def _even(pixels: np.ndarray) -> np.ndarray:
    """Repeats an odd last row or column, because in 4:2:0 a block of 2 x 2 pixels shares its colour."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
