"""Trains AMT-S on clips of generated video. Run it again to go on from where it stopped (Ctrl-C saves).

    python scripts/training --samples 400000
    python scripts/training --samples 400000 --initial models/amt-s-open.safetensors    more hours for those weights
    python scripts/training --hours 12 --initial models/amt-s-open.safetensors          12 hours in all

The network is asked for the motion in the middle alone. It is carried to the time of a hidden frame, as in use
(amt/any_time.py), so that hidden frames of all times teach it.

The same command uses a GPU where there is one. The learning rate stays at its peak and falls along a cosine over
the last part of the training (--fall); the state from before the fall is kept, and with more samples or hours the
training goes on from that one, so that more hours add on.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import _pack
import numpy as np
import torch
from amt_frame_interpolation.amt import network as amt
from amt_frame_interpolation.amt.any_time import carry
from amt_frame_interpolation.amt.network.correlation import CorrelationVolume
from evaluation.metrics import psnr
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.clips import TRAINING, VALIDATION, Clip, load_clips, read_frames, read_windows
from training.flow_guide import guide_loss
from training.losses import census, charbonnier
from training.optimizer import MuonAndAdamW
from training.samples import Samples

VALIDATION_LIST = _pack.ROOT / "scripts" / "evaluation" / "validation.json"
WEIGHTS = "amt-s-open.safetensors"

LAST_RATE = 0.005
"""The learning rate at the end, of its peak."""
WARM_UP = 30
"""Steps over which the rate rises to its peak."""
GUIDE_WEIGHT = 0.3
"""Of the coarse flows' distance to the guide, a pixel, beside the losses of pictures."""


@dataclass(frozen=True)
class Options:
    """How to train; the command line has the same names."""

    run: Path = _pack.ROOT / "runs" / "train"
    """State and weights go here."""
    initial: Path | None = None
    """Weights to go on from, where there is no state."""
    samples: int = 400_000
    """Triplets to see in all."""
    hours: float = math.inf
    """To train in all, if that is sooner."""
    rate: float = 4e-4
    """The learning rate at its peak."""
    fall: float = 0.2
    """Share of the training over which the learning rate falls."""
    # Trained on crops of 128 alone, a network finds less in the same pixels the more of the frame it is shown.
    crops: tuple[tuple[int, int], ...] = ((256, 256), (192, 320))
    """Heights and widths, multiples of 16 and at least 128; each batch has one of them."""
    batch: int = 2
    precision: str = "fp32"
    """Of the convolutions: fp32 or bf16."""
    frozen_encoders: bool = False
    """Leaves the encoders as they are: a quarter faster."""
    seed: int = 0
    report_every: int = 4_000
    """Samples."""
    save_minutes: float = 10


def rate(share: float, steps: int, options: Options) -> float:
    """The learning rate when a share of the training is done, after so many steps since its start."""
    fallen = max(0.0, (share - (1 - options.fall)) / options.fall)
    left = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * min(fallen, 1))) / 2
    return options.rate * left * min(1, (steps + 1) / WARM_UP)


class Validation:
    """Hidden frames that the progress line is about, whole frames."""

    def __init__(self, windows: Sequence[tuple[Fraction, np.ndarray]]) -> None:
        """windows: when the hidden frame was taken; the three frames, uint8 [3, h, w, 3]."""
        self._windows = windows

    @classmethod
    def from_list(cls, folder: Path, most: int) -> Validation:
        """About `most` windows of each time of the validation list, spread over it."""
        clips = {clip.name: clip for clip in load_clips(VALIDATION, folder)}
        by_time = defaultdict(list)
        for window in read_windows(VALIDATION_LIST, "triplets") + read_windows(VALIDATION_LIST, "times"):
            by_time[window.times[0]].append(window)
        windows = []
        for time_, listed in by_time.items():
            # Not by a whole step, which takes the same window of every clip: the first ones have 4 dB more than all.
            chosen = [listed[i * len(listed) // most] for i in range(min(most, len(listed)))]
            windows += [(time_, read_frames(clips[window.clip], window)) for window in chosen]
        return cls(windows)

    @torch.inference_mode()
    def psnr(self, network: amt.AMT, device: torch.device) -> Mapping[Fraction, float]:
        """Mean over the windows of each time, dB."""
        figures = defaultdict(list)
        for at, window in self._windows:
            frames = torch.from_numpy(np.ascontiguousarray(window)).to(device).permute(0, 3, 1, 2).float() / 255
            frame0, hidden, frame1 = frames[:, None]
            padding = network.padding
            padded0, padded1 = padding.pad(frame0), padding.pad(frame1)
            motion = network.motion(padded0, padded1, torch.tensor([0.5], device=device))
            made = network.merge(padded0, padded1, carry(motion, torch.tensor([float(at)])))
            figures[at].append(psnr(padding.crop(made, (hidden.shape[2], hidden.shape[3])), hidden))
        return {at: float(np.mean(values)) for at, values in sorted(figures.items())}


@dataclass
class State:
    """Everything that the training goes on from."""

    network: amt.AMT
    average: amt.AMT
    """Exponential moving average of the weights: single ones scatter by tenths of a decibel."""
    optimizer: MuonAndAdamW
    seen: int = 0
    hours: float = 0.0
    """Of these weights, with the training before."""
    steps: int = 0
    """Of this optimizer."""

    def share(self, options: Options) -> float:
        """How much of the training is done."""
        return max(self.seen / options.samples, self.hours / options.hours)

    def save(self, path: Path) -> None:
        content = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seen": self.seen,
            "hours": self.hours,
            "steps": self.steps,
        }
        part = path.with_suffix(".part")
        torch.save(content, part)
        os.replace(part, path)

    def load(self, path: Path) -> None:
        content = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.seen, self.hours, self.steps = content["seen"], content["hours"], content["steps"]

    def update_average(self) -> None:
        # About the last tenth of all steps, and the last thousand at the most.
        keep = min(0.999, self.steps / (10 + self.steps))
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


def train(options: Options, clips: Sequence[Clip], validation: Validation, stop: threading.Event | None = None) -> None:
    """Trains until all samples are seen, the hours are over or `stop` is set, then saves."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(options.seed)
    state = _begin(options, device)
    latest, before_fall = options.run / "state.pt", options.run / "before_fall.pt"
    # A new seed after every start: the same one would show the same samples again.
    samples = Samples(clips, options.crops, seed=options.seed + state.seen)
    print(f"{len(clips)} clips, {device}, from {state.seen} samples and {state.hours:.2f} hours on", flush=True)

    half = torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16")
    since_report, losses, saved = time.time(), [], time.time()
    while (share := state.share(options)) < 1 and not (stop and stop.is_set()):
        started = time.time()
        if share >= 1 - options.fall and not before_fall.exists():
            state.save(before_fall)
        batch = samples.batch(options.batch).to(device)
        frame0, hidden, frame1 = batch.frames.unbind(1)
        with half:
            motion = state.network.motion(frame0, frame1, torch.tensor([0.5], device=device))
            made = state.network.merge(frame0, frame1, carry(motion, batch.times))
        loss = charbonnier(made - hidden) + census(made, hidden)
        (loss + GUIDE_WEIGHT * guide_loss(motion.coarse_flows, batch)).backward()
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
        state.optimizer.step(rate(share, state.steps, options))
        state.seen += len(batch.times)
        state.steps += 1
        state.update_average()
        losses.append(loss.detach())
        state.hours += (time.time() - started) / 3600

        if len(losses) * options.batch >= options.report_every or state.share(options) >= 1:
            figures = validation.psnr(state.average, device)
            print(
                f"{state.seen} samples, {state.hours:.2f} h, loss {float(torch.stack(losses).mean()):.4f}, "
                f"validation {', '.join(f'{figure:.2f} dB at {at}' for at, figure in figures.items())}, "
                f"rate {rate(share, state.steps, options):.1e}, "
                f"{len(losses) * options.batch / (time.time() - since_report):.2f} samples/s",
                flush=True,
            )
            since_report, losses = time.time(), []
        if time.time() - saved > 60 * options.save_minutes:
            state.save(latest)
            export(state, options.run / WEIGHTS)
            saved = time.time()
    state.save(latest)
    # Also where there was nothing to do: this is how weights are written from a state once more.
    export(state, options.run / WEIGHTS)


def _begin(options: Options, device: torch.device) -> State:
    """The state to go on from."""
    network = amt.AMT(amt.S, correlation=FullPrecisionVolume)
    initialise(network)
    about = load_weights(network, options.initial) if options.initial else {}
    if options.frozen_encoders:
        network.feat_encoder.requires_grad_(False)
        network.encoder.requires_grad_(False)
    # Channels last: 1.3 times the samples a second with bf16 convolutions on a CPU that has them, but with fp32 ones
    # their gradients take twice as long.
    half = options.precision == "bf16"
    network = network.to(device, memory_format=torch.channels_last if half else torch.contiguous_format)
    state = State(network, copy.deepcopy(network), MuonAndAdamW(network, options.rate))
    state.seen, state.hours = int(about.get("samples", 0)), float(about.get("hours", 0))
    options.run.mkdir(parents=True, exist_ok=True)
    latest, before_fall = options.run / "state.pt", options.run / "before_fall.pt"
    if latest.exists():
        state.load(latest)
        if before_fall.exists():
            earlier = torch.load(before_fall, map_location="cpu", weights_only=True)
            if max(earlier["seen"] / options.samples, earlier["hours"] / options.hours) < 1 - options.fall:
                state.load(before_fall)
                before_fall.unlink()
    return state


def export(state: State, path: Path) -> None:
    """Writes the averaged weights in half precision, with the record of their training."""
    part = path.with_suffix(".part")
    weights = {name: value.half().cpu().contiguous() for name, value in state.average.state_dict().items()}
    about = {"made_by": "amt-frame-interpolation", "times": "carried"}
    save_file(weights, part, about | {"samples": str(state.seen), "hours": f"{state.hours:.2f}"})
    os.replace(part, path)


def load_weights(network: amt.AMT, path: Path) -> dict[str, str]:
    """Loads what `export` wrote; returns the record of its training, which goes on from there."""
    network.load_state_dict(load_file(path))
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def parse(words: Sequence[str] | None = None) -> tuple[Options, argparse.Namespace]:
    """What to train, and where the clips and how long the progress line's list are."""
    usual = Options()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=usual.samples, help="triplets to see in all")
    parser.add_argument("--hours", type=float, default=usual.hours, help="to train in all, if that is sooner")
    parser.add_argument("--rate", type=float, default=usual.rate, help="the learning rate at its peak")
    parser.add_argument("--fall", type=float, default=usual.fall, help="share of the training over which it falls")
    parser.add_argument("--crops", type=_shape, nargs="+", default=usual.crops, metavar="HEIGHTxWIDTH")
    parser.add_argument("--batch", type=int, default=usual.batch)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=usual.precision, help="of the convolutions")
    parser.add_argument("--frozen-encoders", action="store_true", help="leave them as they are: a quarter faster")
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--initial", type=Path, help="weights to go on from, where there is no state")
    parser.add_argument("--run", type=Path, default=usual.run, help="state and weights go here")
    parser.add_argument("--clips", type=Path, default=_pack.ROOT / "runs" / "clips", help="decoded clips go here")
    parser.add_argument("--report-every", type=int, default=usual.report_every, help="samples")
    parser.add_argument("--validation", type=int, default=20, help="windows of each time, for the progress line")
    parser.add_argument("--save-minutes", type=float, default=usual.save_minutes)
    arguments = parser.parse_args(words)
    chosen: dict[str, Any] = {field.name: getattr(arguments, field.name) for field in fields(Options)}
    chosen["crops"] = tuple(arguments.crops)
    return Options(**chosen), arguments


def _shape(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def main() -> None:
    options, arguments = parse()
    clips = load_clips(TRAINING, arguments.clips)
    validation = Validation.from_list(arguments.clips, arguments.validation)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    train(options, clips, validation, stop)


if __name__ == "__main__":
    main()
