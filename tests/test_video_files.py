"""Video files as cameras, recorders and other programs make them: odd sound, odd clocks, damage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numbered
import numpy as np
import pytest
import torch
from amt_frame_interpolation.amt.engine import Engine
from amt_frame_interpolation.amt.timeline import Plan
from amt_frame_interpolation.amt.timeline.analysis import SourceAnalysis
from amt_frame_interpolation.amt.timeline.curve import constant_speed
from amt_frame_interpolation.video.audio import sound_of, track_of_samples
from amt_frame_interpolation.video.colour import TRANSPARENCY_LEFT_OUT
from amt_frame_interpolation.video.container import UnreadableVideoError, Window
from amt_frame_interpolation.video.decode import VideoReader
from amt_frame_interpolation.video.encode import VideoWriter
from amt_frame_interpolation.video.pipeline import interpolate_video
from numbered import Counter
from tiny_video import write_transparent

WHOLE = Window()


def run(source: Path, target: Path, plan: Plan, window: Window = WHOLE) -> list[str]:
    """What the node does, without ComfyUI. Returns its notes."""
    video = VideoReader(str(source), window)
    sound = sound_of(video, plan.heard)
    interpolate_video(
        video,
        target,
        plan=plan,
        analysis=SourceAnalysis(plan.end),
        interpolate=Engine(Counter(any_time=True), torch.device("cpu")).interpolate,
        sound=sound.tracks,
        delay=(video.timing.start - sound.origin) / (plan.heard.keys[0].speed if plan.heard else 1),
        poll=lambda: None,
        shown=lambda _: None,
    )
    return [*video.notes(), *sound.notes]


def times(path: Path) -> list[Fraction]:
    return [time for time, _ in numbered.read(path)]


def numbers(path: Path) -> list[Fraction]:
    return [number for _, number in numbered.read(path)]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "made.mp4"


def tone(hertz: float, seconds: float = 1, rate: int = 48000) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def add_sound(path: Path, source: Path, tracks: list[dict[str, Any]], **metadata: str) -> Path:
    """The picture of `source` and sound: `samples` [n, channels] with a `layout`, `codec`, `rate` and `metadata`."""
    with av.open(str(source)) as given, av.open(str(path), "w") as container:
        container.metadata.update(metadata)
        picture = container.add_stream_from_template(given.streams.video[0])
        voices: list[Any] = []
        for track in tracks:
            voice: Any = container.add_stream(track["codec"], rate=track.get("rate", 48000), layout=track["layout"])
            voice.metadata.update(track.get("metadata", {}))
            if "disposition" in track:
                voice.disposition = track["disposition"]
            voices.append(voice)
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = picture
                container.mux(packet)
        for voice, track in zip(voices, tracks, strict=True):
            samples, rate = track["samples"], track.get("rate", 48000)
            for start in range(0, len(samples), 1024):
                part = np.ascontiguousarray(samples[start : start + 1024], np.float32)
                frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="flt", layout=track["layout"])
                frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
                container.mux(voice.encode(frame))
            container.mux(voice.encode(None))
    return path


def heard(path: Path, index: int = 0) -> tuple[np.ndarray, int, str]:
    """Samples [n, channels], rate and layout."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[index]
        resampler = av.AudioResampler(format="flt")
        parts = [
            piece.to_ndarray().reshape(piece.samples, -1)
            for frame in [*container.decode(stream), None]
            for piece in resampler.resample(frame)
        ]
        return np.concatenate(parts), stream.codec_context.sample_rate, stream.codec_context.layout.name


def loudest(samples: np.ndarray, rate: int) -> float:
    """The pitch of the middle, in Hz."""
    middle = samples[len(samples) // 4 :][: rate // 2]
    return float(np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax() * rate / len(middle))


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 numbered frames, a second."""
    return numbered.write(tmp_path_factory.mktemp("silent") / "silent.mp4", range(24))


# ---- sound of any layout, rate and format


LAYOUTS = {
    "mono": "mono",
    "2.1": "3.0",
    "quad": "4.0",
    "5.0(side)": "5.0",
    "5.1": "5.1",
    "5.1(side)": "5.1",
    "6.1": "7.1",
    "7.1": "7.1",
    "7.1(wide)": "7.1",
}


@pytest.mark.parametrize(("layout", "expected"), LAYOUTS.items())
@pytest.mark.parametrize("codec", ["pcm_s16le", "flac"])
def test_slow_motion_takes_sound_of_any_layout(
    tmp_path: Path, target: Path, silent: Path, layout: str, expected: str, codec: str
) -> None:
    count = av.AudioLayout(layout).nb_channels
    samples = np.stack([tone(220 * (k + 1), 0.5) for k in range(count)], axis=1)
    if codec == "flac" and layout not in ("mono", "quad", "5.1", "5.1(side)", "6.1", "7.1"):
        pytest.skip("FLAC has no such layout")
    if codec == "pcm_s16le" and layout == "6.1":
        pytest.skip("Matroska keeps no names of PCM's channels, and seven without names are no layout")
    source = add_sound(tmp_path / "s.mkv", silent, [{"samples": samples, "layout": layout, "codec": codec}])
    run(source, target, Plan(1, "hold", slow=True))
    made, rate, made_layout = heard(target)
    assert made_layout.removesuffix("(side)").removesuffix("(back)") == expected
    assert len(made) == pytest.approx(48000, abs=2100)
    if layout == expected:  # each channel where it was, but for the deep one, whose high tones AAC leaves out
        given = heard(source)[0]
        for channel in range(count):
            if layout in ("5.1", "7.1") and channel == 3:
                continue
            assert loudest(made[:, channel], rate) == pytest.approx(loudest(given[:, channel], 48000), abs=12)


@pytest.mark.parametrize("count", range(1, 17))
@pytest.mark.parametrize("stretch", [1, 2])
def test_samples_in_memory_of_any_number_of_channels(tmp_path: Path, count: int, stretch: int) -> None:
    samples = np.stack([tone(300 + 50 * k, 0.25, 44100) for k in range(count)])
    path = tmp_path / "made.mp4"
    curve = None if stretch == 1 else constant_speed(Fraction(1, stretch))
    with VideoWriter(path, rate=Fraction(24), sound=[track_of_samples(samples, 44100, curve)]) as writer:
        for number in range(6 * stretch):
            writer.write(numbered.frame(number))
    made, _, _ = heard(path)
    assert made.shape[1] == (count if count in (1, 2, 3, 4, 5, 6, 8) else 2)
    assert len(made) == pytest.approx(44100 * stretch / 4, abs=2100)


@pytest.mark.parametrize("count", [1, 6, 16])
def test_channels_without_names(tmp_path: Path, target: Path, silent: Path, count: int) -> None:
    """As in a recorder's file that says no more than how many there are."""
    layout = {1: "mono", 6: "5.1", 16: "hexadecagonal"}[count]
    samples = np.stack([tone(220 * (k + 1), 0.5) for k in range(count)], axis=1)
    source = add_sound(tmp_path / "s.mov", silent, [{"samples": samples, "layout": layout, "codec": "pcm_s16le"}])
    content = source.read_bytes()
    assert content.count(b"chan") == 1
    source.write_bytes(content.replace(b"chan", b"free"))  # the box with their names
    run(source, target, Plan(1, "hold", slow=True))
    made, _, _ = heard(target)
    assert made.shape == (pytest.approx(48000, abs=2100), {1: 1, 6: 6, 16: 2}[count])


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        *(("avi", "pcm_s16le"), ("mkv", "pcm_s16le"), ("mkv", "pcm_s24le"), ("mkv", "pcm_f32le"), ("mov", "pcm_s24be")),
        *(("mov", "pcm_s16be"), ("mov", "pcm_s24le"), ("mxf", "pcm_s16le"), ("mov", "pcm_u8"), ("mkv", "pcm_s32le")),
    ],
)
def test_sound_of_cameras_stays_as_it_is(
    tmp_path: Path, target: Path, container: str, codec: str, silent: Path
) -> None:
    """Uncompressed sound loses nothing, and is stored in a form that players know."""
    if container in ("mxf", "avi"):  # which do not take the packets of an mp4
        codec_of_picture = {"mxf": "mpeg2video", "avi": "mpeg4"}[container]
        silent = numbered.write(tmp_path / "s.mkv", range(24), rate=25, codec=codec_of_picture, b_frames=0)
    samples = np.stack([tone(440), tone(660)], axis=1)
    source = add_sound(tmp_path / f"s.{container}", silent, [{"samples": samples, "layout": "stereo", "codec": codec}])
    run(source, target, Plan(1, "hold"))
    with av.open(str(target)) as made:
        assert made.streams.audio[0].codec_context.name == "flac"
    given, made_samples = heard(source)[0], heard(target)[0]
    assert len(made_samples) == pytest.approx(len(given), abs=64)
    least = min(len(given), len(made_samples))
    depth = 2**-23 if codec in ("pcm_f32le", "pcm_s32le") else 0
    assert np.abs(given[:least] - made_samples[:least]).max() <= depth


def test_languages_titles_and_the_default_track_stay(tmp_path: Path, target: Path, silent: Path) -> None:
    stereo = np.stack([tone(440), tone(660)], axis=1)
    tracks = [
        {"samples": stereo, "layout": "stereo", "codec": "aac", "metadata": {"language": "eng"}, "disposition": 0},
        {
            "samples": stereo,
            "layout": "stereo",
            "codec": "pcm_s16le",
            "metadata": {"language": "deu", "title": "Kommentar"},
            "disposition": 1,
        },
    ]
    source = add_sound(tmp_path / "s.mkv", silent, tracks)
    for plan in (Plan(1, "hold"), Plan(1, "hold", slow=True)):
        run(source, target, plan)
        with av.open(str(target)) as container:
            first, second = container.streams.audio
            assert (first.language, second.language) == ("eng", "deu")
            assert "Kommentar" in second.metadata.values()
            assert [bool(int(stream.disposition) & 1) for stream in (first, second)] == [False, True]


def test_sound_that_cannot_be_decoded_is_left_out_and_said(tmp_path: Path, target: Path, silent: Path) -> None:
    stereo = np.stack([tone(440), tone(660)], axis=1)
    tracks = [{"samples": stereo, "layout": "stereo", "codec": codec} for codec in ("aac", "libmp3lame")]
    source = add_sound(tmp_path / "s.mkv", silent, tracks)
    content = source.read_bytes()
    assert content.count(b"A_MPEG/L3") == 1
    source.write_bytes(content.replace(b"A_MPEG/L3", b"A_UNKNOWN"))
    notes = run(source, target, Plan(1, "hold"))
    assert notes == ["A sound track is missing in the result: this FFmpeg cannot decode it."]
    with av.open(str(target)) as container:
        assert len(container.streams.audio) == 1


# ---- time


@pytest.mark.parametrize("clock", [90000, 15360, 600, 1000000])
@pytest.mark.parametrize("rate", [Fraction(60000, 1001), Fraction(24000, 1001), Fraction(2997, 100), Fraction(50)])
@pytest.mark.parametrize("passes", [1, 8])
def test_times_are_exact_at_any_length_and_clock(clock: int, rate: Fraction, passes: int, tmp_path: Path) -> None:
    """An hour of phone video, by its packets: a few real frames, and then only an empty one here and there."""
    from amt_frame_interpolation.video.timing import _timed

    frames = int(3600 * rate)
    pts = np.array([round(k * clock / rate) for k in range(frames)], np.int64)

    class Stream:
        average_rate = Fraction(frames * clock, int(pts[-1] + clock / rate)).limit_denominator(2**31 - 1)
        guessed_rate = average_rate

    timing = _timed(Stream(), pts, Fraction(1, clock), round(clock / rate))  # pyright: ignore[reportArgumentType]
    if timing.regular:
        assert timing.rate == rate
        assert timing.time(int(pts[-1])) == (frames - 1) / rate
    else:  # at 600 ticks a second, rounding by more than a third of a frame cannot be told from irregularity
        assert clock == 600
    plan = Plan(passes)
    with VideoWriter(
        tmp_path / "made.mp4", rate=plan.output_rate(timing.rate), tick=None if timing.constant else timing.tick / 2**8
    ) as writer:
        late = timing.time(int(pts[-1 if passes == 1 else frames // 60]))  # mp4 has 32 bits for a frame's duration
        writer.write(numbered.frame(1), Fraction(0))
        writer.write(numbered.frame(2), late)
    made = times(tmp_path / "made.mp4")
    assert made[1] - made[0] == pytest.approx(float(late), abs=1e-5)


@pytest.mark.parametrize("tick", [Fraction(1, 1_000_000_007), Fraction(1_000_003, 59_940_060_013), Fraction(1, 2**40)])
def test_times_that_no_container_can_say_are_rounded_to_a_microsecond(tmp_path: Path, tick: Fraction) -> None:
    path = tmp_path / "made.mp4"
    with VideoWriter(path, rate=Fraction(1_000_000_007, 33_366_701), tick=tick) as writer:
        for number in range(5):
            writer.write(numbered.frame(number), number * Fraction(333_667, 10_000_019))
    assert times(path) == pytest.approx([number * 333_667 / 10_000_019 for number in range(5)], abs=1e-6)


def test_frames_of_more_than_a_thousand_a_second(tmp_path: Path, target: Path) -> None:
    source = numbered.write(tmp_path / "fast.mp4", range(12), rate=2400, b_frames=0)
    run(source, target, Plan(3, "hold", slow=True))
    assert times(target) == pytest.approx([k / 2400 for k in range(96)], abs=1e-5)


def joined(tmp_path: Path, *, sound: bool, start: float = 0, second: float = 0) -> Path:
    """Two recordings of a second each, byte by byte: numbers 0 to 23, then 24 to 47. `start`: of the first's clock."""
    parts = []
    for index, (numbers_, offset) in enumerate(((range(24), start), (range(24, 48), second))):
        tones = numbered.tones(1) if sound else None
        part = numbered.write(tmp_path / f"part{index}.mp4", numbers_, sound=tones, b_frames=0)
        moved = tmp_path / f"part{index}.ts"
        with av.open(str(part)) as given, av.open(str(moved), "w") as taken:
            copies = {stream: taken.add_stream_from_template(stream) for stream in given.streams}
            for packet in given.demux():
                if packet.dts is not None:
                    packet.pts += round(offset / packet.time_base)  # pyright: ignore[reportOperatorIssue]
                    packet.dts += round(offset / packet.time_base)
                    packet.stream = copies[packet.stream]
                    taken.mux(packet)
        parts.append(moved.read_bytes())
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize(("start", "second"), [(0, 0), (0, 3600), (3600, 0), (0, 86400), (50, 30)])
def test_recordings_joined_byte_by_byte(tmp_path: Path, target: Path, sound: bool, start: float, second: float) -> None:
    source = joined(tmp_path, sound=sound, start=start, second=second)
    for plan in (Plan(1, "hold"), Plan(rate=Fraction(48), end="hold"), Plan(1, "hold", slow=True)):
        run(source, target, plan)
        made = numbered.read(target)
        assert len(made) == pytest.approx(96, abs=8)  # sound may go on a little longer than the picture
        shown = [number for _, number in made]
        assert set(range(48)) <= {round(number) for number in shown}
        assert shown == sorted(shown)
        assert made[-1][0] - made[0][0] == pytest.approx(2 * plan.stretch, abs=0.2 * plan.stretch)
        if sound:
            samples, rate, _ = heard(target)
            assert len(samples) / rate == pytest.approx(2 * plan.stretch, abs=0.25 * plan.stretch)


@pytest.mark.parametrize("after", [0.1, 0.62, 1.0, 1.5])
@pytest.mark.parametrize(("suffix", "gop"), [("ts", 24), ("m2ts", 12), ("ts", 48)])
def test_a_trim_of_a_transport_stream(tmp_path: Path, target: Path, after: float, suffix: str, gop: int) -> None:
    """It has no index: the frames between the trim and the next key frame must not be missing."""
    source = numbered.write(tmp_path / f"s.{suffix}", range(48), sound=numbered.tones(2), gop=gop)
    shown = numbered.read(source)
    start = float(shown[0][0]) + after
    run(source, target, Plan(0, "stop"), window=Window(start, 0))
    wanted = [number for time, number in shown if time >= start - 1e-4]
    assert numbers(target) == wanted
    whole, rate, _ = heard(source)
    made, _, _ = heard(target)
    with av.open(str(source)) as container:
        begin = container.streams.audio[0].start_time * container.streams.audio[0].time_base  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
    first = float(shown[48 - len(wanted)][0])
    lost = round((first - float(begin)) * rate)
    # the decoder needs a packet or two to sound right
    assert np.abs(made[4096:20000, 0] - whole[lost + 4096 :, 0][: len(made[4096:20000])]).max() < 0.02


# ---- damage


@pytest.mark.parametrize("tag", ["0:0:1/0", "1e9999999999", "-1:00:00", "99999:00:00.0", "00:00:01.0000000", "x" * 99])
def test_a_duration_that_makes_no_sense_is_no_reason_to_refuse(tmp_path: Path, target: Path, tag: str) -> None:
    source = numbered.write(tmp_path / "s.mkv", range(24))
    content = source.read_bytes()
    changed, count = re.subn(
        rb"00:00:0\d\.\d{9}\0+", lambda said: tag.encode().ljust(len(said[0]), b"\0")[: len(said[0])], content
    )
    assert count == 1
    source.write_bytes(changed)
    run(source, target, Plan(0, "hold"))
    assert numbers(target) == list(range(24))


@pytest.mark.parametrize("suffix", ["mkv", "avi", "flv", "mp4"])
def test_titles_that_are_not_utf_8(tmp_path: Path, target: Path, suffix: str) -> None:
    source = tmp_path / f"s.{suffix}"
    codec = "mpeg4" if suffix == "avi" else "libx264"
    whole = numbered.write(tmp_path / "whole.mkv", range(24), codec=codec, b_frames=0)
    with av.open(str(whole)) as given, av.open(str(source), "w") as container:
        container.metadata["title"] = "PLACEHOLDER"
        copy = container.add_stream_from_template(given.streams.video[0])
        copy.codec_tag = "\0\0\0\0"
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)
    content = source.read_bytes()
    assert b"PLACEHOLDER" in content
    source.write_bytes(content.replace(b"PLACEHOLDER", "Köln Übung".encode("latin-1").ljust(11)))
    run(source, target, Plan(0, "hold"))
    assert numbers(target) == list(range(24))


def test_a_slow_slide_show_is_complete(tmp_path: Path, target: Path) -> None:
    """Its frames are seconds apart, and no packet says how long the last is shown: only the file does."""
    with av.open(str(tmp_path / "slides.mkv"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.max_b_frames = 0
        voice: Any = container.add_stream("aac", rate=8000, layout="mono")
        for number, time in enumerate((0, 4000, 11000)):
            frame = av.VideoFrame.from_ndarray((numbered.frame(number).numpy() * 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            packet.duration = 5000 if packet.pts == 11000 else packet.duration
            container.mux(packet)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 16), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(voice.encode(silence))
        container.mux(voice.encode(None))
    run(tmp_path / "slides.mkv", target, Plan(0, "hold"))
    assert times(target) == [0, 4, 11]
    assert numbered.length(target) == pytest.approx(16, abs=0.05)


def test_a_file_of_noise_in_the_middle_goes_on(tmp_path: Path, target: Path) -> None:
    source = numbered.write(tmp_path / "s.ts", range(120), sound=numbered.tones(5))
    content = bytearray(source.read_bytes())
    middle = len(content) // 2 // 188 * 188
    content[middle : middle + 188 * 40] = np.random.default_rng(0).bytes(188 * 40)
    source.write_bytes(content)
    run(source, target, Plan(0, "hold"))
    made = numbered.read(target)
    assert made[0][1] == 0
    assert made[-1][1] == 119
    assert made[-1][0] - made[0][0] == pytest.approx(119 / 24, abs=0.1)


def test_trimmed_avi_with_frames_in_another_order(tmp_path: Path, target: Path) -> None:
    """H.264 in AVI: the file has no times, so the frames are counted, all of them and not those of the trim alone."""
    source = numbered.write(tmp_path / "source.avi", range(22), b_frames=2)
    run(source, target, Plan(0, "stop"), Window(0.25, 0.5))  # at 24 frames a second
    assert numbers(target) == list(range(6, 18))
    video = VideoReader(str(source), Window(0.25))
    assert (video.timing.frames, video.timing.final) == (16, 21)


def with_times(path: Path, picture: Sequence[int], sound: Sequence[int]) -> Path:
    """A Matroska file, whose clock counts milliseconds, with a frame or a tenth of a second of sound at each time."""
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("mjpeg", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuvj420p"
        audio: Any = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        packets = []
        for number, time in enumerate(picture):
            frame = av.VideoFrame.from_ndarray((numbered.frame(number) * 255).byte().numpy(), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            packets += [(time, packet) for packet in stream.encode(frame)]
        for number, time in enumerate(sound):
            piece = av.AudioFrame.from_ndarray(np.full((1, 800), 5000, np.int16), "s16", "mono")
            piece.sample_rate, piece.pts, piece.time_base = 8000, 800 * number, Fraction(1, 8000)
            packets += [(time, packet) for packet in audio.encode(piece)]
        for time, packet in sorted(packets, key=lambda item: item[0]):
            packet.time_base = Fraction(1, 1000)
            packet.pts = packet.dts = time
            file.mux(packet)
    return path


@pytest.mark.parametrize("plan", [Plan(1, "hold"), Plan(1, "hold", slow=True), Plan(0, "hold", Fraction(60))])
@pytest.mark.parametrize("jump", [3_600_000, 86_400_000 * 365])
def test_sound_whose_clock_jumps_ends_there(tmp_path: Path, target: Path, plan: Plan, jump: int) -> None:
    """Else a second of video becomes an hour of silence."""
    times = [0, 100, 200, 300, 400, 500]
    run(with_times(tmp_path / "s.mkv", times, [*times[:4], jump, jump + 100]), target, plan)
    samples, rate, _ = heard(target)
    assert len(samples) / rate <= 2 * (2 if plan.slow else 1)


def test_sound_goes_on_when_the_picture_has_ended(tmp_path: Path, target: Path) -> None:
    times = [0, 100, 200]
    run(with_times(tmp_path / "s.mkv", times, range(0, 30_000, 100)), target, Plan(1, "hold", slow=True))
    samples, rate, _ = heard(target)
    assert len(samples) / rate == pytest.approx(60, abs=0.2)


def test_times_that_are_centuries_apart_are_damage(tmp_path: Path, target: Path) -> None:
    source = with_times(tmp_path / "s.mkv", [0, 100, 200, 10**15], [])
    with pytest.raises(UnreadableVideoError, match="its frames are centuries apart"):
        run(source, target, Plan(1, "hold"))
    assert not target.exists()


@pytest.mark.parametrize(
    ("codec", "pixels", "suffix"),
    [
        ("prores_ks", "yuva444p10le", ".mov"),
        ("png", "rgba", ".mov"),
        ("qtrle", "argb", ".mov"),
        ("ffv1", "yuva420p", ".mkv"),
    ],
)
@pytest.mark.parametrize("opacity", [255, 128])
def test_transparency_that_is_lost_is_said(
    tmp_path: Path, target: Path, codec: str, pixels: str, suffix: str, opacity: int
) -> None:
    """Where a file could be transparent and is not, nothing is lost."""
    path = tmp_path / f"clip{suffix}"
    write_transparent(path, codec, pixels, of_opacity(opacity))
    told = [note for note in run(path, target, Plan(1, "stop")) if "ransparen" in note]
    assert told == ([TRANSPARENCY_LEFT_OUT] if opacity < 255 else [])


def test_transparency_of_webm_that_is_lost_is_said(tmp_path: Path, target: Path) -> None:
    write_transparent(tmp_path / "clip.webm", "libvpx-vp9", "yuva420p", of_opacity(128))
    assert run(tmp_path / "clip.webm", target, Plan(1, "stop")) == [TRANSPARENCY_LEFT_OUT]


def of_opacity(opacity: int) -> np.ndarray:
    """Four pictures, each brighter than the one before, uint8 [4, 64, 64, 4]."""
    pictures = np.empty((4, 64, 64, 4), np.uint8)
    pictures[..., :3] = 40 * np.arange(4)[:, None, None, None]
    pictures[..., 3] = opacity
    return pictures
