"""scripts/evaluation and its parts: the metrics, the methods it compares with, the list, and what it writes."""

# ruff: noqa: E402  (nothing of the evaluation can be imported without OpenCV)
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

cv2 = pytest.importorskip("cv2", reason="the evaluation needs OpenCV: pip install opencv-python-headless")
pytest.importorskip("skimage", reason="the evaluation needs scikit-image")

from amt_frame_interpolation.amt import network as amt
from amt_frame_interpolation.amt.network.padding import Padding
from documents.marks import insert
from evaluation import checks, evaluate, metrics, report
from evaluation.methods import Blend, FlowWarp, Minterpolate, Pairwise, displacement
from opened_pairs import OpenedPairs
from PIL import Image
from safetensors.torch import save_file
from training import clips as media
from training.clips import Clip, Window


def panning(frames: int, step: float, *, height: int = 128, width: int = 160) -> np.ndarray:
    """A smooth random texture that moves `step` pixels a frame to the right: uint8 [frames, height, width, 3]."""
    noise = np.random.default_rng(0).random((height + 64, width + 512, 3)).astype(np.float32)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)
    shots = []
    for i in range(frames):
        shift = np.array([[1, 0, 256 - step * i], [0, 1, 32]], np.float32)
        shots.append(cv2.warpAffine(texture, shift, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP))
    return np.stack(shots).round().clip(0, 255).astype(np.uint8)


def as_clip(frames: np.ndarray, name: str = "clip") -> Clip:
    gaps = len(frames) - 1
    return Clip(name, frames, np.full(gaps, 0.05), np.zeros(gaps, bool))


def level(value: float, shape: tuple[int, ...] = (32, 32, 3)) -> np.ndarray:
    return np.full(shape, value, np.float32)


class TestMetrics:
    def test_psnr_of_known_errors(self):
        assert metrics.psnr(level(0.5), level(0.4)) == pytest.approx(20, abs=1e-4)
        assert metrics.psnr(level(0.5), level(0.5)) == 100
        assert metrics.psnr(torch.full((2, 2), 0.5), torch.full((2, 2), 0.51)) == pytest.approx(40, abs=1e-3)

    def test_ssim_of_known_errors(self):
        image = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
        assert metrics.ssim(image, image) == pytest.approx(1)
        assert metrics.ssim(1 - image, image) < 0
        # Of flat images only the luminance term is left: (2ab + c) / (a² + b² + c) with c = 0.01².
        expected = (2 * 0.5 * 0.6 + 1e-4) / (0.5**2 + 0.6**2 + 1e-4)
        assert metrics.ssim(level(0.5), level(0.6)) == pytest.approx(expected, abs=1e-4)

    def test_temporal_measure_sees_flicker_alone(self):
        """A constant error is no flicker; the same error in one frame of two is, whatever PSNR says."""
        truth = np.repeat(level(0.5)[None], 5, axis=0)
        constant, flicker = truth.copy(), truth.copy()
        constant[:] += 0.05
        flicker[1::2] += 0.05
        assert metrics.psnr(constant, truth) < metrics.psnr(flicker, truth)
        assert metrics.change_psnr(constant, truth) == 100
        assert metrics.change_psnr(flicker, truth) == pytest.approx(-20 * np.log10(0.05), abs=1e-3)

    @pytest.mark.parametrize("period", metrics.PERIODS)
    def test_a_faint_grid_stands_out_at_its_period(self, period):
        image = checks.moving_disc()[0][0] / np.float32(255)
        image[:128] = np.linspace(0.2, 0.6, 256)[:, None]  # half busy, half smooth, as pictures are
        usual = metrics.grid_prominence(image)
        x = np.arange(256)
        lines = np.float32(2 / 255) * np.cos(2 * np.pi * x / period).astype(np.float32)
        found = metrics.grid_prominence(image + lines[None, :, None])
        excess = {p: found[p] - usual[p] for p in metrics.PERIODS}
        assert excess[period] > 3
        assert max(excess, key=lambda p: excess[p]) == period

    def test_interval_over_clips(self):
        same = {"a": [1.0, 1.0], "b": [1.0]}
        assert metrics.confidence(same) == (1.0, 1.0, 1.0)
        mean, low, high = metrics.confidence({str(i): [float(i % 5)] * 3 for i in range(50)})
        assert mean == pytest.approx(2)
        # The interval of a mean of 50 draws from 0..4 is 2 ± 1.96 * sqrt(2 / 50).
        assert low == pytest.approx(2 - 0.392, abs=0.05)
        assert high == pytest.approx(2 + 0.392, abs=0.05)


class TestMethods:
    def test_blending_is_the_mean_and_gaps_are_filled_evenly(self):
        black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
        made = Pairwise(Blend()).between(black, white, 3)
        assert made.shape == (3, 16, 16, 3)
        assert made.mean(axis=(1, 2, 3)) == pytest.approx([0.25, 0.5, 0.75])

    @pytest.mark.parametrize("step", [1, 3, 6])
    def test_flow_warping_finds_the_middle_of_a_pan(self, step):
        frames = panning(5, step)
        truth = frames.astype(np.float32) / 255
        made = Pairwise(FlowWarp()).between(frames[0], frames[4], 3)
        inner = np.s_[:, 24:-24, 32:-32]  # what is in all frames
        assert metrics.psnr(made[inner], truth[1:4][inner]) > 36
        assert metrics.psnr(made, truth[1:4]) > metrics.psnr(
            Pairwise(Blend()).between(frames[0], frames[4], 3), truth[1:4]
        )

    def test_flow_warping_leaves_still_frames_alone(self):
        frame = panning(1, 0)[0]
        made = Pairwise(FlowWarp()).between(frame, frame, 1)[0]
        assert np.abs(made * 255 - frame).max() < 0.5

    def test_displacement_is_in_pixels(self):
        frames = panning(2, 5)
        assert displacement(frames[0], frames[1]) == pytest.approx(5, abs=0.3)
        assert displacement(frames[0], frames[0]) == pytest.approx(0, abs=0.01)

    @pytest.mark.skipif(not Minterpolate.available(), reason="this build of PyAV has no minterpolate")
    @pytest.mark.parametrize("frames", [(8, 9, 10), (8, 10, 12), (0, 1, 2), (18, 19, 20), (8, 9, 10, 11, 12)])
    def test_minterpolate_gives_the_frames_asked_for(self, frames):
        """Each is nearest to the truth of its own time, also where the clip begins and ends."""
        video = panning(21, 2)
        made = Minterpolate()(as_clip(video), Window("clip", frames, ""))
        assert made.shape == (len(frames) - 2, *video.shape[1:])
        for index, frame in zip(frames[1:-1], made, strict=True):
            errors = np.abs(frame - video / np.float32(255))[:, 24:-24, 48:-48].mean(axis=(1, 2, 3))
            assert int(errors.argmin()) == index

    @pytest.mark.skipif(not Minterpolate.available(), reason="this build of PyAV has no minterpolate")
    def test_minterpolate_does_not_look_across_a_cut(self):
        video = panning(12, 2)
        cut = np.zeros(11, bool)
        cut[[3, 8]] = True
        other = video.copy()
        other[:4] = other[9:] = 0
        window = Window("clip", (4, 6, 8), "")
        gaps = np.full(11, 0.05)
        made = [Minterpolate()(Clip("clip", content, gaps, cut), window) for content in (video, other)]
        assert np.array_equal(made[0], made[1])

    def test_a_network_sees_the_given_frames_alone(self):
        network = amt.AMT(amt.S)
        video = panning(5, 2)
        hidden = video.copy()
        hidden[1:4] = 0
        window = Window("clip", (0, 1, 2, 3, 4), "")
        first, second = (Pairwise(network)(as_clip(content), window) for content in (video, hidden))
        assert first.shape == (3, 128, 160, 3)
        assert np.array_equal(first, second)


class TestList:
    LIST = json.loads(evaluate.LIST.read_text())

    def test_is_versioned_and_of_the_validation_package_alone(self):
        assert self.LIST["version"] == 3
        assert tuple(self.LIST["packages"]) == media.VALIDATION
        assert not set(media.VALIDATION) & set(media.TRAINING)

    @pytest.mark.parametrize(("kind", "length"), [("triplets", 3), ("gaps", 5)])
    def test_windows_are_evenly_spaced_and_unlike(self, kind, length):
        windows = media.read_windows(evaluate.LIST, kind)
        assert len(windows) >= 75
        assert len({(window.clip, window.frames) for window in windows}) == len(windows)
        assert len({window.digest for window in windows}) == len(windows)
        for window in windows:
            assert len(window.frames) == length
            assert set(np.diff(window.frames)) <= {1, 2, 3}
            assert len(set(np.diff(window.frames))) == 1
            assert re.fullmatch("[0-9a-f]{16}", window.digest)

    def test_pixels_are_verified(self):
        clip = as_clip(panning(12, 3))
        window = next(iter(media.choose_windows(clip, length=3, stride=1, count=1)))
        assert media.read_frames(clip, window).shape == (3, 128, 160, 3)
        clip.frames[window.frames[1], 60, 60, 0] ^= 1
        with pytest.raises(media.OtherPixelsError, match=r"digest.*Pillow"):
            media.read_frames(clip, window)

    def test_windows_are_chosen_and_written(self, tmp_path):
        clip = as_clip(panning(30, 3), "pan")
        media.write_windows(tmp_path / "list.json", [clip])
        triplets = media.read_windows(tmp_path / "list.json", "triplets")
        assert [window.frames[1] - window.frames[0] for window in triplets] == [1, 1, 1, 1, 2, 2]
        assert [window.frames[0] for window in triplets[:4]] == [0, 9, 18, 27]
        gaps = media.read_windows(tmp_path / "list.json", "gaps")
        expected = {1: (0, 12, 25), 2: (0, 10, 21), 3: (0, 8, 17)}
        assert [window.frames for window in gaps] == [
            tuple(range(first, first + 4 * step + 1, step)) for step, firsts in expected.items() for first in firsts
        ]

    def test_fast_motion_is_judged_on(self):
        assert media.judgeable(panning(3, 1))
        assert media.judgeable(panning(3, 12))
        assert media.judgeable(panning(5, 12))

    def test_held_and_dropped_frames_are_not(self):
        frames = panning(13, 1)
        assert not media.judgeable(frames[[0, 0, 1]])
        assert not media.judgeable(frames[[0, 1, 12]])
        assert not media.judgeable(frames[[0, 1, 2, 3, 12]])

    def test_a_middle_at_a_third_of_the_way_is_not(self):
        """Every third frame dropped, as from 24 frames a second to 16."""
        frames = panning(9, 3)
        assert not media.judgeable(frames[[0, 1, 3]])
        assert not media.judgeable(frames[[0, 2, 3]])
        assert not media.judgeable(frames[[0, 2, 4, 6, 7]])
        assert not media.judgeable(frames[[0, 3, 7]])
        assert media.judgeable(frames[[0, 3, 6]])

    def test_fades_and_flashes_are_not(self):
        pan = panning(3, 1).astype(np.float32)
        assert not media.judgeable((pan[[0, 0, 0]] * np.array([1, 0.7, 0.4])[:, None, None, None]).astype(np.uint8))
        flash = pan * np.array([1, 0.4, 1])[:, None, None, None]
        assert not media.judgeable(flash.astype(np.uint8))

    def test_no_window_holds_a_cut_of_a_picture_in_picture(self):
        """The inset is too small for the rule of the whole frame's change."""
        frames = np.full((20, 128, 160, 3), 20, np.uint8)
        inset = panning(40, 1)[:, :64, :80]
        frames[:10, 32:96, 40:120] = inset[:10]
        frames[10:, 32:96, 40:120] = 255 - inset[30:]
        change = np.abs(np.diff(np.stack([media._small_grey(frame) for frame in frames]), axis=0)).mean(axis=(1, 2))
        assert change.max() < media.CUT
        clip = Clip("inset", frames, change, np.zeros(19, bool))
        chosen = [window.frames for window in media.choose_windows(clip, length=3, stride=1, count=20)]
        assert len(chosen) >= 10
        assert not [window for window in chosen if {9, 10} <= set(window)]


class Copying:
    """Repeats frame 0: what a method that does nothing does."""

    padding = Padding()
    any_time = False

    def __call__(self, frame0: torch.Tensor, _1: torch.Tensor, _2: torch.Tensor) -> torch.Tensor:
        return frame0


class Spoiled(OpenedPairs):
    """Blending with something added: [1, 3, h, w] or a number."""

    padding = Padding()
    any_time = True

    def __init__(self, added: torch.Tensor | float) -> None:
        self.added = added

    def __call__(self, frame0: torch.Tensor, frame1: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return (frame0 + frame1) / 2 + self.added


class TestChecks:
    def test_identity(self):
        frames = list(panning(2, 4))
        assert checks.identity(Pairwise(Copying()), frames).met
        spoiled = checks.identity(Pairwise(Spoiled(0.01)), frames)
        assert not spoiled.met
        assert spoiled.value == pytest.approx(40, abs=0.5)

    def test_fine_detail(self):
        triplets = [panning(3, step) for step in (2, 4)]
        methods = {"copying": Pairwise(Copying()), "blend": Pairwise(Blend())}
        check = checks.fine_detail("copying", methods, triplets)
        assert check.value == pytest.approx(100, abs=2)
        assert check.beside["the hidden frame"] == pytest.approx(100, abs=2)
        assert check.beside["blend"] < 95

    def test_even_steps(self):
        methods = {
            "flow": Pairwise(FlowWarp(any_time=True)),
            "halved": Pairwise(FlowWarp()),  # eight times between two frames are none that halvings meet
            "copying": Pairwise(Copying()),
        }
        assert checks.even_steps("flow", methods).met
        assert not checks.even_steps("halved", methods).met
        assert not checks.even_steps("copying", methods).met

    def test_still_background(self):
        class Shimmer(Spoiled):
            def __call__(self, frame0, frame1, timestep):
                self.added = -self.added
                return super().__call__(frame0, frame1, timestep)

        methods = {"shimmer": Pairwise(Shimmer(0.02)), "blend": Pairwise(Blend()), "flow": Pairwise(FlowWarp())}
        check = checks.still_background("shimmer", methods)
        assert not check.met
        assert check.beside["blend"] == pytest.approx(0, abs=1e-4)
        assert check.beside["flow"] < check.value
        assert checks.still_background("blend", methods).met

    def test_the_scene_stands_still_and_the_disc_moves(self):
        frames, background = checks.moving_disc()
        assert (frames[:, background] == frames[0, background]).all()
        assert 0.6 < background.mean() < 0.9
        assert (frames[1:] != frames[:-1]).any(axis=(1, 2, 3)).all()
        y, x = np.indices((256, 256))
        left = (x < 96) & (np.abs(y - 128) < 20) & (x > 60)
        assert not np.array_equal(frames[0][left], frames[24][left])

    def test_grid_and_colour_at_full_hd(self):
        triplets = [panning(3, step, height=350, width=350) for step in (2, 4)]
        x = torch.arange(1920)
        grid = 2 / 255 * torch.cos(2 * torch.pi * x / 8).expand(1, 1, 1080, 1920)
        methods = {
            "blend": Pairwise(Blend()),
            "grid": Pairwise(Spoiled(grid)),
            "tint": Pairwise(Spoiled(torch.tensor([1 / 255, 0, 0])[None, :, None, None])),
        }
        lines, tint = checks.full_hd("grid", methods, triplets)
        assert not lines.met
        assert lines.beside["blend"] < 1 < lines.value
        assert tint.beside["tint"] == pytest.approx(1, abs=0.2)
        assert tint.beside["blend"] < 0.3

    def test_mosaic_is_full_hd_whatever_the_clips(self):
        triplet = panning(3, 2)
        assert checks.mosaic([triplet, triplet]).shape == (3, 1080, 1920, 3)


@pytest.fixture
def rows() -> list[evaluate.Row]:
    """Twelve triplets of three clips; `good` is ahead of `poor` by 2 dB."""
    made = []
    for i in range(12):
        window = Window(f"clip{i % 3}", (i, i + 1 + i % 2, i + 2 + 2 * (i % 2)), "")
        figures = {"poor": {"psnr": 20.0 + i, "ssim": 0.8}, "good": {"psnr": 22.0 + i, "ssim": 0.9}}
        made.append(evaluate.Row(window, "triplets", float(i), figures))
    return made


class TestEvaluate:
    def test_figures_of_a_window(self):
        window = panning(5, 2)
        truth = window.astype(np.float32) / 255
        perfect = evaluate.compare(truth[1:-1], window)
        assert perfect["psnr"] == 100
        assert perfect["ssim"] == pytest.approx(1)
        assert perfect["change_psnr"] == 100
        off = evaluate.compare(truth[1:-1] + np.float32(0.1), window)
        assert off["psnr"] == pytest.approx(20, abs=1e-3)
        # Two of the four changes are off by 0.1.
        assert off["change_psnr"] == pytest.approx(20 + 10 * np.log10(2), abs=1e-2)
        assert "change_psnr" not in evaluate.compare(truth[1:2], window[:3])

    def test_groups_cover_all_rows(self, rows):
        found = evaluate.groups(rows)
        assert found["all"]["count"] == 12
        assert found["all"]["figures"]["good"]["psnr"] == pytest.approx(27.5)
        assert found["1 apart"]["count"] == found["2 apart"]["count"] == 6
        quarters = [group for name, group in found.items() if name.startswith("motion")]
        assert [quarter["count"] for quarter in quarters] == [3, 3, 3, 3]
        assert quarters[-1]["figures"]["poor"]["psnr"] == pytest.approx(30)

    def test_differences_are_paired(self, rows):
        ahead = evaluate.differences(rows, "good", "poor")
        assert ahead["triplets psnr"] == pytest.approx((2, 2, 2))
        assert ahead["triplets ssim"] == pytest.approx((0.1, 0.1, 0.1))

    def test_hard_cases_are_of_the_quarter_with_most_motion(self, rows):
        chosen = evaluate.hard_cases(rows, 2)
        assert len(chosen) == 2
        assert all(row.motion >= 9 for row in chosen)
        assert len({row.window.clip for row in chosen}) == 2

    def test_names_of_weights(self):
        assert evaluate.named_path("mine=a.pth") == ("mine", Path("a.pth"))
        assert evaluate.named_path("folder/other.safetensors") == ("other", Path("folder/other.safetensors"))


@pytest.fixture
def results(rows) -> dict:
    """As evaluate() returns them."""
    gaps = [
        evaluate.Row(r.window, "gaps", r.motion, {n: f | {"change_psnr": 30.0} for n, f in r.figures.items()})
        for r in rows
    ]
    check = checks.Check("A check", 1.0, "dB", least=1.5, beside={"poor": 0.5})
    return {
        "list": {"version": 1, "clips": 3},
        "weights": {"good": {"file": "good.safetensors", "sha256": "ab" * 32, "samples": "123456", "hours": "7.25"}},
        "methods": ["poor", "good"],
        "triplets": evaluate.groups(rows),
        "gaps": evaluate.groups(gaps),
        "times": {"1/3": evaluate.means(rows)},
        "differences": {"good": {"poor": evaluate.differences([*rows, *gaps], "good", "poor")}},
        "checks": [evaluate.asdict(check) | {"met": check.met}],
    }


class TestCommand:
    @pytest.fixture
    def place(self, tmp_path, monkeypatch) -> Path:
        """Two decoded clips with a list of their own, weights with their state, and documents with marks."""
        package = tmp_path / "clips" / media.VALIDATION[0]
        package.mkdir(parents=True)
        for name, step in (("slow", 1.5), ("quick", 4)):
            np.save(package / f"{name}.npy", panning(24, step, height=128, width=128))
        (package / "done").touch()
        media.write_windows(tmp_path / "list.json", media.load_clips(media.VALIDATION, tmp_path / "clips"))
        torch.manual_seed(0)
        weights = amt.AMT(amt.S).state_dict()
        torch.save({"average": weights}, tmp_path / "state.pt")
        half = {name: value.half() for name, value in weights.items()}
        save_file(half, tmp_path / "trained.safetensors", {"samples": "1000", "hours": "0.50"})
        save_file(half, tmp_path / "unknown.safetensors")
        every = ("summary", "details", "checks", "training", "pictures")
        for name in ("README", "CARD"):
            monkeypatch.setattr(evaluate, name, tmp_path / name)
            text = "\n".join(f"<!-- evaluation: {block} -->\n<!-- /evaluation: {block} -->" for block in every)
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(evaluate, "LIST", tmp_path / "list.json")
        monkeypatch.setattr(evaluate, "FIGURES", tmp_path / "evaluation.json")
        monkeypatch.setattr(evaluate, "PICTURES", tmp_path / "pictures")
        # 1080p takes gigabytes of memory; it has its own test, with methods that take none.
        monkeypatch.setattr(evaluate, "full_hd", lambda *_: [])
        return tmp_path

    def run(self, place: Path, monkeypatch, *words: str) -> None:
        monkeypatch.setattr("sys.argv", ["evaluate.py", "--clips", str(place / "clips"), *words])
        evaluate.main()

    def test_writes_every_figure_into_the_documents(self, place, monkeypatch, capsys):
        weights, state = str(place / "trained.safetensors"), str(place / "state.pt")
        self.run(place, monkeypatch, "--weights", f"ours={weights}", "--state", state, "--write-docs")
        figures = json.loads((place / "evaluation.json").read_text())
        assert figures["triplets"]["all"]["count"] == 12
        assert figures["gaps"]["all"]["count"] == len(json.loads((place / "list.json").read_text())["gaps"])
        assert {"ours", evaluate.BLEND, evaluate.FLOW} <= set(figures["methods"])
        assert "float32" not in figures["methods"]
        by_method = figures["triplets"]["all"]["figures"]
        assert by_method[evaluate.FLOW]["psnr"] > by_method[evaluate.BLEND]["psnr"] > by_method["ours"]["psnr"]
        unmet = [check["what"] for check in figures["checks"] if not check["met"]]
        assert any("over optical flow" in what for what in unmet)  # untrained weights reach nothing
        assert not any("float32" in what for what in unmet)
        assert sorted(path.name for path in (place / "pictures").iterdir())[0] == "hard-1.jpg"
        for name in ("README", "CARD"):
            text = (place / name).read_text()
            assert f"| ours | {by_method['ours']['psnr']:.2f} |" in text
            assert "1 000 samples in 0.5 hours" in text
            assert figures["weights"]["ours"]["sha256"] in text
        assert f"| ours | {by_method['ours']['psnr']:.2f} |" in capsys.readouterr().out

    def test_weights_without_a_record_are_not_documented(self, place, monkeypatch, capsys):
        with pytest.raises(SystemExit):
            self.run(place, monkeypatch, "--weights", str(place / "unknown.safetensors"), "--write-docs")
        assert "no record of its training" in capsys.readouterr().err
        assert not (place / "evaluation.json").exists()

    def test_other_pixels_give_no_figures(self, place, monkeypatch):
        path = place / "clips" / media.VALIDATION[0] / "slow.npy"
        np.save(path, 255 - np.load(path))
        with pytest.raises(media.OtherPixelsError):
            self.run(place, monkeypatch, "--weights", str(place / "trained.safetensors"))


class TestReport:
    def test_tables_hold_the_figures(self, results):
        summary = report.summary(results)
        assert "| good | 27.50 | 0.9000 | 27.50 | 0.9000 | 30.00 |" in summary
        assert "12 triplets" in summary
        assert "12 gaps" in summary
        details = report.details(results)
        assert "| good over poor | +2.00 (+2.00 to +2.00) |" in details
        assert "| 1 apart | 6 |" in details
        assert "| A check | 1.00 dB | at least 1.5 | **no** | poor 0.50 |" in report.checks(results)
        assert "123 456 samples in 7.2" in report.training(results)

    def test_tables_are_tables(self, results):
        for text in (report.summary(results), report.details(results), report.checks(results)):
            for table in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
                lines = table.strip().splitlines()
                assert len(lines) >= 3
                assert len({line.count("|") for line in lines}) == 1

    def test_text_goes_between_marks_and_nowhere_else(self, tmp_path):
        path = tmp_path / "README.md"
        path.write_text("before\n<!-- evaluation: summary -->\nold\nrows\n<!-- /evaluation: summary -->\nafter\n")
        assert insert(path, "evaluation: summary", r"new \1 rows")
        assert insert(path, "evaluation: summary", "newer")
        assert path.read_text() == "before\n<!-- evaluation: summary -->\nnewer\n<!-- /evaluation: summary -->\nafter\n"
        assert not insert(path, "evaluation: details", "x")
        assert not insert(tmp_path / "none.md", "evaluation: summary", "x")

    def test_documents_are_written(self, results, tmp_path, monkeypatch):
        for name in ("README", "CARD", "FIGURES"):
            monkeypatch.setattr(evaluate, name, tmp_path / "docs" / name)
        (tmp_path / "docs").mkdir()
        marks = "<!-- evaluation: {0} -->\n<!-- /evaluation: {0} -->\n"
        evaluate.README.write_text(marks.format("summary") + marks.format("pictures"))
        evaluate.CARD.write_text(marks.format("checks") + marks.format("training"))
        evaluate.write_docs(results, ["hard-1.jpg"])
        assert json.loads(evaluate.FIGURES.read_text())["methods"] == ["poor", "good"]
        assert "| good | 27.50" in evaluate.README.read_text()
        assert "(docs/pictures/hard-1.jpg)" in evaluate.README.read_text()
        assert "**no**" in evaluate.CARD.read_text()

    def test_strips_show_the_same_square_of_each(self, tmp_path):
        images = {name: level(value, (64, 64, 3)) for name, value in (("a", 0.0), ("b", 0.5), ("c", 1.0))}
        picture = report.strip(images, (16, 8), 32)
        shown = np.asarray(picture)[:32]
        assert shown.shape == (32, 3 * 32 + 2 * 4, 3)
        assert [int(shown[16, 16 + 36 * i, 0]) for i in range(3)] == [0, 128, 255]
        report.save(picture, tmp_path / "pictures" / "strip.jpg")
        with Image.open(tmp_path / "pictures" / "strip.jpg") as saved:
            assert saved.size == picture.size

    def test_pictures_stay_small(self, tmp_path):
        noise = np.random.default_rng(0).random((512, 512, 3)).astype(np.float32)
        with pytest.raises(ValueError, match="smaller square"):
            report.save(report.strip({"noise": noise}, (0, 0), 512), tmp_path / "noise.jpg")

    def test_the_busiest_square_is_where_things_change(self):
        frame0 = np.zeros((100, 120, 3), np.uint8)
        frame1 = frame0.copy()
        frame1[60:80, 90:110] = 200
        top, left = report.busiest(frame0, frame1, 32)
        assert top <= 60
        assert top + 32 >= 80
        assert left <= 90
        assert left + 32 >= 110
        assert report.busiest(frame0, frame1, 100)[0] == 0

    def test_pictures_of_hard_cases(self, tmp_path, monkeypatch):
        monkeypatch.setattr(evaluate, "PICTURES", tmp_path)
        clip = as_clip(panning(24, 3, height=256, width=256))
        windows = list(media.choose_windows(clip, length=3, stride=1, count=8))
        rows = [evaluate.Row(window, "triplets", float(i), {}) for i, window in enumerate(windows)]
        names = evaluate.write_pictures(rows, {"clip": clip}, {"blend": Pairwise(Blend())})
        assert names == ["hard-1.jpg"]
        # Both inputs, one method and the truth.
        with Image.open(tmp_path / names[0]) as saved:
            assert saved.size == (4 * 192 + 3 * 4, 192 + 22)
