"""scripts/training on a synthetic clip: what it draws, what it minimises, and that it goes on where it stopped."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from amt_frame_interpolation.models.loading import load_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file
from training import train as training
from training.clips import Clip
from training.flow_guide import guide_loss
from training.losses import census, charbonnier
from training.optimizer import MuonAndAdamW
from training.triplets import even_triplets


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


def all_triplets(clip: Clip) -> dict[str, dict[int, list[int]]]:
    return {clip.name: {stride: list(range(len(clip.frames) - 2 * stride)) for stride in (1, 2, 3)}}


def samples(clip: Clip, seed: int) -> training.Samples:
    return training.Samples([clip], all_triplets(clip), crop=128, seed=seed)


@pytest.fixture
def clip() -> Clip:
    return moving_texture()


def run(folder: Path, clip: Clip, count: int, *more: str) -> training.State:
    words = ["--samples", str(count), "--crop", "128", "--batch", "1", "--run", str(folder), "--report-every", "1000"]
    words += more
    validation = training.Validation([clip.frames[[0, 1, 2]]])
    training.train(training.parse(words), [clip], all_triplets(clip), validation)
    network, average = (channels_last(training.amt.AMT(training.amt.S)) for _ in range(2))
    state = training.State(network, average, MuonAndAdamW(network, 1e-3))
    state.load(folder / "state.pt")
    return state


def channels_last(network: Any) -> Any:  # PyTorch's types do not know this argument
    return network.to(memory_format=torch.channels_last)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


class TestSamples:
    def test_some_show_one_frame_three_times(self, clip):
        batch = samples(clip, 0).batch(200)
        still = sum(torch.equal(a, b) and torch.equal(b, c) for a, b, c in batch)
        assert 0 < still < 20

    def test_a_batch_is_triplets_of_crops(self, clip):
        batch = samples(clip, 0).batch(3)
        assert batch.shape == (3, 3, 3, 128, 128)
        assert batch.dtype == torch.float32
        assert 0 <= float(batch.min()) <= float(batch.max()) <= 1

    def test_frames_follow_each_other(self, clip):
        """The middle is as far from either end, and nearer to both than they are to each other."""
        for frames in samples(clip, 1).batch(8):
            before, after, across = (
                float((a - b).abs().mean())
                for a, b in ((frames[0], frames[1]), (frames[1], frames[2]), (frames[0], frames[2]))
            )
            assert before == pytest.approx(after, rel=0.2)
            assert across > max(before, after)

    def test_one_change_of_light_for_all_three_frames(self):
        """Of a clip whose frames are all the same, a sample's are too, whatever is done to them; and it is done."""
        still = moving_texture()
        frames = np.repeat(still.frames[:1], len(still.frames), axis=0)
        same_frames = Clip("still", frames, still.change, still.cut)
        batch = samples(same_frames, 2).batch(6)
        assert torch.equal(batch[:, 0], batch[:, 1])
        assert torch.equal(batch[:, 0], batch[:, 2])
        assert len({round(float(frame.mean()), 4) for frame in batch[:, 0]}) == 6

    def test_a_seed_gives_the_same_samples(self, clip):
        first, again, other = (samples(clip, seed).batch(2) for seed in (5, 5, 6))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


class TestTriplets:
    def test_all_of_a_steady_motion(self, clip, tmp_path):
        assert even_triplets([clip], (1, 2, 3), tmp_path / "times.json") == all_triplets(clip)

    def test_none_where_frames_were_dropped(self, clip, tmp_path):
        """Of 12 frames every third is gone: of three neighbours the middle is never in the middle."""
        kept = [i for i in range(12) if i % 3 != 2]
        dropped = Clip("dropped", clip.frames[kept], clip.change[: len(kept) - 1], clip.cut[: len(kept) - 1])
        found = even_triplets([dropped], (1, 2), tmp_path / "times.json")["dropped"]
        assert found[1] == []
        assert found[2] == [0, 1, 2, 3]

    def test_none_across_a_cut(self, clip, tmp_path):
        cut = clip.cut.copy()
        cut[6] = True
        found = even_triplets([Clip("cut", clip.frames, clip.change, cut)], (1, 3), tmp_path / "times.json")["cut"]
        assert found == {1: [0, 1, 2, 3, 4, 7, 8, 9], 3: [0]}

    def test_none_where_nothing_moves(self, clip, tmp_path):
        still = Clip("still", np.repeat(clip.frames[:1], 12, axis=0), clip.change, clip.cut)
        assert even_triplets([still], (1,), tmp_path / "times.json") == {"still": {1: []}}

    def test_looked_at_once(self, clip, tmp_path):
        first = even_triplets([clip], (1, 2), tmp_path / "times.json")
        hidden = Clip(clip.name, np.zeros_like(clip.frames), clip.change, clip.cut)
        assert even_triplets([hidden], (1, 2), tmp_path / "times.json") == first
        assert even_triplets([hidden], (1, 3), tmp_path / "times.json")[clip.name] == {1: [], 3: []}


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


class TestFlowGuide:
    def test_least_where_the_flows_are_those_of_the_scene(self, clip):
        """The texture moves two pixels a frame to the right."""
        frames = torch.from_numpy(clip.frames[:3, :128, :128].astype(np.float32) / 255).permute(0, 3, 1, 2)[None]

        def loss(x: float) -> float:
            flow = torch.tensor([-x, 0, x, 0])[None, :, None, None]
            return guide_loss([flow.expand(-1, -1, 128 // s, 128 // s) / s for s in (8, 4, 2)], frames).item()

        assert loss(2) < 0.5
        assert loss(2) < loss(1) < loss(0) < loss(-2)


class TestRate:
    TOTAL = 100_000

    def test_warm_up_peak_and_fall(self):
        assert training.rate(0, self.TOTAL) < training.PEAK_RATE / 1000
        assert training.rate(training.WARM_UP, self.TOTAL) == training.PEAK_RATE
        assert training.rate(int(0.8 * self.TOTAL), self.TOTAL) == pytest.approx(training.PEAK_RATE)
        half_way = (training.PEAK_RATE + training.LAST_RATE) / 2
        assert training.rate(int(0.9 * self.TOTAL), self.TOTAL) == pytest.approx(half_way)
        assert training.rate(self.TOTAL, self.TOTAL) == pytest.approx(training.LAST_RATE)

    def test_falls_over_the_share_asked_for(self):
        assert training.rate(int(0.9 * self.TOTAL), self.TOTAL, 0.1) == pytest.approx(training.PEAK_RATE)
        half_way = (training.PEAK_RATE + training.LAST_RATE) / 2
        assert training.rate(int(0.95 * self.TOTAL), self.TOTAL, 0.1) == pytest.approx(half_way)

    def test_never_jumps(self):
        rates = np.array([training.rate(seen, self.TOTAL) for seen in range(0, self.TOTAL + 1, 100)])
        assert np.abs(np.diff(rates)).max() <= training.PEAK_RATE * 100 / training.WARM_UP * 1.001
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
        assert "going on from 4 samples" in capsys.readouterr().out

    def test_goes_on_from_weights_alone(self, clip, tmp_path, capsys):
        """As from the bundled ones, whose state nobody has: they are begun with, and what was seen counts."""
        run(tmp_path / "before", clip, 2)
        weights = tmp_path / "before" / training.WEIGHTS
        begun = run(tmp_path / "none", clip, 2, "--initial", str(weights))  # all samples were seen: none is added
        assert begun.seen == 2
        for name, value in load_file(weights).items():
            assert torch.equal(begun.network.state_dict()[name], value.float())
            assert torch.equal(begun.average.state_dict()[name], value.float())
        more = run(tmp_path / "more", clip, 4, "--initial", str(weights))
        assert more.seen == 4
        assert more.hours > begun.hours
        assert not same(more.network, begun.network)
        assert "going on from 2 samples" in capsys.readouterr().out
        with safe_open(tmp_path / "more" / training.WEIGHTS, "pt") as file:
            assert file.metadata()["samples"] == "4"

    def test_the_average_follows_the_weights(self):
        torch.manual_seed(0)
        network, average = (channels_last(training.amt.AMT(training.amt.S)) for _ in range(2))

        def distance() -> float:
            pairs = zip(network.parameters(), average.parameters(), strict=True)
            return math.sqrt(sum(float(((a - b) ** 2).detach().sum()) for a, b in pairs))

        state = training.State(network, average, MuonAndAdamW(network, 1e-3), seen=80_000)
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
