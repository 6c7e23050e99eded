"""What only a real GPU can show; skipped without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import pytest
import torch
from amt_frame_interpolation.amt.engine import Engine, NotFiniteError
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.fast.half_volume import HalfVolumeCorrelation
from amt_frame_interpolation.amt.fast.sorted_tiles import SortedTileCorrelation
from amt_frame_interpolation.amt.motion_scale import ScaledAMT
from amt_frame_interpolation.amt.network import AMT, PADDING, Config, G, L, S
from amt_frame_interpolation.amt.network.correlation import Correlation, CorrelationVolume
from amt_frame_interpolation.amt.timeline import multiples
from amt_frame_interpolation.models.catalogue import BUNDLED, BUNDLED_FOLDER
from amt_frame_interpolation.models.loading import load_checkpoint
from golden import golden_state_dict
from torch import Tensor
from torch.nn import functional

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

GPU = torch.device("cuda")
HALF = torch.tensor([0.5])
SIZE = (480, 848)


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def golden_network(config: Config) -> AMT:
    network = AMT(config)
    network.load_state_dict(golden_state_dict(network))
    return network.eval().requires_grad_(False)


def bundled_network() -> AMT:
    return load_checkpoint(BUNDLED_FOLDER / BUNDLED.name).network


def pan(count: int, size: tuple[int, int] = SIZE, step: int = 6) -> list[Tensor]:
    """A smooth texture that moves by `step` pixels a frame, [h, w, 3]."""
    height, width = size[0], size[1] + count * step
    noise = torch.rand(1, 3, height // 16, width // 16, generator=torch.Generator().manual_seed(0))
    texture = functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)
    return [texture[:, index * step : index * step + size[1]].contiguous() for index in range(count)]


def pair(size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor]:
    frame0, frame1 = (PADDING.pad(frame.permute(2, 0, 1)[None]) for frame in pan(2, size))
    return frame0, frame1


def psnr(found: Tensor, expected: Tensor) -> float:
    error = (found.double().cpu() - expected.double().cpu()).square().mean()
    return float(-10 * error.log10())


def peak(work: Callable[[], object]) -> int:
    """The most bytes that the work held at once."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return torch.cuda.max_memory_allocated() - before


@contextmanager
def no_wait() -> Iterator[None]:
    """Inside, an operation for which the host would wait raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("config", [S, L, G], ids=lambda config: config.name)
@pytest.mark.parametrize(("dtype", "least"), [(torch.float32, 70), (torch.float16, 45)])
def test_a_gpu_gives_the_frame_of_a_cpu(config: Config, dtype: torch.dtype, least: float) -> None:
    network = bundled_network() if config is S else golden_network(config)
    frame0, frame1 = pair((256, 448))
    with torch.inference_mode():
        expected = FastAMT(network)(frame0, frame1, HALF)
        found = FastAMT(network.to(GPU, dtype))(frame0.to(GPU), frame1.to(GPU), HALF)
    assert psnr(found, expected) > least


@pytest.mark.parametrize("size", [(480, 848), (720, 1280), (2160, 3840)], ids=str)
def test_no_step_of_a_pair_waits(size: tuple[int, int]) -> None:
    network = FastAMT(bundled_network().to(GPU, torch.float16))
    frame0, frame1 = (frame.to(GPU) for frame in pair(size))
    with torch.inference_mode():
        network(frame0, frame1, HALF)  # what is compiled and loaded once may wait
        with no_wait():
            network(frame0, frame1, HALF)


@pytest.mark.parametrize("lookups", [HalfVolumeCorrelation, SortedTileCorrelation, "triton"], ids=str)
@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 2e-4), (torch.float16, 2e-2)])
def test_every_lookup_gives_what_the_volume_gives(lookups: type[Correlation] | str, dtype: torch.dtype, off: float):
    random = torch.Generator().manual_seed(0)
    fmap0, fmap1 = torch.randn(2, 2, 128, 45, 80, generator=random).to(GPU, dtype)
    flow = (torch.randn(2, 4, 45, 80, generator=random) * 5).to(GPU)
    timestep = torch.tensor([0.3, 0.5], device=GPU)[:, None, None, None]
    kind: Any = lookups
    if lookups == "triton":
        kind = pytest.importorskip("amt_frame_interpolation.amt.fast.triton_lookup").TritonCorrelation
    with torch.inference_mode():
        expected = CorrelationVolume(fmap0.float(), fmap1.float()).lookup(flow[:, :2], flow[:, 2:], timestep)
        found = kind(fmap0, fmap1).lookup(flow[:, :2], flow[:, 2:], timestep)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=off * float(expected.abs().max()))


@pytest.mark.parametrize("size", [(480, 848), (1080, 1920)], ids=str)
@pytest.mark.parametrize("config", [S, G], ids=lambda config: config.name)
def test_the_estimate_of_memory_is_near_the_peak(size: tuple[int, int], config: Config) -> None:
    network = FastAMT(golden_network(config).to(GPU, torch.float16))
    frame0, frame1 = (frame.to(GPU) for frame in pair(size))
    with torch.inference_mode():
        network(frame0, frame1, HALF)  # what is loaded once takes memory too
        measured = peak(lambda: network(frame0, frame1, HALF))
    assert network.memory_used(size, device=GPU) == pytest.approx(measured, rel=0.25)


def test_a_4k_pair_in_half_precision_takes_less_than_4_gib() -> None:
    network = FastAMT(bundled_network().to(GPU, torch.float16))
    frame0, frame1 = (frame.to(GPU) for frame in pair((2160, 3840)))
    with torch.inference_mode():
        assert peak(lambda: network(frame0, frame1, HALF)) < 4 * 2**30


@pytest.mark.parametrize("carried", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_an_engine_on_a_gpu_makes_what_one_on_a_cpu_makes(carried: bool, batch: int, as_bytes: bool) -> None:
    """Frames cross to and fro beside the work: each must come whole, in its place, and be no other one."""
    frames = [(frame * 255).byte() for frame in pan(7, (128, 192), step=3)]
    positions = multiples(Fraction(1, 4), len(frames))

    def made(device: torch.device, pairs: int) -> list[Tensor]:
        network = ScaledAMT(FastAMT(bundled_network().to(device)), 1, carried=carried)
        return list(Engine(network, device, batch=pairs, as_bytes=as_bytes).run(frames, positions))

    for index, (found, expected) in enumerate(zip(made(GPU, batch), made(torch.device("cpu"), 1), strict=True)):
        assert found.device.type == "cpu"
        assert found.dtype == expected.dtype
        if index % 4 == 0:
            assert found is frames[index // 4]
        scale = 1 if as_bytes else 255
        assert (found.float() - expected.float()).abs().mean() * scale < 0.1


def test_a_long_run_holds_no_more_memory_than_a_short_one() -> None:
    network = ScaledAMT(FastAMT(bundled_network().to(GPU, torch.float16)), 1, carried=True)
    peaks = []
    for count in (6, 40):
        torch.cuda.reset_peak_memory_stats()
        for _frame in Engine(network, GPU).run(iter(pan(count, (256, 448), step=2)), multiples(Fraction(1, 2), count)):
            pass
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] < peaks[0] * 1.1


def test_numbers_that_are_not_finite_are_not_shown() -> None:
    network = bundled_network().to(GPU)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    engine = Engine(ScaledAMT(FastAMT(network), 1, carried=True), GPU)
    with pytest.raises(NotFiniteError):
        list(engine.run(pan(3, (128, 192)), multiples(Fraction(1, 2), 3)))


def test_too_little_memory_halves_the_batch_and_gives_the_same_frames() -> None:
    frames = pan(9, (256, 448), step=2)
    positions = multiples(Fraction(1, 2), len(frames))
    network = ScaledAMT(FastAMT(bundled_network().to(GPU)), 1, carried=True)
    expected = list(Engine(network, GPU).run(frames, positions))
    one = network.memory_used((256, 448), GPU)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 3 * one) / total)
    try:
        engine = Engine(network, GPU, batch=8, free_memory=torch.cuda.empty_cache)
        found = list(engine.run(frames, positions))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.batch < 8
    for left, right in zip(found, expected, strict=True):
        assert psnr(left, right) > 60
