"""Trains AMT-S from scratch on clips of generated video. Run it again to go on from where it stopped (Ctrl-C saves).

    python scripts/training --samples 400000
    python scripts/training --samples 400000 --initial models/amt-s-open.safetensors    more hours for those weights

The same command uses a GPU where there is one. The learning rate stays at its peak and falls along a cosine over
the last fifth of the samples (--fall); the state from before the fall is kept, and with a larger --samples the training
goes on from that one, so that more hours add on.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import _pack
import numpy as np
import torch
from amt_frame_interpolation.amt import network as amt
from amt_frame_interpolation.amt.network.correlation import CorrelationVolume
from evaluation.metrics import psnr
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.clips import TRAINING, VALIDATION, Clip, load_clips, read_frames, read_windows
from training.flow_guide import guide_loss
from training.losses import census, charbonnier
from training.optimizer import MuonAndAdamW
from training.triplets import Triplets, even_triplets

VALIDATION_LIST = _pack.ROOT / "scripts" / "evaluation" / "validation.json"
WEIGHTS = "amt-s-open.safetensors"

PEAK_RATE = 4e-4
LAST_RATE = 2e-6
WARM_UP = 2_000
"""Samples over which the rate rises to its peak."""
FALL = 0.2
"""Share of all samples over which the rate falls, where no other is asked for."""
STRIDES = (1, 1, 1, 2, 2, 3)
"""How far apart the three frames of a sample are, each as likely as the next."""
GUIDE_WEIGHT = 0.3
"""Of the coarse flows' distance to the guide, a pixel, beside the losses of pictures."""
STILL = 0.03
"""Share of samples that show one frame three times: what stands still must come out as it went in."""


class Samples:
    """Random crops of triplets: where motion is, flipped, transposed, reversed in time, brighter or darker."""

    def __init__(self, clips: Sequence[Clip], triplets: Triplets, crop: int, seed: int) -> None:
        self._clips = [clip for clip in clips if any(triplets[clip.name].values())]
        self._triplets = triplets
        self._crop = crop
        self._random = np.random.default_rng(seed)
        # Long clips give more than short ones, but not in proportion: what they show changes less.
        weights = np.array([math.sqrt(sum(map(len, triplets[clip.name].values()))) for clip in self._clips])
        self._weights = weights / weights.sum()

    def batch(self, size: int) -> Tensor:
        """[size, 3 frames, 3 colours, crop, crop], 0..1."""
        return torch.from_numpy(np.stack([self._sample() for _ in range(size)]))

    def _sample(self) -> np.ndarray:
        random = self._random
        clip = self._clips[random.choice(len(self._clips), p=self._weights)]
        firsts = self._triplets[clip.name]
        stride = int(random.choice([stride for stride in STRIDES if firsts[stride]]))
        first = int(random.choice(firsts[stride]))
        if random.random() < STILL:
            stride = 0
        frames = clip.frames[[first, first + stride, first + 2 * stride]]
        top, left = self._place(frames)
        crop = frames[:, top : top + self._crop, left : left + self._crop]
        return self._vary(crop.astype(np.float32) / 255)

    def _place(self, frames: np.ndarray) -> tuple[int, int]:
        """The place with more motion of two: most of most frames stands still, and what moves most is past finding."""
        places = [
            (
                int(self._random.integers(frames.shape[1] - self._crop + 1)),
                int(self._random.integers(frames.shape[2] - self._crop + 1)),
            )
            for _ in range(2)
        ]
        change = np.abs(frames[2, ::4, ::4].astype(np.int16) - frames[0, ::4, ::4]).sum(axis=-1)
        side = self._crop // 4
        return max(places, key=lambda p: change[p[0] // 4 : p[0] // 4 + side, p[1] // 4 : p[1] // 4 + side].sum())

    def _vary(self, frames: np.ndarray) -> np.ndarray:
        random = self._random
        frames = frames.transpose(0, 3, 1, 2)
        if random.random() < 0.5:
            frames = frames[:, :, ::-1]
        if random.random() < 0.5:
            frames = frames[:, :, :, ::-1]
        if random.random() < 0.5:
            frames = frames.transpose(0, 1, 3, 2)
        if random.random() < 0.5:
            frames = frames[::-1]
        if random.random() < 0.5:
            frames = frames[:, random.permutation(3)]
        gamma, gain = random.uniform(0.8, 1.25), random.uniform(0.85, 1.1)
        return np.clip(gain * frames**gamma, 0, 1, dtype=np.float32)


def rate(seen: int, total: int, fall: float = FALL) -> float:
    """The learning rate after `seen` of `total` samples, falling over a share of them."""
    fallen = max(0.0, (seen - (1 - fall) * total) / (fall * total))
    left = (1 + math.cos(math.pi * min(fallen, 1))) / 2
    return (LAST_RATE + (PEAK_RATE - LAST_RATE) * left) * min(1, (seen + 1) / WARM_UP)


class Validation:
    """Triplets that the progress line is about, whole frames."""

    def __init__(self, triplets: Sequence[np.ndarray]) -> None:
        """triplets: uint8 [3, h, w, 3]."""
        self._triplets = triplets

    @classmethod
    def from_list(cls, folder: Path, most: int) -> Validation:
        """About `most` triplets of the validation list, spread over it."""
        clips = {clip.name: clip for clip in load_clips(VALIDATION, folder)}
        windows = read_windows(VALIDATION_LIST, "triplets")
        # Not by a whole step, which takes the same window of every clip: the first ones have 4 dB more than all have.
        chosen = [windows[i * len(windows) // most] for i in range(min(most, len(windows)))]
        return cls([read_frames(clips[w.clip], w) for w in chosen])

    @torch.inference_mode()
    def psnr(self, network: amt.AMT, device: torch.device) -> float:
        """Mean over the triplets, dB."""
        figures = []
        for triplet in self._triplets:
            frames = torch.from_numpy(np.ascontiguousarray(triplet)).to(device).permute(0, 3, 1, 2).float() / 255
            frame0, middle, frame1 = frames[:, None]
            padding = network.padding
            made = network(padding.pad(frame0), padding.pad(frame1), torch.tensor([0.5], device=device))
            figures.append(psnr(padding.crop(made, (middle.shape[2], middle.shape[3])), middle))
        return float(np.mean(figures))


@dataclass
class State:
    """Everything that the training goes on from."""

    network: amt.AMT
    average: amt.AMT
    """Exponential moving average of the weights: single ones scatter by tenths of a decibel."""
    optimizer: MuonAndAdamW
    seen: int = 0
    hours: float = 0.0

    def save(self, path: Path) -> None:
        content = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seen": self.seen,
            "hours": self.hours,
        }
        part = path.with_suffix(".part")
        torch.save(content, part)
        os.replace(part, path)

    def load(self, path: Path) -> None:
        content = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.seen, self.hours = content["seen"], content["hours"]

    def update_average(self) -> None:
        # About the last thousand steps; fewer at the start, where old weights are worthless.
        steps = self.seen / 8
        keep = min(0.999, (1 + steps) / (10 + steps))
        with torch.no_grad():
            for average, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                average.lerp_(new, 1 - keep)


class FullPrecisionVolume(CorrelationVolume):
    """Correlation stays float32 under autocast, as it does in use."""

    def __init__(self, fmap0: Tensor, fmap1: Tensor) -> None:
        with torch.autocast(fmap0.device.type, enabled=False):
            super().__init__(fmap0, fmap1)


def initialise(network: amt.AMT) -> None:
    """He initialisation, with small outputs where flows and corrections start from zero."""
    for name, module in network.named_modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            torch.nn.init.kaiming_normal_(module.weight, a=0.1, mode="fan_out")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
            if name.endswith(("convblock.2", "flow_head.2", "feat_head.2", "comb_block.2")):
                with torch.no_grad():
                    module.weight.mul_(0.1)


def train(
    arguments: argparse.Namespace,
    clips: Sequence[Clip],
    triplets: Triplets,
    validation: Validation,
    stop: threading.Event | None = None,
) -> None:
    """Trains until `arguments.samples` are seen or `stop` is set, then saves."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(arguments.seed)
    network = amt.AMT(amt.S, correlation=FullPrecisionVolume)
    initialise(network)
    about = load_weights(network, arguments.initial) if arguments.initial else {}
    # Channels last: 1.3 times the samples a second with bf16 convolutions on a CPU.
    network = network.to(device, memory_format=torch.channels_last)
    state = State(network, copy.deepcopy(network), MuonAndAdamW(network, PEAK_RATE))
    state.seen, state.hours = int(about.get("samples", 0)), float(about.get("hours", 0))
    arguments.run.mkdir(parents=True, exist_ok=True)
    latest, before_fall = arguments.run / "state.pt", arguments.run / "before_fall.pt"
    if latest.exists():
        state.load(latest)
        if before_fall.exists() and _seen(before_fall) < (1 - arguments.fall) * arguments.samples:
            state.load(before_fall)
            before_fall.unlink()
    if state.seen:
        print(f"going on from {state.seen} samples, {state.hours:.2f} hours", flush=True)
    # A new seed after every start: the same one would show the same samples again.
    samples = Samples(clips, triplets, arguments.crop, seed=arguments.seed + state.seen)
    print(f"{len(clips)} clips, {device}", flush=True)

    half = torch.autocast(device.type, torch.bfloat16, enabled=arguments.precision == "bf16")
    since_report, losses, saved = time.time(), [], time.time()
    while state.seen < arguments.samples and not (stop and stop.is_set()):
        started = time.time()
        if state.seen >= arguments.samples * (1 - arguments.fall) and not before_fall.exists():
            state.save(before_fall)
        batch = samples.batch(arguments.batch).to(device, non_blocking=True)
        frame0, middle, frame1 = (frame.contiguous(memory_format=torch.channels_last) for frame in batch.unbind(1))
        with half:
            motion = network.motion(frame0, frame1, torch.tensor([0.5], device=device))
            made = network.merge(frame0, frame1, motion)
        loss = charbonnier(made - middle) + census(made, middle)
        (loss + GUIDE_WEIGHT * guide_loss(motion.coarse_flows, batch)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        state.optimizer.step(rate(state.seen, arguments.samples, arguments.fall))
        state.seen += len(batch)
        state.update_average()
        losses.append(loss.detach())
        state.hours += (time.time() - started) / 3600

        if len(losses) * arguments.batch >= arguments.report_every or state.seen >= arguments.samples:
            mean_loss = float(torch.stack(losses).mean())
            speed = len(losses) * arguments.batch / (time.time() - since_report)
            learning_rate = rate(state.seen, arguments.samples, arguments.fall)
            print(
                f"{state.seen} samples, {state.hours:.2f} h, loss {mean_loss:.4f}, "
                f"validation {validation.psnr(state.average, device):.2f} dB, rate {learning_rate:.1e}, "
                f"{speed:.1f} samples/s",
                flush=True,
            )
            since_report, losses = time.time(), []
        if time.time() - saved > 60 * arguments.save_minutes:
            state.save(latest)
            export(state, arguments.run / WEIGHTS)
            saved = time.time()
    state.save(latest)
    # Also where there was nothing to do: this is how weights are written from a state once more.
    export(state, arguments.run / WEIGHTS)


def _seen(path: Path) -> int:
    return torch.load(path, map_location="cpu", weights_only=True)["seen"]


def export(state: State, path: Path) -> None:
    """Writes the averaged weights in half precision, with the record of their training."""
    part = path.with_suffix(".part")
    weights = {name: value.half().cpu().contiguous() for name, value in state.average.state_dict().items()}
    save_file(weights, part, {"samples": str(state.seen), "hours": f"{state.hours:.2f}"})
    os.replace(part, path)


def load_weights(network: amt.AMT, path: Path) -> dict[str, str]:
    """Loads what `export` wrote; returns the record of its training, which goes on from there."""
    network.load_state_dict(load_file(path))
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=400_000, help="triplets to see in all")
    parser.add_argument("--fall", type=float, default=FALL, help="share of them over which the learning rate falls")
    # Trained on crops of 128 alone, a network finds less in the same pixels the more of the frame it is shown.
    parser.add_argument("--crop", type=int, default=256, help="pixels, a multiple of 16, at least 128")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the convolutions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--initial", type=Path, help="weights to go on from, where there is no state")
    parser.add_argument("--run", type=Path, default=_pack.ROOT / "runs" / "train", help="state and weights go here")
    parser.add_argument("--clips", type=Path, default=_pack.ROOT / "runs" / "clips", help="decoded clips go here")
    parser.add_argument("--report-every", type=int, default=4_000, help="samples")
    parser.add_argument("--validation-triplets", type=int, default=40, help="of the list, for the progress line")
    parser.add_argument("--save-minutes", type=float, default=10)
    return parser.parse_args(words)


def main() -> None:
    arguments = parse()
    clips = load_clips(TRAINING, arguments.clips)
    triplets = even_triplets(clips, STRIDES, arguments.clips / "times.json")
    validation = Validation.from_list(arguments.clips, arguments.validation_triplets)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    train(arguments, clips, triplets, validation, stop)


if __name__ == "__main__":
    main()
