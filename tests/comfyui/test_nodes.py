"""The nodes in ComfyUI's own process: model management, core's interpolation node, bad input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from amt_frame_interpolation.amt.fast import FastAMT, compile_parts
from amt_frame_interpolation.amt.network import AMT, S
from amt_frame_interpolation.amt.network.padding import Padding
from amt_frame_interpolation.amt.timeline import TOLERANCE
from golden import golden_state_dict
from opened_pairs import OpenedPairs
from safetensors.torch import save_file
from torch import Tensor, nn


@pytest.fixture(scope="module")
def nodes(comfy: ModuleType) -> Iterator[SimpleNamespace]:
    """The pack's node modules, core's interpolation node, and ComfyUI's model management."""
    import comfy.model_management as mm
    from amt_frame_interpolation.nodes import images_to_video, interp_model, interpolate, load_model
    from comfy_extras import nodes_frame_interpolation as core

    def as_comfyui_runs_it(node: Any) -> Callable[..., Any]:
        hidden = {"hidden_inputs": {"UNIQUE_ID": "1", "PROMPT": {}}}
        return torch.inference_mode()(node.PREPARE_CLASS_CLONE(hidden).execute)

    yield SimpleNamespace(
        mm=mm,
        core=core,
        AMTModel=interp_model.AMTModel,
        interpolate=as_comfyui_runs_it(interpolate.AMTInterpolate),
        to_video=as_comfyui_runs_it(images_to_video.AMTImagesToVideo),
        load=as_comfyui_runs_it(load_model.AMTModelLoader),
        core_interpolate=as_comfyui_runs_it(core.FrameInterpolate),
    )
    mm.unload_all_models()


@pytest.fixture(scope="module")
def patch(nodes: SimpleNamespace) -> Callable[[nn.Module], Any]:
    """Wraps a model as ComfyUI manages it."""
    import comfy.model_patcher

    cpu = torch.device("cpu")
    return lambda model: comfy.model_patcher.CoreModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)


class Blend(OpenedPairs, nn.Module):
    """Stands in for AMT: mixes linearly, so that numbered frames give their positions. Remembers what it was asked."""

    padding = Padding(multiple_of=16, minimum=128)
    dtype = torch.float32
    config = S

    def __init__(self, any_time: bool = False) -> None:
        super().__init__()
        self.any_time = any_time
        self.weight = nn.Parameter(torch.zeros(1))
        self.asked: list[float] = []

    def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        self.asked += timestep.tolist()
        return torch.lerp(frame0, frame1, timestep.reshape(-1, 1, 1, 1))

    def memory_used(self, *_args: object, **_options: object) -> int:
        return 0


@pytest.fixture(scope="module")
def amt_s(nodes: SimpleNamespace, patch: Callable[[nn.Module], Any]) -> Any:
    network = FastAMT(AMT(S))
    network.load_state_dict(golden_state_dict(network))
    return patch(nodes.AMTModel(network))


@pytest.fixture
def blend(nodes: SimpleNamespace, patch: Callable[[nn.Module], Any]) -> Any:
    return patch(nodes.AMTModel(Blend()))


def random_images(count: int, height: int, width: int, channels: int = 3) -> Tensor:
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(count))


def numbered(count: int) -> Tensor:
    """Frame k is k / count everywhere."""
    return (torch.arange(count) / count)[:, None, None, None].expand(count, 20, 24, 3).contiguous()


@pytest.mark.parametrize("channels", [3, 4])
def test_source_frames_survive_bit_for_bit(nodes: SimpleNamespace, amt_s: Any, channels: int) -> None:
    images = random_images(3, 50, 70, channels)
    result, multiplier, _ = nodes.interpolate(amt_s, images, 2).result
    assert multiplier == 4
    assert result.shape == (9, 50, 70, channels)
    assert result.dtype == images.dtype
    assert torch.equal(result[::4], images)
    assert result.isfinite().all()
    assert not torch.equal(result[1], result[0])


def test_frames_come_in_order(nodes: SimpleNamespace, blend: Any) -> None:
    result, _, _ = nodes.interpolate(blend, numbered(5), 3).result
    torch.testing.assert_close(result[:, 0, 0, 0], torch.arange(33) / 8 / 5)


@pytest.mark.parametrize(("count", "passes"), [(1, 4), (3, 0), (1, 0)])
def test_nothing_to_do_gives_the_input(nodes: SimpleNamespace, blend: Any, count: int, passes: int) -> None:
    images = random_images(count, 20, 20)
    result, multiplier, _ = nodes.interpolate(blend, images, passes).result
    assert result is images
    assert multiplier == 2**passes


BAD_IMAGES = {
    "no batch": (None, "expected an IMAGE batch"),
    "no frames": (torch.zeros(0, 8, 8, 3), "at least one frame"),
    "no pixels": (torch.zeros(2, 0, 8, 3), "at least one pixel"),
    "one frame without its batch": (torch.zeros(8, 8, 3), "frames, height, width, channels"),
    "whole numbers": (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), "expected floats"),
    "grey": (torch.zeros(2, 8, 8, 1), r"3 \(RGB\) or 4 \(RGBA\) channels, got 1"),
    "five channels": (torch.zeros(2, 8, 8, 5), "channels, got 5"),
    "NaN": (torch.stack((torch.zeros(8, 8, 3), torch.full((8, 8, 3), torch.nan))), "frame 1 has pixels that are NaN"),
    "infinity": (torch.full((2, 8, 8, 3), torch.inf), "frame 0 has pixels"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
@pytest.mark.parametrize("node", ["interpolate", "to_video"])
def test_bad_images_are_refused(nodes: SimpleNamespace, blend: Any, node: str, case: str) -> None:
    images, message = BAD_IMAGES[case]
    with pytest.raises(ValueError, match=message):
        getattr(nodes, node)(blend, images)


@pytest.mark.parametrize("passes", [-1, 9, 40, 2.5, None])
@pytest.mark.parametrize("node", ["interpolate", "to_video"])
def test_bad_passes_are_refused(nodes: SimpleNamespace, blend: Any, node: str, passes: Any) -> None:
    with pytest.raises(
        ValueError, match=r"frames \(recursive_interpolation_passes\): expected a whole number from 0 to 8"
    ):
        getattr(nodes, node)(blend, numbered(2), recursive_interpolation_passes=passes)


@pytest.mark.parametrize("fps", [0, -24, float("nan"), float("inf"), 5000])
def test_bad_rates_are_refused(nodes: SimpleNamespace, blend: Any, fps: float) -> None:
    with pytest.raises(ValueError, match="output_fps: expected a frame rate"):
        nodes.to_video(blend, numbered(2), output_fps=fps)


def test_what_is_no_interpolation_model_is_refused(nodes: SimpleNamespace, patch: Callable[[nn.Module], Any]) -> None:
    for wrong in ("a string", patch(nn.Linear(1, 1)), AMT(S)):
        with pytest.raises(TypeError, match=r"interp_model: expected .*Load AMT Model"):
            nodes.interpolate(wrong, numbered(2), 1)


def test_a_result_that_does_not_fit_is_refused_before_any_work(
    nodes: SimpleNamespace, blend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes.mm, "get_free_memory", lambda *_args, **_kwargs: 1000)
    with pytest.raises(ValueError, match=r"17 frames of 24 x 20.*AMT Images to Video"):
        nodes.interpolate(blend, numbered(2), 4)
    assert blend.model.network.asked == []
    nodes.to_video(blend, numbered(2), recursive_interpolation_passes=1)  # holds no result


def test_an_interruption_stops_the_work(nodes: SimpleNamespace, blend: Any) -> None:
    import folder_paths

    temporary = Path(folder_paths.get_temp_directory())
    before = set(temporary.glob("*"))
    for node in (nodes.interpolate, nodes.to_video):
        nodes.mm.interrupt_current_processing(True)
        with pytest.raises(nodes.mm.InterruptProcessingException):
            node(blend, numbered(4), recursive_interpolation_passes=2)
    assert blend.model.network.asked == []
    assert set(temporary.glob("*")) == before


# ---- core's node and core's models


@pytest.mark.parametrize("multiplier", range(2, 17))
def test_core_node_reaches_every_multiplier_by_halving(nodes: SimpleNamespace, blend: Any, multiplier: int) -> None:
    images = numbered(3)
    (result,) = nodes.core_interpolate(blend, images, multiplier).result
    assert len(result) == 2 * multiplier + 1
    assert torch.equal(result[::multiplier], images)
    wanted = torch.arange(2 * multiplier + 1) / multiplier / 3
    torch.testing.assert_close(result[:, 0, 0, 0], wanted, atol=float(TOLERANCE) / 3 + 1e-6, rtol=0)
    assert set(blend.model.network.asked) == {0.5}


def test_core_node_asks_an_any_time_network_directly(nodes: SimpleNamespace, patch: Callable[[nn.Module], Any]) -> None:
    model = patch(nodes.AMTModel(Blend(any_time=True)))
    (result,) = nodes.core_interpolate(model, numbered(2), 5).result
    torch.testing.assert_close(result[:, 0, 0, 0], torch.arange(6) / 10)
    assert model.model.network.asked == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert model.model.network.opened == 1


def test_core_node_and_ours_make_the_same_frames(nodes: SimpleNamespace, amt_s: Any) -> None:
    coarse = random_images(3, 5, 7).permute(0, 3, 1, 2)
    images = nn.functional.interpolate(coarse, (60, 90), mode="bilinear").permute(0, 2, 3, 1)
    ours, *_ = nodes.interpolate(amt_s, images, 2).result
    (cores,) = nodes.core_interpolate(amt_s, images, 4).result
    # Rounding differs with the memory's layout, and the formula's weights make more of it than trained ones.
    torch.testing.assert_close(ours, cores, atol=1e-3, rtol=0)


@pytest.fixture(scope="module", params=["rife", "film"])
def core_model(request: pytest.FixtureRequest, nodes: SimpleNamespace, patch: Callable[[nn.Module], Any]) -> Any:
    torch.manual_seed(0)
    model = nodes.core.IFNet(head_ch=4) if request.param == "rife" else nodes.core.FILMNet()
    for parameter in model.parameters():  # core's layers leave their memory as it was
        nn.init.normal_(parameter, std=0.02)
    return patch(model)


def test_core_models_give_in_our_node_what_they_give_in_core(nodes: SimpleNamespace, core_model: Any) -> None:
    images = random_images(2, 100, 130)
    ours, *_ = nodes.interpolate(core_model, images, 2).result
    (cores,) = nodes.core_interpolate(core_model, images, 4).result
    torch.testing.assert_close(ours, cores, atol=1e-5, rtol=0)
    assert torch.equal(ours[::4], images)


def test_core_models_look_at_each_frame_once(
    nodes: SimpleNamespace, core_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    extract = core_model.model.extract_features
    monkeypatch.setattr(core_model.model, "extract_features", lambda image: (seen.append(image), extract(image))[1])
    images = random_images(3, 64, 64)
    result, *_ = nodes.interpolate(core_model, images, 2).result
    assert len(seen) == len(images)
    assert torch.equal(result[::4], images)


def test_core_models_keep_alpha(nodes: SimpleNamespace, core_model: Any) -> None:
    images = random_images(2, 100, 130, 4)
    images[..., 3] = 1
    result, _, _ = nodes.interpolate(core_model, images, 1).result
    assert result.shape == (3, 100, 130, 4)
    assert torch.equal(result[::2], images)
    torch.testing.assert_close(result[1, ..., :3], nodes.interpolate(core_model, images[..., :3], 1).result[0][1])


# ---- video


def decode(video: Any) -> list[np.ndarray]:
    source: str = video.get_stream_source()
    with av.open(source, "r") as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("fps", "rate"), [(24, Fraction(24)), (23.976, Fraction(24000, 1001)), (12.5, Fraction(25, 2))]
)
def test_the_video_has_all_frames_at_the_rate(nodes: SimpleNamespace, blend: Any, fps: float, rate: Fraction) -> None:
    (video,) = nodes.to_video(blend, numbered(3), output_fps=fps, recursive_interpolation_passes=2).result
    assert video.get_frame_rate() == rate
    assert video.get_dimensions() == (24, 20)
    greys = [frame.mean() / 255 for frame in decode(video)]
    assert greys == pytest.approx([k / 4 / 3 for k in range(9)], abs=2.5 / 255)
    assert float(video.get_duration()) == pytest.approx(float(9 / rate), abs=1e-3)


def test_a_grey_ramp_comes_back(nodes: SimpleNamespace, blend: Any) -> None:
    ramp = (torch.arange(256) / 255).repeat_interleave(2)[None, None, :, None].expand(1, 64, 512, 3).contiguous()
    (video,) = nodes.to_video(blend, ramp).result
    (frame,) = decode(video)
    assert np.abs(frame.astype(int) - (ramp[0] * 255).round().int().numpy()).max() <= 2
    through_core = video.get_components().images
    assert (through_core - ramp).abs().max() <= 2.01 / 255


def test_colours_come_back_and_are_tagged(nodes: SimpleNamespace, blend: Any) -> None:
    colours = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0.2, 0.5, 0.8], [0.9, 0.4, 0.1]])
    image = colours.repeat_interleave(32, 0)[None, None].expand(1, 64, 192, 3).contiguous()
    (video,) = nodes.to_video(blend, image).result
    patches = decode(video)[0].reshape(64, 6, 32, 3)[8:-8, :, 8:-8]
    assert np.abs(patches / 255 - colours.numpy()[None, :, None]).max() <= 4 / 255
    with av.open(video.get_stream_source()) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 1, 1)  # BT.709
        assert context.color_range == 1  # 16..235
        assert context.pix_fmt == "yuv420p"


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 35), (64, 51)])
def test_odd_sizes_grow_by_a_pixel(nodes: SimpleNamespace, blend: Any, height: int, width: int) -> None:
    (video,) = nodes.to_video(blend, random_images(2, height, width), recursive_interpolation_passes=1).result
    assert video.get_dimensions() == (width + width % 2, height + height % 2)
    assert len(decode(video)) == 3


def test_alpha_is_left_out_of_videos(nodes: SimpleNamespace, blend: Any) -> None:
    (video,) = nodes.to_video(blend, random_images(2, 20, 20, 4), recursive_interpolation_passes=1).result
    assert len(decode(video)) == 3


def test_saving_the_video_does_not_encode_it_again(nodes: SimpleNamespace, blend: Any, tmp_path: Path) -> None:
    (video,) = nodes.to_video(blend, random_images(2, 64, 64), recursive_interpolation_passes=2).result
    video.save_to(str(tmp_path / "saved.mp4"))

    def packets(path: str) -> list[bytes]:
        with av.open(path) as container:
            return [bytes(packet) for packet in container.demux(video=0) if packet.size]

    assert packets(str(tmp_path / "saved.mp4")) == packets(video.get_stream_source())


# ---- the loader


@pytest.fixture
def model_file(comfy: ModuleType) -> Iterator[Path]:
    import folder_paths

    folder = Path(folder_paths.get_folder_paths("frame_interpolation")[0]).parent / "amt"
    folder_paths.add_model_folder_path("amt", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "formula.safetensors"
    save_file(golden_state_dict(AMT(S)), path)
    yield path
    path.unlink(missing_ok=True)


def test_a_file_in_the_models_folder_loads(nodes: SimpleNamespace, model_file: Path) -> None:
    (model,) = nodes.load(model_file.name).result
    assert model.model_dtype() == torch.float32
    result, _, _ = nodes.interpolate(model, random_images(2, 20, 30), 1).result
    assert result.shape == (3, 20, 30, 3)


def test_a_file_that_vanished_says_so(nodes: SimpleNamespace, model_file: Path) -> None:
    model_file.unlink()
    with pytest.raises(Exception, match=r"formula\.safetensors.*(R|refresh)"):
        nodes.load(model_file.name)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_precisions_that_the_device_lacks_are_refused(nodes: SimpleNamespace, model_file: Path, precision: str) -> None:
    with pytest.raises(ValueError, match=r"precision: .*fp32"):
        nodes.load(model_file.name, precision)


def test_a_compiled_model_gives_the_same_frames_and_is_called_compiled(
    nodes: SimpleNamespace, patch: Callable[[nn.Module], Any], amt_s: Any
) -> None:
    from amt_frame_interpolation.nodes.interp_model import describe

    network = FastAMT(AMT(S))
    network.load_state_dict(golden_state_dict(network))
    compiled = patch(nodes.AMTModel(network, "compiled.pth", compile_parts(network, backend="eager")))
    images = random_images(2, 20, 30)
    expected, result = (nodes.interpolate(model, images, 1).result[0] for model in (amt_s, compiled))
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(nodes.core_interpolate(compiled, images, 2).result[0], result, atol=1e-4, rtol=0)
    assert describe(compiled) == "compiled.pth on cpu, fp32, compiled"


def test_the_estimate_of_memory_reaches_model_management(
    nodes: SimpleNamespace, amt_s: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    load = nodes.mm.load_models_gpu

    def record(models: list[Any], **kwargs: Any) -> None:
        asked.append(kwargs)
        load(models, **kwargs)

    monkeypatch.setattr(nodes.mm, "load_models_gpu", record)
    for size in (128, 256):
        nodes.interpolate(amt_s, random_images(2, size, size), 1)
    small, large = (call["memory_required"] for call in asked)
    assert 0 < small < large
    assert all(call["force_full_load"] for call in asked)
