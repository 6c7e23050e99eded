"""scripts/training on a synthetic clip: what it draws, what it minimises, and that it goes on where it stopped."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from amt_frame_interpolation.amt.network import AMT, S
from amt_frame_interpolation.models.loading import load_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file
from training import samples as training_samples
from training import train as training
from training.clips import Clip
from training.flow_guide import guide_loss, trusted
from training.losses import census, charbonnier
from training.optimizer import MuonAndAdamW
from training.samples import EARLIEST, Batch, Samples


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads wait for each other by spinning: on a busy machine one alone is ten times faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def moving_texture(frames: int = 12, size: int = 144) -> Clip:
    """Smooth noise that moves two pixels a frame to the right."""
    wide = np.random.default_rng(0).random((size // 8, size // 8 + frames, 3))
    wide = np.kron(wide, np.ones((8, 8, 1)))
    shown = [wide[:size, 2 * i : 2 * i + size] for i in range(frames, 0, -1)]
    video = (np.stack(shown) * 255).astype(np.uint8)
    gaps = np.full(frames - 1, 0.05)
    return Clip("texture", video, gaps, np.zeros(frames - 1, bool))


def samples(clip: Clip, seed: int) -> Samples:
    return Samples([clip], [(128, 128)], seed=seed)


@pytest.fixture
def clip() -> Clip:
    return moving_texture()


def run(folder: Path, clip: Clip, count: int, **more: Any) -> training.State:
    options = training.Options(run=folder, samples=count, crops=((128, 128),), batch=1, report_every=1000, **more)
    validation = training.Validation([(Fraction(1, 2), clip.frames[[0, 1, 2]])])
    training.train(options, [clip], validation)
    network, average = (channels_last(AMT(S)) for _ in range(2))
    state = training.State(network, average, MuonAndAdamW(network, 1e-3))
    state.load(folder / "state.pt")
    return state


def channels_last(network: Any) -> Any:  # PyTorch's types do not know this argument
    return network.to(memory_format=torch.channels_last)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


class TestSamples:
    def test_a_batch_is_crops_with_their_times_and_flows(self, clip):
        batch = samples(clip, 0).batch(3)
        assert batch.frames.shape == (3, 3, 3, 128, 128)
        assert batch.frames.dtype == torch.float32
        assert 0 <= float(batch.frames.min()) <= float(batch.frames.max()) <= 1
        assert batch.times.shape == (3,)
        assert batch.flows.shape == (3, 4, 128, 128)

    def test_every_shape_that_was_asked_for(self, clip):
        drawn = Samples([clip], [(128, 128), (128, 144)], seed=0)
        assert {tuple(drawn.batch(1).frames.shape[3:]) for _ in range(12)} == {(128, 128), (128, 144)}

    def test_what_shows_one_frame_three_times_moves_nowhere(self, clip, monkeypatch):
        monkeypatch.setattr(training_samples, "STILL", 1)
        batch = samples(clip, 0).batch(2)
        assert torch.equal(batch.frames[:, 0], batch.frames[:, 1])
        assert torch.equal(batch.frames[:, 0], batch.frames[:, 2])
        assert not batch.flows.any()

    def test_times_are_of_all_kinds_and_the_middle_often(self, clip):
        times = samples(clip, 1).batch(40).times
        middle = (times == 0.5).float().mean()
        assert 0.2 < middle < 0.7
        assert EARLIEST <= float(times.min()) < 0.3
        assert 0.7 < float(times.max()) <= 1 - EARLIEST

    def test_flows_are_those_of_the_steady_motion(self, clip):
        """From the middle as far on as back, whenever the hidden frame was taken; and the frames are that far apart."""
        batch = samples(clip, 2).batch(12)
        medians = batch.flows.flatten(2).median(dim=2).values
        ways = list(zip(medians[:, :2], medians[:, 2:], strict=True))
        for back, on in ways:
            assert torch.allclose(back, -on, atol=0.1 * float(on.norm()) + 0.2)
        assert len({round(float((on - back).norm())) for back, on in ways}) > 5

    def test_flows_lead_to_the_same_in_both_frames(self, clip):
        for sample in range(6):
            assert float(trusted(samples(clip, sample).batch(1)).mean()) > 0.6

    def test_one_change_of_light_for_all_three_frames(self):
        """Of a clip whose frames are all the same, a sample's are too, whatever is done to them; and it is done."""
        still = moving_texture()
        frames = np.repeat(still.frames[:1], len(still.frames), axis=0)
        batch = Samples([Clip("still", frames, still.change, still.cut)], [(128, 128)], seed=2)._still(128, 128)
        coloured = [samples(still, seed)._coloured(batch.frames) for seed in range(6)]
        assert all(np.array_equal(one[0], one[1]) and np.array_equal(one[0], one[2]) for one in coloured)
        assert len({round(float(one.mean()), 4) for one in coloured}) == 6

    def test_a_seed_gives_the_same_samples(self, clip):
        first, again, other = (samples(clip, seed).batch(2).frames for seed in (5, 5, 6))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_no_window_across_a_cut(self, clip):
        """The halves of the clip differ so much that a mixture would be seen."""
        frames = clip.frames.copy() // 4
        frames[6:] += 190
        cut = np.zeros(11, bool)
        cut[5] = True
        drawn = Samples([Clip("cut", frames, clip.change, cut)], [(128, 128)], seed=0)
        for _ in range(8):
            triplet = drawn._triplet(128, 128)
            means = triplet.frames.mean(axis=(1, 2, 3))
            assert means.max() - means.min() < 60

    def test_clips_without_motion_are_refused(self, clip):
        still = Clip("still", clip.frames, np.zeros(11), clip.cut)
        with pytest.raises(ValueError, match="expected clips with motion"):
            samples(still, 0)


class TestLoss:
    def test_least_for_equal_images(self):
        torch.manual_seed(0)
        truth = torch.rand(1, 3, 32, 32)
        assert float(census(truth, truth)) == 0
        assert float(charbonnier(truth - truth)) == pytest.approx(1e-3)
        for error in (0.02, 0.2):
            image = truth + error * torch.randn_like(truth)
            assert float(census(image, truth)) > 0.01
            assert float(charbonnier(image - truth)) > 1e-3

    def test_census_looks_at_structure_not_brightness(self):
        torch.manual_seed(0)
        truth = torch.rand(1, 3, 32, 32) / 2
        brighter = float(census(truth + 0.2, truth))
        blurred = float(census(torch.nn.functional.avg_pool2d(truth, 3, 1, 1), truth))
        assert brighter < 0.01 < blurred

    def test_census_has_the_gradient_of_its_value(self):
        torch.manual_seed(0)
        image, truth = torch.rand(2, 2, 3, 12, 11, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda x: 100 * census(x, truth), image.requires_grad_(), atol=1e-4)

    def test_census_is_the_mean_over_all_pairs_of_neighbours(self):
        """Of which there is one here: a pixel and the one to its right, the only ones that are not alike."""
        truth = torch.zeros(1, 3, 4, 7)
        image = truth.clone()
        image[..., 0, 3] = 1 / 255
        same = 1 / math.sqrt(0.81 + 1)  # of a difference of one grey level
        # Of the one pixel whose neighbours all lie in the picture, all 24 differ by that much.
        assert float(census(image, truth)) == pytest.approx(same**2 / (0.1 + same**2), rel=1e-4)


class TestOptimizer:
    def test_every_weight_goes_down_its_gradient(self):
        torch.manual_seed(0)
        layers = torch.nn.Conv2d(3, 16, 3), torch.nn.PReLU(16), torch.nn.Conv2d(16, 2, 1)
        network = channels_last(torch.nn.Sequential(*layers))
        optimizer = MuonAndAdamW(network, 1e-2)
        image, wanted = torch.rand(2, 3, 8, 8), torch.rand(2, 2, 6, 6)

        def loss() -> torch.Tensor:
            return (network(image) - wanted).square().mean()

        before = [parameter.detach().clone() for parameter in network.parameters()]
        first = loss()
        for _ in range(20):
            loss().backward()
            optimizer.step(1e-2)
        assert loss().item() < first.item() / 2
        assert all(not torch.equal(x, y) for x, y in zip(before, network.parameters(), strict=True))
        assert all(parameter.grad is None for parameter in network.parameters())


def steady(clip: Clip) -> Batch:
    """The texture moves two pixels a frame to the right."""
    frames = torch.from_numpy(clip.frames[:3, :128, :128].astype(np.float32) / 255).permute(0, 3, 1, 2)[None]
    return Batch(frames, torch.tensor([0.5]), flow_pair(2, 128))


def flow_pair(x: float, size: int) -> torch.Tensor:
    return torch.tensor([-x, 0.0, x, 0.0])[None, :, None, None].expand(-1, -1, size, size)


class TestFlowGuide:
    def test_least_where_the_flows_are_those_of_the_scene(self, clip):
        def loss(x: float) -> float:
            return guide_loss([flow_pair(x / s, 128 // s) for s in (8, 4, 2)], steady(clip)).item()

        assert loss(2) < 0.5
        assert loss(2) < loss(1) < loss(0) < loss(-2)

    def test_flows_that_lead_elsewhere_are_not_trusted(self, clip):
        right = steady(clip)
        assert trusted(right).mean() > 0.9
        assert trusted(Batch(right.frames, right.times, 20 * right.flows)).mean() < 0.3


class TestRate:
    OPTIONS = training.Options(rate=4e-4, fall=0.2)
    LONG = 10**6

    def rate(self, share: float, steps: int = LONG) -> float:
        return training.rate(share, steps, self.OPTIONS)

    def test_warm_up_peak_and_fall(self):
        assert self.rate(0, 0) < self.OPTIONS.rate / 10
        assert self.rate(0, training.WARM_UP) == self.OPTIONS.rate
        assert self.rate(0.8) == pytest.approx(self.OPTIONS.rate)
        assert self.rate(0.9) == pytest.approx(self.OPTIONS.rate * (1 + training.LAST_RATE) / 2)
        assert self.rate(1) == pytest.approx(self.OPTIONS.rate * training.LAST_RATE)

    def test_never_jumps(self):
        rates = np.array([self.rate(share) for share in np.linspace(0, 1.01, 1000)])
        assert np.abs(np.diff(rates)).max() < self.OPTIONS.rate / 100
        assert (rates > 0).all()


class TestState:
    def test_goes_on_where_it_stopped(self, clip, tmp_path):
        first = run(tmp_path, clip, count=2)
        assert first.seen == 2
        assert first.hours > 0
        again = run(tmp_path, clip, count=2)  # nothing left to do
        assert again.seen == 2
        assert same(again.network, first.network)
        assert same(again.average, first.average)
        further = run(tmp_path, clip, count=3)
        assert further.seen == 3
        assert further.hours > first.hours
        assert not same(further.network, first.network)
        steps = {int(entry["step"]) for entry in further.optimizer.state_dict()["adamw"]["state"].values()}
        assert steps == {3}

    def test_more_samples_go_on_from_before_the_rate_fell(self, clip, tmp_path, capsys):
        run(tmp_path, clip, count=5)
        assert (tmp_path / "before_fall.pt").exists()
        capsys.readouterr()
        assert run(tmp_path, clip, count=6).seen == 6
        assert "from 4 samples" in capsys.readouterr().out

    def test_goes_on_from_weights_alone(self, clip, tmp_path, capsys):
        """As from the bundled ones, whose state nobody has: they are begun with, and what was seen counts."""
        run(tmp_path / "before", clip, 2)
        weights = tmp_path / "before" / training.WEIGHTS
        begun = run(tmp_path / "none", clip, 2, initial=weights)  # all samples were seen: none is added
        assert begun.seen == 2
        for name, value in load_file(weights).items():
            assert torch.equal(begun.network.state_dict()[name], value.float())
            assert torch.equal(begun.average.state_dict()[name], value.float())
        more = run(tmp_path / "more", clip, 4, initial=weights)
        assert more.seen == 4
        assert more.hours > begun.hours
        assert not same(more.network, begun.network)
        assert "from 2 samples" in capsys.readouterr().out
        with safe_open(tmp_path / "more" / training.WEIGHTS, "pt") as file:
            assert file.metadata()["samples"] == "4"

    def test_the_average_follows_the_weights(self):
        torch.manual_seed(0)
        network, average = (channels_last(AMT(S)) for _ in range(2))

        def distance() -> float:
            pairs = zip(network.parameters(), average.parameters(), strict=True)
            return math.sqrt(sum(float(((a - b) ** 2).detach().sum()) for a, b in pairs))

        state = training.State(network, average, MuonAndAdamW(network, 1e-3), steps=80_000)
        before = distance()
        state.update_average()
        assert distance() == pytest.approx(0.999 * before, rel=1e-4)

    def test_the_pack_loads_what_was_exported(self, clip, tmp_path):
        state = run(tmp_path, clip, count=1)
        path = tmp_path / training.WEIGHTS
        network = load_checkpoint(path).network
        for name, value in state.average.state_dict().items():
            assert torch.equal(network.state_dict()[name], value.half().float()), name
        assert path.stat().st_size < 6.5e6
        with safe_open(path, framework="pt") as file:
            record = file.metadata()
        assert record["samples"] == "1"
        assert float(record["hours"]) >= 0
