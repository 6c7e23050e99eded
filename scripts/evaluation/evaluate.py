"""Compares checkpoints with linear blending, optical-flow warping and ffmpeg's minterpolate on the validation list.

    python scripts/evaluation                                    the bundled weights
    python scripts/evaluation --weights mine=a.safetensors other=b.pth
    python scripts/evaluation --state runs/train/state.pt --write-docs

The first checkpoint is the one that the checks are about. With --write-docs the figures, tables and pictures of the
documentation are written: none of them is typed by hand. Needs the `train` extra of the pack.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _pack
import av
import cv2
import numpy as np
import skimage
import torch
from amt_frame_interpolation.amt import network as amt
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.motion_scale import ScaledAMT
from amt_frame_interpolation.models.digests import sha256
from amt_frame_interpolation.models.loading import load_checkpoint
from documents.marks import insert
from safetensors import safe_open
from training.clips import VALIDATION, Clip, Window, load_clips, read_frames, read_windows

from evaluation import report
from evaluation.checks import Check, even_steps, fine_detail, full_hd, identity, still_background
from evaluation.methods import Blend, FlowWarp, Method, Minterpolate, Pairwise, displacement
from evaluation.metrics import change_psnr, confidence, psnr, ssim

LIST = _pack.ROOT / "scripts" / "evaluation" / "validation.json"
BUNDLED = _pack.ROOT / "models" / "amt-s-open.safetensors"
CARD = BUNDLED.with_suffix(".md")
README = _pack.ROOT / "README.md"
FIGURES = _pack.ROOT / "docs" / "evaluation.json"
PICTURES = _pack.ROOT / "docs" / "pictures"
HALF_PRECISION = "Half precision file against float32 weights, either way"

BLEND, FLOW, MINTERPOLATE = "linear blending", "optical flow (DIS)", "ffmpeg minterpolate"


@dataclass(frozen=True)
class Row:
    """One window and what every method made of it."""

    window: Window
    kind: str
    motion: float
    """Pixels, between the given frames."""
    figures: dict[str, dict[str, float]]
    """By method and metric."""

    @property
    def stride(self) -> int:
        return self.window.frames[1] - self.window.frames[0]


def read_list(clips: Mapping[str, Clip]) -> dict[str, list[tuple[Window, np.ndarray]]]:
    """The windows of each kind with their frames, all pixels verified."""
    kinds = {kind: read_windows(LIST, kind) for kind in ("triplets", "gaps", "times")}
    return {kind: [(w, read_frames(clips[w.clip], w)) for w in windows] for kind, windows in kinds.items()}


def measure(
    kind: str, windows: Sequence[tuple[Window, np.ndarray]], clips: Mapping[str, Clip], methods: Mapping[str, Method]
) -> list[Row]:
    """What every method makes of every window of one kind."""
    rows = []
    for window, truth in windows:
        figures = {name: compare(method(clips[window.clip], window), truth) for name, method in methods.items()}
        rows.append(Row(window, kind, displacement(truth[0], truth[-1]), figures))
        if len(rows) % 13 == 0:
            print(f"{kind}: {len(rows)} of {len(windows)}", file=sys.stderr, flush=True)
    return rows


def compare(hidden: np.ndarray, window: np.ndarray) -> dict[str, float]:
    """The metrics of the hidden frames (float) of a window (uint8, with the given frames at its ends)."""
    truth = window.astype(np.float32) / 255
    figures = {
        "psnr": float(np.mean([psnr(image, wanted) for image, wanted in zip(hidden, truth[1:-1], strict=True)])),
        "ssim": float(np.mean([ssim(image, wanted) for image, wanted in zip(hidden, truth[1:-1], strict=True)])),
    }
    if len(truth) > 3:
        figures["change_psnr"] = change_psnr(np.concatenate((truth[:1], hidden, truth[-1:])), truth)
    return figures


def groups(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Means over all rows, by how far apart frames are, and by quarters of motion."""
    parts: dict[str, list[Row]] = {"all": list(rows)}
    strides = sorted({row.stride for row in rows})
    if len(strides) > 1:
        parts |= {f"{stride} apart": [row for row in rows if row.stride == stride] for stride in strides}
    by_motion = sorted(rows, key=lambda row: row.motion)
    for i in range(4):
        quarter = by_motion[len(rows) * i // 4 : len(rows) * (i + 1) // 4]
        parts[f"motion {quarter[0].motion:.1f} to {quarter[-1].motion:.1f} px"] = quarter
    return {name: means(part) for name, part in parts.items()}


def by_time(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Means for each time that hidden frames were taken at."""
    times = sorted({time for row in rows for time in row.window.times})
    return {str(time): means([row for row in rows if row.window.times == [time]]) for time in times}


def means(rows: Sequence[Row]) -> dict[str, Any]:
    """By method and metric."""
    figures = {
        method: {metric: float(np.mean([row.figures[method][metric] for row in rows])) for metric in metrics}
        for method, metrics in rows[0].figures.items()
    }
    return {"count": len(rows), "figures": figures}


def differences(rows: Sequence[Row], name: str, other: str) -> dict[str, tuple[float, float, float]]:
    """By kind and metric: how far a method is ahead of another, with the interval over clips."""
    by_clip: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for metric, figure in row.figures[name].items():
            by_clip[f"{row.kind} {metric}"][row.window.clip].append(figure - row.figures[other][metric])
    return {metric: confidence(clips) for metric, clips in by_clip.items()}


def float32_weights(state: Path) -> FastAMT:
    """The averaged weights in a state of the training, before they were rounded to half precision."""
    network = amt.AMT(amt.S)
    network.load_state_dict(torch.load(state, map_location="cpu", weights_only=True)["average"])
    return FastAMT(network)


def known_half_precision(weights: Path) -> list[Check]:
    """The comparison with float32 weights that the documents have of this very file: its state may be gone."""
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {"weights": {}}
    if sha256(weights) not in {about["sha256"] for about in known["weights"].values()}:
        return []
    return [
        Check(check["what"], check["value"], check["unit"], most=check["most"])
        for check in known["checks"]
        if check["what"] == HALF_PRECISION
    ]


def identify(path: Path) -> dict[str, str]:
    """A checkpoint's digest, and the record of its training where the file holds one."""
    about = {"file": path.name, "sha256": sha256(path)}
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            about |= file.metadata() or {}
    return about


def hard_cases(rows: Sequence[Row], count: int) -> list[Row]:
    """From the quarter of the triplets with the most motion: of each clip the one with the most, then evenly spaced."""
    hardest = sorted(rows, key=lambda row: row.motion)[len(rows) * 3 // 4 :]
    of_clips = list({row.window.clip: row for row in hardest}.values())
    places = np.unique(np.linspace(0, len(of_clips) - 1, min(count, len(of_clips))).round().astype(int))
    return [of_clips[place] for place in places]


def write_pictures(rows: Sequence[Row], clips: Mapping[str, Clip], methods: Mapping[str, Method]) -> list[str]:
    """Strips of a few hard cases; returns their names."""
    names = []
    for i, row in enumerate(hard_cases(rows, 4), start=1):
        frame0, truth, frame1 = read_frames(clips[row.window.clip], row.window)
        made = {name: method(clips[row.window.clip], row.window)[0] for name, method in methods.items()}
        given = {"frame 0": frame0, "frame 1": frame1}
        images = {name: image.astype(np.float32) / 255 for name, image in given.items()} | made
        images["truth"] = truth.astype(np.float32) / 255
        side = min(192, *frame0.shape[:2])
        names.append(f"hard-{i}.jpg")
        report.save(report.strip(images, report.busiest(frame0, frame1, side), side), PICTURES / names[-1])
    return names


def evaluate(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[Row], dict[str, Clip], dict[str, Method]]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clips = {clip.name: clip for clip in load_clips(VALIDATION, arguments.clips)}
    loaded = {name: FastAMT(load_checkpoint(path).network.to(device)) for name, path in arguments.weights}
    networks = {name: Pairwise(network, device) for name, network in loaded.items()}
    name = next(iter(networks))
    pairwise = {BLEND: Pairwise(Blend()), FLOW: Pairwise(FlowWarp()), **networks}
    methods: dict[str, Method] = dict(pairwise)
    if Minterpolate.available():
        methods = {BLEND: methods[BLEND], MINTERPOLATE: Minterpolate(), **methods}
    else:
        print(f"{MINTERPOLATE} is left out: this build of PyAV has no such filter", file=sys.stderr)
    full_precision = {}
    if arguments.state:
        full_precision["float32"] = Pairwise(float32_weights(arguments.state).to(device), device)

    windows = read_list(clips)
    triplets = measure("triplets", windows["triplets"], clips, methods | full_precision)
    gaps = measure("gaps", windows["gaps"], clips, methods)
    other_times: dict[str, Method] = {BLEND: pairwise[BLEND], FLOW: Pairwise(FlowWarp(any_time=True))}
    for n, network in loaded.items():
        # A network for any time is asked as it is, others both ways.
        if not network.any_time:
            other_times[f"{n}{report.HALVED}"] = networks[n]
        other_times[n] = Pairwise(network if network.any_time else ScaledAMT(network, 1, carried=True), device)
    times = measure("times", windows["times"], clips, other_times)
    ahead = {n: {other: differences([*triplets, *gaps], n, other) for other in methods if other != n} for n in networks}

    # The checks are about what nodes do at any time.
    at_times = {n: method for n, method in other_times.items() if isinstance(method, Pairwise) and n in pairwise}
    one_per_clip = list({window.clip: frames for window, frames in reversed(windows["triplets"])}.values())
    checks = [
        Check("Triplets: PSNR over optical flow", ahead[name][FLOW]["triplets psnr"][0], "dB", least=1.5),
        Check("Triplets: PSNR over linear blending", ahead[name][BLEND]["triplets psnr"][0], "dB", least=3),
        Check("Triplets: SSIM over optical flow", ahead[name][FLOW]["triplets ssim"][0], "SSIM", least=0),
        Check("Triplets: SSIM over linear blending", ahead[name][BLEND]["triplets ssim"][0], "SSIM", least=0),
        identity(at_times[name], [frames[0] for frames in one_per_clip]),
        fine_detail(name, at_times, [frames for _, frames in windows["triplets"]]),
        even_steps(name, at_times),
        still_background(name, methods | at_times),
        *full_hd(name, at_times, one_per_clip),
    ]
    if full_precision:
        lost = np.mean([row.figures["float32"]["psnr"] - row.figures[name]["psnr"] for row in triplets])
        checks.append(Check(HALF_PRECISION, abs(float(lost)), "dB", most=0.05))
    else:
        checks += known_half_precision(arguments.weights[0][1])
    results = {
        "list": {"version": json.loads(LIST.read_text())["version"], "clips": len(one_per_clip)},
        "software": {module.__name__: module.__version__ for module in (torch, cv2, skimage, av)},
        "weights": {n: identify(path) for n, path in arguments.weights},
        "methods": list(methods),
        "triplets": groups(triplets),
        "gaps": groups(gaps),
        "times": by_time(times),
        "differences": ahead,
        "checks": [asdict(check) | {"met": check.met} for check in checks],
    }
    return results, triplets, clips, {n: methods[n] for n in (BLEND, FLOW, name)}


def write_docs(results: dict[str, Any], pictures: Sequence[str]) -> None:
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(results, indent=1) + "\n")
    blocks = {name: getattr(report, name)(results) for name in ("summary", "details", "times", "checks", "training")}
    for path in (README, CARD):
        folder = "../docs/pictures" if path == CARD else "docs/pictures"
        shown = "\n\n".join(f"![Inputs, other methods, AMT-S and the truth]({folder}/{name})" for name in pictures)
        texts = blocks | {"pictures": shown}
        written = [name for name, text in texts.items() if insert(path, f"evaluation: {name}", text)]
        print(f"{path.name}: {', '.join(written) or 'no marks of ours in it'}", file=sys.stderr)


def named_path(text: str) -> tuple[str, Path]:
    name, _, path = text.rpartition("=")
    return name or Path(path).stem, Path(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--weights", type=named_path, nargs="+", default=[("AMT-S of this pack", BUNDLED)], metavar="NAME=PATH"
    )
    parser.add_argument(
        "--state", type=Path, help="state of the training that the first weights are of: compares precisions"
    )
    parser.add_argument("--clips", type=Path, default=_pack.ROOT / "runs" / "clips", help="decoded clips go here")
    parser.add_argument("--json", type=Path, help="writes the figures here")
    parser.add_argument(
        "--write-docs", action="store_true", help="writes figures, tables and pictures into the documentation"
    )
    arguments = parser.parse_args()
    if arguments.write_docs and "samples" not in identify(arguments.weights[0][1]):
        parser.error(f"{arguments.weights[0][1]} has no record of its training in it: export it with scripts/training")
    results, triplets, clips, methods = evaluate(arguments)
    print(
        "\n\n".join((report.summary(results), report.details(results), report.times(results), report.checks(results)))
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.write_docs:
        write_docs(results, write_pictures(triplets, clips, methods))


if __name__ == "__main__":
    main()
