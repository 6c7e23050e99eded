"""Motion that is carried to other times, and found at other sizes."""

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from amt_frame_interpolation.amt import motion_scale
from amt_frame_interpolation.amt.any_time import carry
from amt_frame_interpolation.amt.combined_motion import combined, disagreement, reduced, shares, warped_picture
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.motion_scale import SCALES, SMALLEST, ScaledAMT, in_words
from amt_frame_interpolation.amt.network import Motion
from amt_frame_interpolation.models.loading import load_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

BUNDLED = Path(__file__).resolve().parent.parent / "models" / "amt-s-open.safetensors"
FIELDS = 3


def steady(velocity: torch.Tensor, mask: float = 0.5) -> Motion:
    """Of straight paths, from the velocity [b, 2, h, w] of each pixel in the middle."""
    flow = velocity[:, None].expand(-1, FIELDS, -1, -1, -1) / 2
    ones = torch.ones_like(flow[:, :, :1])
    return Motion(-flow, flow, mask * ones, 0.1 * ones.expand(-1, -1, 3, -1, -1), ())  # type: ignore[arg-type]


def pan(x: float, y: float, batch: int = 1) -> torch.Tensor:
    return torch.tensor([x, y])[None, :, None, None].expand(batch, 2, 24, 32)


times = st.floats(0.05, 0.95)


class TestCarry:
    def test_the_middle_stays_as_it_is(self):
        torch.manual_seed(0)
        shape = (2, FIELDS, 8, 24, 32)
        flow0, flow1, mask, residual = torch.randn(shape).split((2, 2, 1, 3), dim=2)
        motion = Motion(flow0, flow1, mask.sigmoid(), residual, ())  # type: ignore[arg-type]
        carried = carry(motion, torch.tensor([0.5]))
        for name in ("flow0", "flow1", "mask", "residual"):
            assert torch.allclose(getattr(carried, name), getattr(motion, name), atol=1e-4), name

    @given(time=times, x=st.floats(-9, 9), y=st.floats(-9, 9))
    @settings(max_examples=30, deadline=None)
    def test_a_pan_is_split_by_the_time(self, time, x, y):
        carried = carry(steady(pan(x, y)), torch.tensor([time]))
        way = pan(x, y)[:, None]
        assert torch.allclose(carried.flow0, (-time * way).expand_as(carried.flow0), atol=1e-4)
        assert torch.allclose(carried.flow1, ((1 - time) * way).expand_as(carried.flow1), atol=1e-4)

    @given(time=times, zoom=st.floats(-0.2, 0.2))
    @settings(max_examples=30, deadline=None)
    def test_points_of_a_zoom_keep_their_own_speed(self, time, zoom):
        """At place x there is the point that was at x / (1 + (t - 1/2) zoom) in the middle, seen from the centre."""
        y, x = torch.meshgrid(torch.arange(24.0) - 11.5, torch.arange(32.0) - 15.5, indexing="ij")
        place = torch.stack((x, y))[None]
        carried = carry(steady(zoom * place), torch.tensor([time]))
        velocity = zoom * place / (1 + (time - 0.5) * zoom)
        inner = (..., slice(4, -4), slice(4, -4))  # no velocity is known from outside of the picture
        assert torch.allclose(carried.flow0[:, 0][inner], (-time * velocity)[inner], atol=0.02)
        assert torch.allclose(carried.flow1[:, 0][inner], ((1 - time) * velocity)[inner], atol=0.02)

    @given(time=st.floats(0, 1), x=st.floats(-9, 9), bend=st.floats(-5, 5))
    @settings(max_examples=30, deadline=None)
    def test_a_pan_that_turns_ends_in_the_given_frames(self, time, x, bend):
        """It is at t x - 4 t (1 - t) bend from its start: through the first frame, the middle and the last frame."""
        motion = steady(pan(x, 0))
        away = pan(0, bend)[:, None]
        carried = carry(replace(motion, flow0=motion.flow0 + away, flow1=motion.flow1 + away), torch.tensor([time]))
        flow0 = pan(-time * x, 4 * time * (1 - time) * bend)[:, None]
        assert torch.allclose(carried.flow0, flow0.expand_as(carried.flow0), atol=1e-4)
        assert torch.allclose(carried.flow1, (flow0 + pan(x, 0)[:, None]).expand_as(carried.flow1), atol=1e-4)

    def test_each_pair_of_a_batch_has_its_own_time(self):
        motion = steady(pan(4, -2, batch=2))
        both = carry(motion, torch.tensor([0.25, 0.6]))
        for i, time in enumerate((0.25, 0.6)):
            assert torch.equal(both.flow0[i], carry(motion, torch.tensor([time])).flow0[i])

    def test_sampling_needs_no_padding_that_apple_s_gpus_lack(self, monkeypatch: pytest.MonkeyPatch):
        sample = functional.grid_sample

        def as_there(image: torch.Tensor, position: torch.Tensor, **options: Any) -> torch.Tensor:
            if options.get("padding_mode", "zeros") != "zeros" or options.get("mode", "bilinear") != "bilinear":
                raise NotImplementedError
            return sample(image, position, **options)

        motion, time = steady(pan(40, -2)), torch.tensor([0.25])  # out of the picture
        monkeypatch.setattr(functional, "grid_sample", as_there)
        assert torch.allclose(carry(motion, time).flow1, (0.75 * pan(40, -2))[:, None].expand(-1, FIELDS, -1, -1, -1))

    def test_the_nearer_frame_is_trusted_more(self):
        for mask in (0.2, 0.5, 0.9):
            motion = steady(pan(1, 0), mask)
            trusted = [float(carry(motion, torch.tensor([time])).mask.mean()) for time in (0.05, 0.3, 0.7, 0.95)]
            assert trusted == sorted(trusted, reverse=True)
            assert trusted[0] > 0.8
            assert trusted[-1] < 0.4
        assert float(carry(steady(pan(1, 0)), torch.tensor([0.001])).residual.abs().max()) < 0.01


def texture(shift: float, height: int = 128, width: int = 160) -> torch.Tensor:
    """Waves of many lengths and directions, moved to the right by `shift` pixels exactly: [1, 3, h, w]."""
    random = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    picture = torch.zeros(3, height, width)
    for _ in range(24):
        length = 8 * 8 ** float(torch.rand((), generator=random))
        direction, phase = (2 * math.pi * torch.rand(2, generator=random)).tolist()
        wave = (math.cos(direction) * (x - shift) + math.sin(direction) * y) * 2 * math.pi / length + phase
        picture += torch.rand(3, 1, 1, generator=random) * wave.sin()
    return (0.5 + 0.06 * picture)[None].clamp(0, 1)


def moved(before: torch.Tensor, after: torch.Tensor) -> float:
    """Pixels to the right from one picture to another that is less than a wave away, by least squares."""
    slope = (before[..., 2:] - before[..., :-2] + after[..., 2:] - after[..., :-2]) / 4
    inner = (..., slice(16, -16), slice(16, -16))
    return -float(((after - before)[..., 1:-1] * slope)[inner].sum() / (slope**2)[inner].sum())


@pytest.fixture(scope="module")
def network() -> FastAMT:
    return FastAMT(load_checkpoint(BUNDLED).network)


EIGHT = [i / 9 for i in range(1, 9)]
MIDDLE = torch.tensor([0.5])


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * math.log10(max(float((a - b).square().mean()), 1e-9))


@torch.inference_mode()
def made(network: ScaledAMT, frame0: torch.Tensor, frame1: torch.Tensor, time: torch.Tensor = MIDDLE) -> torch.Tensor:
    return network(frame0, frame1, time)


@pytest.fixture(scope="module")
def carried(network: FastAMT) -> ScaledAMT:
    return ScaledAMT(network, carried=True)


class TestCarried:
    def test_a_slow_pan_moves_evenly(self, carried: ScaledAMT):
        """Eight frames between two: the steps between them are within 10 % of one another."""
        pair = carried.open_pair(texture(0), texture(4))
        frames = [carried.frame_at(pair, torch.tensor([time])) for time in EIGHT]
        steps = [moved(before, after) for before, after in pairwise(frames)]
        assert max(steps) <= 1.1 * min(steps)
        assert sum(steps) == pytest.approx(4 * 7 / 9, rel=0.05)

    def test_the_middle_is_the_network_s(self, carried: ScaledAMT, network: FastAMT):
        frames = texture(0), texture(6)
        assert torch.equal(made(carried, *frames), network(*frames, MIDDLE))
        pair = carried.open_pair(*frames)
        carried.frame_at(pair, torch.tensor([0.25]))
        assert torch.allclose(carried.frame_at(pair, MIDDLE), network(*frames, MIDDLE), atol=1e-3)

    def test_what_stands_still_stays_at_every_time(self, carried: ScaledAMT):
        pair = carried.open_pair(texture(0), texture(0))
        for time in EIGHT:
            assert psnr(carried.frame_at(pair, torch.tensor([time])), texture(0)) > 45

    def test_a_pair_is_opened_with_one_call_of_the_network(self, network: FastAMT, monkeypatch: pytest.MonkeyPatch):
        calls: list[object] = []
        find = network.motion_at
        monkeypatch.setattr(network, "motion_at", lambda *given: calls.append(given) or find(*given))
        carried = ScaledAMT(network, carried=True)
        pair = carried.open_pair(texture(0), texture(2))
        for time in EIGHT:
            carried.frame_at(pair, torch.tensor([time]))
        assert len(calls) == 1

    @pytest.mark.parametrize("time", [0.0, 1.0, -0.5, 1.5, math.nan])
    def test_times_outside_are_refused(self, carried: ScaledAMT, time: float):
        pair = carried.open_pair(texture(0), texture(2))
        with pytest.raises(ValueError, match="strictly between 0 and 1"):
            carried.frame_at(pair, torch.tensor([time]))


WIDE = (256, 512)
"""Height and width of frames that auto looks at."""


def pan_of(pixels: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frame 0, the middle and frame 1."""
    frames = [texture(shift, *WIDE) for shift in (0, pixels / 2, pixels)]
    return frames[0], frames[1], frames[2]


class TestScales:
    @given(
        factor=st.sampled_from([2, 4]),
        height=st.integers(2, 9),
        rows=st.tuples(st.integers(0, 35), st.integers(1, 36)),
    )
    @settings(max_examples=40, deadline=None)
    def test_rows_of_an_enlarged_motion_are_those_of_the_whole(self, factor: int, height: int, rows: tuple[int, int]):
        flow0, flow1, mask, residual = torch.randn(1, FIELDS, 8, height, 5).split((2, 2, 1, 3), dim=2)
        motion = Motion(flow0, flow1, mask, residual, ())  # type: ignore[arg-type]
        start, stop = sorted(min(row, factor * height) for row in rows)
        whole = motion.enlarged(factor)
        assert whole.flow0.shape[-2:] == (factor * height, factor * 5)
        if start < stop:
            part = motion.enlarged(factor, slice(start, stop))
            for name in ("flow0", "flow1", "mask", "residual"):
                assert torch.allclose(getattr(part, name), getattr(whole, name)[..., start:stop, :], atol=1e-5), name

    def test_an_enlarged_pan_goes_so_many_pixels_further(self):
        motion = steady(pan(3, -1)).enlarged(4)
        assert torch.allclose(motion.flow1[0, 0, :, 5, 5], torch.tensor([6.0, -2.0]))

    def test_large_motion_is_found_on_smaller_frames(self, network: FastAMT):
        frame0, middle, frame1 = pan_of(56)
        auto, full = ScaledAMT(network), ScaledAMT(network, 1)
        assert psnr(made(auto, frame0, frame1), middle) > psnr(made(full, frame0, frame1), middle) + 3
        assert not auto.used[1]

    @pytest.mark.parametrize("pixels", [3, 8, 40, 56])
    def test_auto_is_about_as_good_as_the_best_scale(self, network: FastAMT, pixels: int):
        frame0, middle, frame1 = pan_of(pixels)
        single = [psnr(made(ScaledAMT(network, scale), frame0, frame1), middle) for scale in SCALES]
        auto = ScaledAMT(network)
        assert psnr(made(auto, frame0, frame1), middle) > max(single) - 1
        assert auto.used == (Counter({1: 1, 2: 1, 4: 1}) if pixels < 16 else Counter({2: 1, 4: 1}))

    def test_two_motions_in_one_picture_are_both_found(self, network: FastAMT):
        """A slow half and a fast one: better than every scale alone, which finds one of them."""
        slow, fast = pan_of(2), pan_of(48)
        frame0, middle, frame1 = (torch.cat(both, dim=2) for both in zip(slow, fast, strict=True))
        single = [psnr(made(ScaledAMT(network, scale), frame0, frame1), middle) for scale in SCALES]
        assert psnr(made(ScaledAMT(network), frame0, frame1), middle) > max(single)

    def test_frames_of_4k_are_seen_at_an_eighth_too(self, network: FastAMT, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(motion_scale, "FOUR_K", WIDE[1])
        frame0, middle, frame1 = pan_of(56)
        auto = ScaledAMT(network)
        assert psnr(made(auto, frame0, frame1), middle) > psnr(made(ScaledAMT(network, 4), frame0, frame1), middle)
        assert auto.used == Counter({2: 1, 4: 1, 8: 1})

    def test_small_frames_are_seen_in_full_at_no_further_cost(self, network: FastAMT, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(network, "motion_at", None)  # the network's own frame is asked for, and no motion
        frames = texture(0), texture(40)
        auto = ScaledAMT(network)
        assert max(frames[0].shape) <= SMALLEST
        assert torch.equal(made(auto, *frames), network(*frames, MIDDLE))

    @pytest.mark.parametrize("scale", SCALES)
    def test_a_still_picture_stays(self, network: FastAMT, scale: int):
        still = texture(0, *WIDE)
        assert psnr(made(ScaledAMT(network, scale), still, still), still) > 45

    @pytest.mark.parametrize("scale", [None, 2, 4])
    def test_black_bars_stay_black_beside_motion(self, network: FastAMT, scale: int | None):
        frame0, _, frame1 = (frame.clone() for frame in pan_of(24))
        for frame in (frame0, frame1):
            frame[..., :32, :] = frame[..., -32:, :] = 0
        bars = made(ScaledAMT(network, scale), frame0, frame1)
        assert float(torch.cat((bars[..., :28, :], bars[..., -28:, :])).max()) < 4 / 255

    def test_alpha_moves_with_the_colours(self, network: FastAMT):
        frame0, middle, frame1 = (torch.cat((frame, frame[:, :1]), dim=1) for frame in pan_of(32))
        result = made(ScaledAMT(network, 2), frame0, frame1)
        assert psnr(result[:, 3:], middle[:, 3:]) > 25

    def test_each_pair_of_a_batch_has_its_own_scale(self, network: FastAMT):
        near, far = pan_of(3), pan_of(56)
        auto = ScaledAMT(network, carried=True)
        time = torch.tensor([0.25, 0.75])
        both = made(auto, torch.cat((near[0], far[0])), torch.cat((near[2], far[2])), time)
        assert auto.used == Counter({1: 1, 2: 2, 4: 2})
        for index, frames in enumerate((near, far)):
            alone = made(ScaledAMT(network, carried=True), frames[0], frames[2], time[index : index + 1])
            assert torch.allclose(both[index], alone[0], atol=1e-3)


class TestCombined:
    def motions(self) -> dict[int, Motion]:
        """The same pan, in the units of each scale."""
        made = {}
        for scale in (1, 2, 4, 8):
            velocity = torch.tensor([8.0, -4.0])[None, :, None, None].expand(1, 2, 64 // scale, 96 // scale) / scale
            made[scale] = steady(velocity)
        return made

    @given(used=st.sets(st.sampled_from([1, 2, 4, 8]), min_size=1), seed=st.integers(0, 99))
    @settings(max_examples=30, deadline=None)
    def test_what_all_scales_found_stays(self, used: set[int], seed: int):
        motions = {scale: motion for scale, motion in self.motions().items() if scale in used}
        random = torch.Generator().manual_seed(seed)
        counted = shares({scale: torch.rand(1, 1, 16, 24, generator=random) for scale in motions})
        assert torch.allclose(sum(counted.values(), torch.zeros(())), torch.ones(1, 1, 16, 24), atol=1e-6)
        found, expected = combined(motions, counted), motions[min(used)]
        for name in ("flow0", "flow1", "mask", "residual"):
            assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-4), name

    def test_motion_along_which_the_frames_agree_counts(self):
        frames = texture(0, 64, 96), texture(8, 64, 96)
        right, wrong = steady(pan(8, 0)[..., :1, :1].expand(1, 2, 64, 96)), steady(torch.zeros(1, 2, 32, 48))
        small = [reduced(frame) for frame in frames]
        counted = shares({1: disagreement(*small, right, 1), 2: disagreement(*small, wrong, 2)})
        assert float(counted[1].min()) > 0.95

    def test_a_pan_is_warped_to_its_middle(self):
        frames = texture(0, 64, 96), texture(6, 64, 96)
        motion = steady(pan(3, 0)[..., :1, :1].expand(1, 2, 32, 48))  # on frames of half the size
        picture = warped_picture(*frames, motion)
        inner = (..., slice(8, -8), slice(8, -8))
        assert psnr(picture[inner], texture(3, 64, 96)[inner]) > 45


def test_the_scales_in_words():
    assert in_words(Counter()) == in_words(Counter({1: 5})) == ""
    assert in_words(Counter({2: 3})) == "motion found at 1/2 of the size"
    assert in_words(Counter({2: 3, 4: 1})) == "motion found at 1/2 and 1/4 of the size"
    assert in_words(Counter({1: 1, 2: 3})) == "motion found at the full size and 1/2 of it"
