"""Time, cuts, loops and sound through the nodes, in ComfyUI's own process, with frames that carry their numbers."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numbered
import numpy as np
import pytest
import torch
from amt_frame_interpolation.amt.network import S
from amt_frame_interpolation.amt.timeline import Plan, exact_rate
from amt_frame_interpolation.amt.timeline.curve import speed_curve
from amt_frame_interpolation.video.container import UnreadableVideoError
from hypothesis import given, settings
from hypothesis import strategies as st
from setup.install import ROOT
from test_segments import decoded
from torch import Tensor, nn


class Counting(nn.Module):
    """`numbered.Counter` as ComfyUI manages models."""

    padding = numbered.Counter.padding
    dtype = torch.float32
    config = S

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.counter = numbered.Counter()
        self.any_time = False

    def forward(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        return self.counter(frame0, frame1, timestep)

    def memory_used(self, *_args: object, **_options: object) -> int:
        return 0


@pytest.fixture(scope="module")
def nodes(comfy: ModuleType) -> Iterator[SimpleNamespace]:
    import comfy.model_management as mm
    import comfy.model_patcher
    import folder_paths
    from amt_frame_interpolation.nodes import images_to_video, interp_model, interpolate, interpolate_video
    from comfy_api.latest import InputImpl, Types

    cpu = torch.device("cpu")

    def interpolate_a_video(
        model: Any, video: Any, passes: int = 1, time: str = "smooth", fps: float = 60, **others: Any
    ) -> Any:
        inputs = {"recursive_interpolation_passes": passes, "time": time, "output_fps": fps} | others
        return as_comfyui_runs_it(interpolate_video.AMTInterpolateVideo)(interp_model=model, video=video, **inputs)

    def as_comfyui_runs_it(node: Any, requeue: int = 0, uses: str | None = None) -> Callable[..., Any]:
        """requeue: the run of a meta batch. uses: an input of another node that is linked to the third output."""
        prompt = {"3": {"inputs": {"requeue": requeue}}} | ({"4": {"inputs": {uses: ["7", 2]}}} if uses else {})
        hidden = {"hidden_inputs": {"UNIQUE_ID": "7", "PROMPT": prompt}}
        return torch.inference_mode()(node.PREPARE_CLASS_CLONE(hidden).execute)

    yield SimpleNamespace(
        mm=mm,
        temporary=Path(folder_paths.get_temp_directory()),
        model=comfy.model_patcher.CoreModelPatcher(
            interp_model.AMTModel(Counting()).eval(),  # pyright: ignore[reportArgumentType]
            load_device=cpu,
            offload_device=cpu,
        ),
        interpolate=lambda *a, requeue=0, uses=None, **k: (
            as_comfyui_runs_it(interpolate.AMTInterpolate, requeue, uses)(*a, **k).result
        ),
        to_video=as_comfyui_runs_it(images_to_video.AMTImagesToVideo),
        video=interpolate_a_video,
        schemas={
            node.define_schema().node_id: node.define_schema()
            for node in (interpolate.AMTInterpolate, images_to_video.AMTImagesToVideo)
        },
        File=InputImpl.VideoFromFile,
        Components=InputImpl.VideoFromComponents,
        Types=Types,
    )
    mm.unload_all_models()


def images(*numbers: float) -> Tensor:
    return torch.stack([numbered.frame(number) for number in numbers])


def numbers(images: Tensor) -> list[Fraction]:
    return [numbered.number(image) for image in images]


kept: list[Any] = []
"""Videos of tests that look at the files alone: a file goes with its VIDEO."""


def made(output: Any) -> Path:
    (video,) = output.result
    kept.append(video)
    return Path(video.get_stream_source())


# ---- image batches


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("stop", [0, 0.5, 1, 1.5, 2]),
        ("hold", [0, 0.5, 1, 1.5, 2, 2]),
        ("loop", [0, 0.5, 1, 1.5, 2, 1]),
    ],
)
def test_ends(nodes: SimpleNamespace, end: str, expected: list[float]) -> None:
    result, multiplier, _ = nodes.interpolate(nodes.model, images(0, 1, 2), 1, end=end)
    assert (numbers(result), multiplier) == (expected, 2)
    output = nodes.to_video(nodes.model, images(0, 1, 2), 24, 1, end=end)
    assert [number for _, number in numbered.read(made(output))] == expected


@pytest.mark.parametrize("end", ["hold", "loop"])
def test_one_image_is_held(nodes: SimpleNamespace, end: str) -> None:
    result, _, _ = nodes.interpolate(nodes.model, images(5), 2, end=end)
    assert numbers(result) == [5, 5, 5, 5]


def test_a_rate_that_is_asked_for(nodes: SimpleNamespace) -> None:
    result, multiplier, _ = nodes.interpolate(nodes.model, images(*range(9)), source_fps=16, target_fps=24)
    assert multiplier == 1
    assert [float(number) for number in numbers(result)] == pytest.approx([k * 2 / 3 for k in range(13)], abs=1 / 32)
    result, _, _ = nodes.interpolate(nodes.model, images(*range(9)), source_fps=16, target_fps=8)
    assert numbers(result) == [0, 2, 4, 6, 8]
    with pytest.raises(ValueError, match="source_fps: expected the frame rate of the images"):
        nodes.interpolate(nodes.model, images(0, 1), target_fps=24)


@pytest.mark.parametrize(
    ("inputs", "fps"),
    [
        ({"recursive_interpolation_passes": 1, "source_fps": 16}, 32),
        ({"recursive_interpolation_passes": 2, "source_fps": 23.976}, 4 * 24000 / 1001),
        ({"recursive_interpolation_passes": 0, "source_fps": 24}, 24),
        ({"recursive_interpolation_passes": 3, "source_fps": 16, "target_fps": 59.94}, 60000 / 1001),
        ({"recursive_interpolation_passes": 1}, 0),  # nobody asked for it
    ],
)
def test_the_frame_rate_that_keeps_the_duration(nodes: SimpleNamespace, inputs: dict[str, float], fps: float) -> None:
    _, _, given = nodes.interpolate(nodes.model, images(0, 1, 2), **inputs)
    assert given == pytest.approx(fps, rel=1e-12)


def test_a_frame_rate_that_is_used_and_not_known_is_asked_for(nodes: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="source_fps: expected the frame rate of the images, which fps needs"):
        nodes.interpolate(nodes.model, images(0, 1), uses="fps")
    _, _, fps = nodes.interpolate(nodes.model, images(0, 1), source_fps=12, uses="fps")
    assert fps == 24


def test_keyframes_far_apart_are_no_cut_unless_that_is_asked_for(nodes: SimpleNamespace) -> None:
    def picture(seed: int, number: int) -> Tensor:
        noise = torch.rand(12, 16, 3, generator=torch.Generator().manual_seed(seed))
        whole = noise.repeat_interleave(16, 0).repeat_interleave(16, 1)
        whole[: numbered.HEIGHT, : numbered.WIDTH] = numbered.frame(number)
        return whole

    shots = torch.stack([picture(seed, number) for number, seed in enumerate([1, 1, 1, 2, 2, 2])])
    result, _, _ = nodes.interpolate(nodes.model, shots, 1)
    assert numbers(result) == [k / 2 for k in range(11)]
    result, _, _ = nodes.interpolate(nodes.model, shots, 1, detect_cuts=True)
    assert numbers(result) == [0, 0.5, 1, 1.5, 2, 2, 3, 3.5, 4, 4.5, 5]
    assert torch.equal(result[5], shots[2])


def test_two_pictures_to_two_seconds(nodes: SimpleNamespace) -> None:
    path = made(nodes.to_video(nodes.model, images(0, 32), 24, seconds=2))
    assert numbered.length(path) == 2
    read = [float(number) for _, number in numbered.read(path)]
    assert (read[0], read[-1], len(read)) == (0, 32, 48)
    assert read == pytest.approx([32 * k / 47 for k in range(48)], abs=0.5)
    assert len(set(read)) == 48  # none stands still


def test_each_gap_has_the_length_that_it_is_given(nodes: SimpleNamespace) -> None:
    expected = [0, 0.25, 0.5, 0.75, 1, 1.5, 2]
    path = made(nodes.to_video(nodes.model, images(0, 1, 2), 8, gaps="0.5 s, 2 frames"))
    assert [number for _, number in numbered.read(path)] == expected
    result, multiplier, fps = nodes.interpolate(nodes.model, images(0, 1, 2), gaps="4 frames, 2 frames")
    assert (numbers(result), multiplier, fps) == (expected, 1, 0)
    result, _, fps = nodes.interpolate(nodes.model, images(0, 1, 2), target_fps=8, gaps="0.5 s, 2 frames")
    assert (numbers(result), fps) == (expected, 8)
    with pytest.raises(ValueError, match="gaps: expected the frame rate of the result"):
        nodes.interpolate(nodes.model, images(0, 1, 2), gaps="0.5 s")
    with pytest.raises(ValueError, match="gaps: expected one length, or 2"):
        nodes.to_video(nodes.model, images(0, 1, 2), gaps="1 s, 1 s, 1 s")


def test_repeats_can_be_replaced(nodes: SimpleNamespace) -> None:
    twos = images(0, 0, 1, 1, 2, 2, 3)
    result, _, _ = nodes.interpolate(nodes.model, twos, 1)
    assert numbers(result) == [0, 0, 0, 0.5, 1, 1, 1, 1.5, 2, 2, 2, 2.5, 3]
    result, _, _ = nodes.interpolate(nodes.model, twos, 1, repeated_frames="replace")
    assert numbers(result) == [k / 4 for k in range(13)]


def test_bad_frames_are_made_anew(nodes: SimpleNamespace) -> None:
    damaged = images(0, 200, 2, 3, 200, 200, 200, 7)
    result, multiplier, _ = nodes.interpolate(nodes.model, damaged, 0, bad_frames="1, 4-6")
    assert (numbers(result), multiplier) == (list(range(8)), 1)
    for number in (0, 2, 3, 7):
        assert torch.equal(result[number], damaged[number])
    result, _, _ = nodes.interpolate(nodes.model, damaged, 1, bad_frames="1, 4-6")
    assert numbers(result) == [k / 2 for k in range(15)]
    result, _, _ = nodes.interpolate(nodes.model, damaged, bad_frames="1, 4-6", end="loop", gaps="1 frame")
    assert numbers(result) == list(range(8))
    result, _, _ = nodes.interpolate(
        nodes.model, damaged, bad_frames="1, 4-6", source_fps=10, target_fps=15, repeated_frames="replace"
    )
    assert [float(number) for number in numbers(result)] == pytest.approx([k * 2 / 3 for k in range(11)], abs=4 / 32)
    with pytest.raises(ValueError, match="bad_frames: expected frames from 0 to 7, which there are, got 8"):
        nodes.interpolate(nodes.model, damaged, bad_frames="8")
    with pytest.raises(ValueError, match="bad_frames: frame 7 is the last one"):
        nodes.interpolate(nodes.model, damaged, bad_frames="7")
    manager = SimpleNamespace(unique_id=3, inputs={}, has_closed_inputs=True)
    with pytest.raises(ValueError, match="bad_frames: expected none beside meta_batch"):
        nodes.interpolate(nodes.model, damaged, meta_batch=manager, bad_frames="1")


def test_a_loop_whose_last_image_is_its_first_does_not_stand_still(nodes: SimpleNamespace) -> None:
    closed = images(0, 8, 16, 8, 0)
    expected = [0, 4, 8, 12, 16, 12, 8, 4]
    for repeats in ("hold", "replace"):
        result, _, _ = nodes.interpolate(nodes.model, closed, 1, end="loop", repeated_frames=repeats)
        assert numbers(result) == expected
        path = made(nodes.to_video(nodes.model, closed, 24, 1, end="loop", repeated_frames=repeats))
        assert [number for _, number in numbered.read(path)] == expected
    path = made(nodes.to_video(nodes.model, closed, 8, end="loop", seconds=2))
    assert numbered.length(path) == 2
    result, _, _ = nodes.interpolate(nodes.model, closed, 0, end="loop")
    assert numbers(result) == [0, 8, 16, 8]
    still, _, _ = nodes.interpolate(nodes.model, images(7, 7, 7), 1, end="loop")
    assert numbers(still) == [7] * 6
    repaired, _, _ = nodes.interpolate(nodes.model, images(0, 8, 16, 200, 0), 1, end="loop", bad_frames="3")
    assert numbers(repaired) == expected


def test_frames_in_the_seam(nodes: SimpleNamespace) -> None:
    result, _, _ = nodes.interpolate(nodes.model, images(0, 1, 2), 1, end="loop", seam_frames=7)
    assert numbers(result) == [0, 0.5, 1, 1.5, *(Fraction(k, 4) for k in range(8, 0, -1))]
    result, _, _ = nodes.interpolate(nodes.model, images(0, 1, 2), 0, end="loop", seam_frames=1)
    assert numbers(result) == [0, 1, 2, 1]
    for inputs, message in (
        ({"end": "hold", "seam_frames": 3}, "seam_frames: expected 0 with end hold"),
        ({"end": "loop", "seam_frames": 3, "gaps": "2 frames"}, "seam_frames: expected 0 beside gaps"),
        ({"end": "loop", "seam_frames": -1}, "seam_frames: expected a whole number from 0 to 1000, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            nodes.interpolate(nodes.model, images(0, 1, 2), **inputs)


def test_a_seam_of_a_clip_in_batches(nodes: SimpleNamespace) -> None:
    clip = images(*range(7))
    whole, _, _ = nodes.interpolate(nodes.model, clip, 1, end="loop", seam_frames=5)
    assert in_batches(nodes, clip, 3, end="loop", seam_frames=5) == numbers(whole)
    closed = torch.cat((clip, images(0)))
    assert in_batches(nodes, closed, 7, end="loop") == numbers(nodes.interpolate(nodes.model, clip, 1, end="loop")[0])


def test_more_images_follow_in_order(nodes: SimpleNamespace) -> None:
    more = {f"images{k}": images(k) for k in (2, 12, 4, 3)} | {"images5": None}
    result, _, _ = nodes.interpolate(nodes.model, images(0), 0, more_images=more)
    assert numbers(result) == [0, 2, 3, 4, 12]
    output = nodes.to_video(nodes.model, images(0), 24, 1, more_images={"images2": images(1, 2)})
    assert [number for _, number in numbered.read(made(output))] == [0, 0.5, 1, 1.5, 2]


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 9),
    passes=st.integers(0, 4),
    end=st.sampled_from(["stop", "hold", "loop"]),
    rates=st.one_of(
        st.none(), st.tuples(*2 * [st.sampled_from([8, 12.5, 16, 23.976, 24, 25, 29.97, 30, 48, 59.94, 60])])
    ),
)
def test_any_batch_becomes_what_its_plan_says(
    nodes: SimpleNamespace, count: int, passes: int, end: Any, rates: tuple[float, float] | None
) -> None:
    inputs = {"source_fps": rates[0], "target_fps": rates[1]} if rates else {}
    result, multiplier, _ = nodes.interpolate(nodes.model, images(*range(count)), passes, end=end, **inputs)
    assert multiplier == (1 if rates else 2**passes)
    step = exact_rate(rates[0]) / exact_rate(rates[1]) if rates else Fraction(1, 2**passes)
    plan = Plan(passes, end, 1 / step if rates else None)  # at a source of 1 frame a second
    assert len(result) == plan.count(count, Fraction(1))
    for index, number in enumerate(numbers(result)):
        wanted = index * step
        if wanted > count - 1:
            wanted = count - 1 if end == "hold" else (count - 1) * (count - wanted)
        # a 32nd of the way between two frames, and the numbers are parts of 256
        assert abs(number - wanted) <= Fraction(max(count - 1, 1), 32) + Fraction(1, 256)


@pytest.mark.parametrize("node", ["interpolate", "to_video"])
def test_images_of_other_sizes_are_refused_with_their_sizes(nodes: SimpleNamespace, node: str) -> None:
    more = {"images2": torch.zeros(1, 48, 64, 3), "images3": torch.zeros(1, 64, 64, 3)}
    with pytest.raises(ValueError, match=r"one size, got images 64 x 64, images2 64 x 48, images3 64 x 64"):
        getattr(nodes, node)(nodes.model, images(0), more_images=more)
    with pytest.raises(ValueError, match=r"images2: expected an IMAGE batch, got str"):
        getattr(nodes, node)(nodes.model, images(0), more_images={"images2": "a"})


def test_alpha_is_joined_with_alpha_alone(nodes: SimpleNamespace) -> None:
    more = {"images2": torch.ones(1, 64, 64, 4)}
    with pytest.raises(ValueError, match=r"images 64 x 64, images2 64 x 64 with alpha"):
        nodes.interpolate(nodes.model, images(0), more_images=more)
    nodes.to_video(nodes.model, images(0), 24, 0, more_images=more)  # has no alpha anyway


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"end": "bounce"}, "end: expected one of stop, hold, loop, got bounce"),
        ({"cut_threshold": 0}, "cut_threshold: expected a number above 0"),
        ({"cut_threshold": float("nan")}, "cut_threshold: expected a number above 0"),
        ({"repeated_frames": "drop"}, "repeated_frames: expected one of hold, replace, got drop"),
        ({"source_fps": -1, "target_fps": 24}, "source_fps: expected a frame rate"),
        ({"source_fps": 24, "target_fps": float("inf")}, "target_fps: expected a frame rate"),
        ({"meta_batch": "manager"}, "meta_batch: expected Video Helper Suite's Meta Batch Manager, got str"),
    ],
)
def test_linked_values_are_checked(nodes: SimpleNamespace, inputs: dict[str, Any], message: str) -> None:
    error = TypeError if "meta_batch" in inputs else ValueError
    with pytest.raises(error, match=message):
        nodes.interpolate(nodes.model, images(0, 1), **inputs)


# ---- Video Helper Suite's meta batch, as facts about its manager


class Manager:
    unique_id = "3"

    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}
        self.has_closed_inputs = False


def in_batches(nodes: SimpleNamespace, clip: Tensor, size: int, **inputs: Any) -> list[Fraction]:
    manager = Manager()
    together: list[Fraction] = []
    for run, start in enumerate(range(0, len(clip), size)):
        manager.has_closed_inputs = start + size >= len(clip)
        batch = clip[start : start + size]
        result, _, _ = nodes.interpolate(nodes.model, batch, requeue=run, meta_batch=manager, **inputs)
        together += numbers(result)
    return together


@pytest.mark.parametrize("size", [1, 2, 4, 5, 11, 20])
@pytest.mark.parametrize("end", ["stop", "hold", "loop"])
def test_no_frame_is_lost_between_batches(nodes: SimpleNamespace, size: int, end: str) -> None:
    clip = images(*range(11))
    for inputs in ({"recursive_interpolation_passes": 2}, {"source_fps": 8, "target_fps": 12}):
        whole = numbers(nodes.interpolate(nodes.model, clip, end=end, **inputs)[0])
        assert in_batches(nodes, clip, size, end=end, **inputs) == whole


def test_a_batch_without_the_one_before_is_refused(nodes: SimpleNamespace) -> None:
    manager = Manager()
    nodes.interpolate(nodes.model, images(0, 1), requeue=0, meta_batch=manager)
    with pytest.raises(ValueError, match="meta_batch: the last frame of the batch before is not known"):
        nodes.interpolate(nodes.model, images(4, 5), requeue=2, meta_batch=manager)
    result, _, _ = nodes.interpolate(nodes.model, images(7, 8), 1, requeue=0, meta_batch=manager)
    assert numbers(result) == [7, 7.5, 8]


def test_more_images_cannot_follow_each_batch(nodes: SimpleNamespace) -> None:
    manager, more = Manager(), {"images2": images(2)}
    with pytest.raises(ValueError, match="images2: expected nothing beside meta_batch"):
        nodes.interpolate(nodes.model, images(0, 1), 1, requeue=0, meta_batch=manager, more_images=more)
    nodes.interpolate(nodes.model, images(0, 1), 1, requeue=0, meta_batch=manager, more_images={"images2": None})


def test_an_interrupted_batch_leaves_the_state_as_it_was(
    nodes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager()
    nodes.interpolate(nodes.model, images(0, 1), 1, requeue=0, meta_batch=manager)
    before = dict(manager.inputs)
    monkeypatch.setattr(nodes.mm, "throw_exception_if_processing_interrupted", _interrupt(nodes))
    with pytest.raises(nodes.mm.InterruptProcessingException):
        nodes.interpolate(nodes.model, images(2, 3), 1, requeue=1, meta_batch=manager)
    assert manager.inputs == before


def _interrupt(nodes: SimpleNamespace) -> Callable[[], None]:
    def interrupt() -> None:
        raise nodes.mm.InterruptProcessingException

    return interrupt


# ---- videos


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered.write(tmp_path_factory.mktemp("clip") / "clip.mp4", range(24), sound=numbered.tones(1))


def test_a_video_is_smoothed_with_its_sound(nodes: SimpleNamespace, clip: Path) -> None:
    output = nodes.video(nodes.model, nodes.File(str(clip)))
    path = made(output)
    assert [number for _, number in numbered.read(path)] == [min(Fraction(k, 2), Fraction(23)) for k in range(48)]
    assert numbered.packets(path) == numbered.packets(clip)
    assert output.result[0].get_frame_rate() == 48
    assert output.result[0].get_duration() == pytest.approx(1, abs=0.05)
    assert "48 frames" in output.ui.as_dict()["text"][0]


def test_it_says_how_long_an_irregular_video_is(nodes: SimpleNamespace, tmp_path: Path) -> None:
    times = [0, 1, 2, 4, 6, 7, 9, 10, 11]  # frames are missing, as from a screen recorder
    source = numbered.write(tmp_path / "gaps.mkv", range(9), times=times, rate=12, b_frames=0)
    output = nodes.video(nodes.model, nodes.File(str(source)))
    assert "24 fps, 1.0 s long" in output.ui.as_dict()["text"][0]


def test_a_target_rate(nodes: SimpleNamespace, clip: Path) -> None:
    output = nodes.video(nodes.model, nodes.File(str(clip)), 5, "target rate", 59.94)
    assert output.result[0].get_frame_rate() == Fraction(60000, 1001)
    assert len(numbered.read(made(output))) == 60


@pytest.mark.parametrize("sound", ["stretch", "drop"])
def test_slow_motion(nodes: SimpleNamespace, clip: Path, sound: str) -> None:
    output = nodes.video(nodes.model, nodes.File(str(clip)), 2, "slow motion", slow_motion_sound=sound)
    path = made(output)
    assert len(numbered.read(path)) == 96
    assert numbered.length(path) == pytest.approx(4, abs=1e-3)
    components = output.result[0].get_components()
    if sound == "drop":
        assert not components.audio
    else:
        assert components.audio["waveform"].shape[-1] == pytest.approx(4 * 48000, abs=1024 * 3)


def sound_lasts(output: Any) -> float:
    audio = output.result[0].get_components().audio
    return audio["waveform"].shape[-1] / audio["sample_rate"] if audio else 0.0


@pytest.mark.parametrize("sound", ["stretch", "drop"])
def test_a_speed_curve(nodes: SimpleNamespace, clip: Path, sound: str) -> None:
    """Half a second as it is, a quarter of a second four times as slow, and the last quarter as it is."""
    inputs = {"speed_curve": "0 s: 1x, 0.5 s: 0.25x, 0.75 s: 1x", "slow_motion_sound": sound}
    output = nodes.video(nodes.model, nodes.File(str(clip)), 1, "speed curve", 48, **inputs)
    read = numbered.read(made(output))
    assert len(read) == 84  # 1.75 s
    curve = speed_curve(inputs["speed_curve"])
    for time, number in read:
        assert float(number) == pytest.approx(min(float(curve.source_time(time)) * 24, 23), abs=1 / 16)
    assert sound_lasts(output) == pytest.approx(1.75 if sound == "stretch" else 0, abs=0.06)


@pytest.mark.parametrize("seconds", [0.5, 2, 3.3])
def test_a_length(nodes: SimpleNamespace, clip: Path, seconds: float) -> None:
    output = nodes.video(nodes.model, nodes.File(str(clip)), 1, "length", 30, seconds=seconds)
    path = made(output)
    assert numbered.length(path) == pytest.approx(seconds, abs=1 / 30)
    assert sound_lasts(output) == pytest.approx(seconds, abs=0.06)
    assert [float(number) for _, number in numbered.read(path)] == pytest.approx(
        [min(k / 30 / seconds * 24, 23) for k in range(round(seconds * 30))], abs=1 / 16
    )


@pytest.mark.parametrize(
    ("inputs", "rate", "step"),
    [
        ({"passes": 0}, 24, 1),
        ({"passes": 1}, 48, Fraction(1, 2)),
        ({"time": "target rate", "fps": 60}, 60, Fraction(2, 5)),
        ({"passes": 1, "time": "slow motion"}, 24, Fraction(1, 2)),
        ({"time": "length", "seconds": 2, "fps": 30}, 30, Fraction(2, 5)),
        ({"time": "speed curve", "speed_curve": "0 s: 0.5x", "fps": 24}, 24, Fraction(1, 2)),
    ],
)
def test_bad_frames_of_a_video_are_made_anew(
    nodes: SimpleNamespace, tmp_path: Path, inputs: dict[str, Any], rate: int, step: Fraction
) -> None:
    bad = {1, 5, 6, 7, 15}
    source = numbered.write(tmp_path / "bad.mp4", [200 if k in bad else k for k in range(24)], sound=numbered.tones(1))
    output = nodes.video(nodes.model, nodes.File(str(source)), bad_frames="1, 5-7, 15", **inputs)
    read = numbered.read(made(output))
    assert [time for time, _ in read] == pytest.approx([k / rate for k in range(len(read))], abs=1e-4)
    # a 32nd of the way between two good frames, of which the longest is 4 frames
    assert [float(number) for _, number in read] == pytest.approx(
        [float(min(k * step, 23)) for k in range(round(24 / step))], abs=4 / 32 + 1 / 256
    )
    assert "5 bad frames were replaced" in output.ui.as_dict()["text"][0]


def test_bad_frames_that_are_not_there_are_refused_before_any_work(nodes: SimpleNamespace, clip: Path) -> None:
    for text, message in (
        ("24", "expected frames from 0 to 23, which there are, got 24"),
        ("20-23", "frame 23 is the last one"),
        ("0", "frame 0 is the first one"),
        ("five", 'expected numbers of frames, and runs of them, like "12, 40-43", got "five"'),
    ):
        with pytest.raises(ValueError, match=f"bad_frames: {message}"):
            nodes.video(nodes.model, nodes.File(str(clip)), bad_frames=text)


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_video_whose_last_frames_are_its_first_loops_without_a_standstill(
    nodes: SimpleNamespace, tmp_path: Path, in_memory: bool
) -> None:
    """Picture and sound end before them, so that neither waits for the other."""
    shown = [0, 8, 16, 24, 16, 8, 0, 0]
    if in_memory:
        sound = {"waveform": torch.from_numpy(numbered.tones(1))[None], "sample_rate": 48000}
        components = nodes.Types.VideoComponents(images=images(*shown), frame_rate=Fraction(8), audio=sound)
        video = nodes.Components(components)
    else:
        video = nodes.File(str(numbered.write(tmp_path / "c.mp4", shown, rate=8, sound=numbered.tones(1))))
    output = nodes.video(nodes.model, video, 1, end="loop")
    expected = [0, 4, 8, 12, 16, 20, 24, 20, 16, 12, 8, 4]
    assert [number for _, number in numbered.read(made(output))] == expected
    assert sound_lasts(output) == pytest.approx(0.75, abs=0.03)
    assert "The last 2 frames show the first one again" in output.ui.as_dict()["text"][0]
    output = nodes.video(nodes.model, video, 1, "length", 8, end="loop", seconds=3)
    assert numbered.length(made(output)) == 3


@pytest.mark.parametrize(("time", "fps"), [("smooth", 60), ("target rate", 48), ("length", 48)])
def test_frames_in_the_seam_of_a_video(nodes: SimpleNamespace, clip: Path, time: str, fps: float) -> None:
    inputs = {"end": "loop", "seam_frames": 15, "seconds": 2}
    path = made(nodes.video(nodes.model, nodes.File(str(clip)), 1, time, fps, **inputs))
    read = [float(number) for _, number in numbered.read(path)]
    assert numbered.length(path) == (2 if time == "length" else pytest.approx((47 + 15) / 48, abs=1e-3))
    assert len(read) == (96 if time == "length" else 47 + 15)
    assert read[-16:] == pytest.approx([23 * (1 - k / 16) for k in range(16)], abs=23 / 32)
    with pytest.raises(ValueError, match="seam_frames: expected 0 with end hold"):
        nodes.video(nodes.model, nodes.File(str(clip)), 1, seam_frames=2)


def test_a_trimmed_video(nodes: SimpleNamespace, clip: Path) -> None:
    trimmed = nodes.File(str(clip)).as_trimmed(0.25, 0.5)
    output = nodes.video(nodes.model, trimmed, end="stop")
    assert [number for _, number in numbered.read(made(output))] == [Fraction(k, 2) for k in range(12, 35)]
    seen_by_core = trimmed.get_components().images
    assert [numbered.number(image) for image in seen_by_core] == list(range(6, 18))


@settings(max_examples=25, deadline=None)
@given(
    start=st.fractions(0, Fraction(9, 10), max_denominator=240).map(float),
    duration=st.one_of(st.just(0.0), st.fractions(Fraction(1, 20), 2, max_denominator=240).map(float)),
    passes=st.integers(0, 2),
    end=st.sampled_from(["stop", "hold", "loop"]),
)
def test_any_trim_is_what_core_sees(
    nodes: SimpleNamespace, clip: Path, start: float, duration: float, passes: int, end: str
) -> None:
    trimmed = nodes.File(str(clip), start_time=start, duration=duration)
    seen = [numbered.number(image) for image in trimmed.get_components().images]
    path = made(nodes.video(nodes.model, trimmed, passes, end=end))
    numbers = [number for _, number in numbered.read(path)]
    path.unlink()
    assert numbers[:: 2**passes] == seen
    assert len(numbers) == (len(seen) - (end == "stop")) * 2**passes + (end == "stop")


def test_the_end_of_a_video_may_be_trimmed_off_by_a_negative_start(nodes: SimpleNamespace, clip: Path) -> None:
    output = nodes.video(nodes.model, nodes.File(str(clip), start_time=-0.5), end="stop")
    read = [number for _, number in numbered.read(made(output))]
    assert read[-1] == 23
    assert 11 <= read[0] <= 12.5


@pytest.mark.parametrize("bits", [8, 10])
def test_a_video_of_images_need_not_be_encoded_first(nodes: SimpleNamespace, bits: int) -> None:
    tones = numbered.tones(1.2)
    components = nodes.Types.VideoComponents(
        images=images(*range(12)),
        frame_rate=Fraction(12),
        audio={"waveform": torch.from_numpy(tones)[None], "sample_rate": 48000},
    )
    path = made(nodes.video(nodes.model, nodes.Components(components, bit_depth=bits), 2))
    assert [number for _, number in numbered.read(path)][:45] == [Fraction(k, 4) for k in range(45)]
    assert numbered.length(path) == pytest.approx(1, abs=1e-3)
    start, samples = numbered.heard(path)
    assert start == 0
    assert samples.shape[1] == pytest.approx(48000, abs=1024)
    assert np.abs(samples[0, :47000] - tones[0, :47000]).mean() < 0.01
    import av

    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == ("yuv420p10le" if bits == 10 else "yuv420p")


@pytest.mark.parametrize("channels", [1, 2, 6, 7])
def test_sound_of_any_channels_and_rate(nodes: SimpleNamespace, channels: int) -> None:
    wave = torch.rand(1, channels, 22050 * 2) - 0.5
    components = nodes.Types.VideoComponents(
        images=images(*range(12)), frame_rate=Fraction(6), audio={"waveform": wave, "sample_rate": 37000}
    )
    output = nodes.video(nodes.model, nodes.Components(components), 1, "slow motion")
    audio = output.result[0].get_components().audio
    assert audio["waveform"].shape[1] == {1: 1, 2: 2, 6: 6, 7: 2}[channels]
    assert audio["waveform"].shape[-1] / audio["sample_rate"] == pytest.approx(4 * 22050 / 37000, abs=0.06)


def test_save_video_stores_it_as_it_is(nodes: SimpleNamespace, clip: Path, tmp_path: Path) -> None:
    output = nodes.video(nodes.model, nodes.File(str(clip)))
    (video,) = output.result
    video.save_to(str(tmp_path / "saved.mp4"))
    assert numbered.packets(tmp_path / "saved.mp4") == numbered.packets(made(output))
    assert numbered.read(tmp_path / "saved.mp4") == numbered.read(made(output))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"time": "backwards"}, "time: expected one of smooth, target rate, slow motion, .* got backwards"),
        ({"time": "speed curve", "speed_curve": "slowly"}, 'speed_curve: expected keys like "2 s: 0.25x"'),
        ({"time": "length", "seconds": 0}, "seconds: expected a length above 0"),
        ({"time": "length", "seconds": 1000}, r"seconds: expected speeds from 0\.01x to 100x, .* lasts 1\.00 s"),
        ({"slow_motion_sound": "keep"}, "slow_motion_sound: expected one of stretch, drop, got keep"),
        ({"time": "target rate", "output_fps": 0}, "output_fps: expected a frame rate"),
        ({"recursive_interpolation_passes": 9}, r"frames \(recursive_interpolation_passes\): expected a whole number"),
    ],
)
def test_wrong_values_are_refused(nodes: SimpleNamespace, clip: Path, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nodes.video(nodes.model, nodes.File(str(clip)), **inputs)


def test_what_is_no_video_is_refused(nodes: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="video: expected a VIDEO, got Tensor"):
        nodes.video(nodes.model, images(0))
    (tmp_path / "text.mp4").write_text("nothing")
    before = set(nodes.temporary.glob("*"))
    with pytest.raises(UnreadableVideoError, match="video: the video cannot be opened"):
        nodes.video(nodes.model, nodes.File(str(tmp_path / "text.mp4")))
    assert set(nodes.temporary.glob("*")) == before


def test_an_interruption_leaves_no_file(nodes: SimpleNamespace, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(nodes.temporary.glob("*"))
    monkeypatch.setattr(nodes.mm, "throw_exception_if_processing_interrupted", _interrupt(nodes))
    with pytest.raises(nodes.mm.InterruptProcessingException):
        nodes.video(nodes.model, nodes.File(str(clip)))
    assert set(nodes.temporary.glob("*")) == before


# ---- segments


def test_segments_of_several_jobs_are_joined_to_one_video(nodes: SimpleNamespace, tmp_path: Path) -> None:
    """120 frames of the result are a part: 200 frames at 2x have four."""
    source = numbered.write(tmp_path / "source.mp4", range(200))
    video = nodes.File(str(source))
    whole = made(nodes.video(nodes.model, video))
    segments = [made(nodes.video(nodes.model, video, segment=number, segments=3)) for number in (1, 2, 3)]
    joined = tmp_path / "joined.mp4"
    command = [sys.executable, "scripts/join", str(joined), *map(str, segments)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert decoded(joined) == decoded(whole)
    again = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert again.returncode != 0
    assert "is there already" in again.stderr


@pytest.mark.parametrize(
    ("segment", "segments", "message"),
    [
        (0, 2, "segment: expected a segment from 1 to 2, got 0"),
        (3, 2, "segment: expected a segment from 1 to 2, got 3"),
        (1, 5, "segments: expected at most 1 segments for a video of this length, got 5"),
    ],
)
def test_segments_that_are_not_there(
    nodes: SimpleNamespace, tmp_path: Path, segment: int, segments: int, message: str
) -> None:
    video = nodes.File(str(numbered.write(tmp_path / "source.mp4", range(10))))
    with pytest.raises(ValueError, match=message):
        nodes.video(nodes.model, video, segment=segment, segments=segments)


# ---- temporary files


def test_a_file_goes_with_the_last_video_that_needs_it(nodes: SimpleNamespace, clip: Path) -> None:
    (video,) = nodes.video(nodes.model, nodes.File(str(clip))).result
    path = Path(video.get_stream_source())
    trimmed = video.as_trimmed(0, 0.05, False)
    del video
    gc.collect()
    assert path.is_file()
    assert trimmed.get_components().images.shape[0] >= 1
    del trimmed
    gc.collect()
    assert not path.exists()


def test_nodes_run_again_when_another_comfyui_has_removed_their_video(nodes: SimpleNamespace, clip: Path) -> None:
    from amt_frame_interpolation.nodes.images_to_video import AMTImagesToVideo
    from amt_frame_interpolation.nodes.interpolate_video import AMTInterpolateVideo

    (video,) = nodes.video(nodes.model, nodes.File(str(clip))).result
    before = AMTInterpolateVideo.fingerprint_inputs(time="smooth")
    assert AMTInterpolateVideo.fingerprint_inputs(time="smooth") == before
    Path(video.get_stream_source()).unlink()
    after = AMTInterpolateVideo.fingerprint_inputs(time="smooth")
    assert after != before
    assert AMTImagesToVideo.fingerprint_inputs(time="smooth") == after
    assert AMTInterpolateVideo.fingerprint_inputs(time="smooth") == after  # once is enough


def test_frames_that_no_memory_could_hold_are_refused_before_any_is_decoded(
    nodes: SimpleNamespace, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amt_frame_interpolation.nodes.video_source.free_memory", lambda device: 100 * 1000)
    with pytest.raises(UnreadableVideoError, match=r"video: the video's frames of .* pixels need more memory"):
        nodes.video(nodes.model, nodes.File(str(clip)))
