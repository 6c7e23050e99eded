"""Judges the scales at which motion is found on the list of scenes, at sizes that people work at.

    python scripts/evaluation scenes                  the bundled weights, some half an hour on two cores
    python scripts/evaluation scenes --write-docs     into the model card and the README

Each scale is applied to all scenes, and `auto` chooses one for each; beside them are the scale that is best for each
scene, known only from the truth, and the other methods.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import _pack
import numpy as np
import torch
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.motion_scale import SCALES, ScaledAMT
from amt_frame_interpolation.models.loading import load_checkpoint
from documents.marks import insert

from evaluation import report
from evaluation.evaluate import BLEND, BUNDLED, CARD, FLOW, MINTERPOLATE, PICTURES, README
from evaluation.methods import Blend, FlowWarp, Minterpolate, Pairwise
from evaluation.metrics import gmsd, psnr, ssim
from evaluation.scene_list import ROWS, Listed, Shot, read_list, read_pictures, read_shot

LIST = _pack.ROOT / "scripts" / "evaluation" / "scenes.json"
FIGURES = _pack.ROOT / "docs" / "scenes.json"
AUTO, BEST = "auto", "best scale"
NAMES = {scale: "full size" if scale == 1 else f"1/{scale}" for scale in SCALES}
SQUARE = 256
"""Pixels of the sides of what pictures show."""
LARGE = 24
"""Pixels. Above this, motion is large."""


@dataclass(frozen=True)
class Row:
    scene: Listed
    figures: dict[str, dict[str, float]]
    """By method and metric."""

    @property
    def best(self) -> str:
        """The scale with the highest PSNR."""
        return max(NAMES.values(), key=lambda name: self.figures[name]["psnr"])


@cache
def methods(weights: Path) -> dict[str, Pairwise]:
    network = FastAMT(load_checkpoint(weights).network)
    scaled = {name: Pairwise(ScaledAMT(network, scale)) for scale, name in NAMES.items()}
    return scaled | {
        AUTO: Pairwise(ScaledAMT(network)),
        FLOW: Pairwise(FlowWarp()),
        BLEND: Pairwise(Blend()),
    }


def middles(shot: Shot, weights: Path) -> dict[str, np.ndarray]:
    """The middle frame by each method, float32 [h, w, 3]."""
    made = {name: method.between(*shot.pair, 1)[0] for name, method in methods(weights).items()}
    if Minterpolate.available():
        around = range(-Minterpolate.context, Minterpolate.context + 2)
        made[MINTERPOLATE] = Minterpolate().within([shot.given(time) for time in around], 2)[0]
    return made


def measure(listed: Listed, weights: Path) -> Row:
    with torch.inference_mode():
        shot = read_shot(listed, _pictures())
        truth = shot.truth.astype(np.float32) / 255
        metrics = {"psnr": psnr, "ssim": ssim, "gmsd": gmsd}
        made = middles(shot, weights)
    return Row(listed, {name: {key: f(image, truth) for key, f in metrics.items()} for name, image in made.items()})


_folder = Path()


def _prepare(folder: Path) -> None:
    global _folder
    _folder = folder
    torch.set_num_threads(1)


@cache
def _pictures() -> dict[str, np.ndarray]:
    return read_pictures(_folder)


def _measure(task: tuple[Listed, Path]) -> Row:
    return measure(*task)


def means(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """By method and metric, also of the best scale for each scene."""
    figures = [row.figures | {BEST: row.figures[row.best]} for row in rows]
    return {
        name: {metric: float(np.mean([f[name][metric] for f in figures])) for metric in figures[0][name]}
        for name in figures[0]
    }


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    by_motion = {
        f"{least} to {most} px": [row for row in rows if row.scene.row == (least, most)] for least, most in ROWS
    }
    sizes = sorted({row.scene.size for row in rows})
    by_size = {
        f"{width} x {height}": [row for row in rows if row.scene.size == (height, width)] for height, width in sizes
    }
    return {name: part for name, part in (by_motion | by_size | {"all": list(rows)}).items() if part}


def checks(rows: Sequence[Row]) -> Iterable[tuple[str, float, float, bool]]:
    """What is asked of `auto`: what, its figure in dB, the bar, and whether it is met."""

    def ahead(part: Sequence[Row], other: str) -> float:
        figures = means(part)
        return figures[AUTO]["psnr"] - figures[other]["psnr"]

    motions = [[row for row in rows if row.scene.row == bounds] for bounds in ROWS]
    motions = [part for part in motions if part]
    large = [row for row in rows if row.scene.motion >= LARGE]
    for what, figure, bar in (
        ("over the best scale for each scene, all scenes", ahead(rows, BEST), -0.25),
        ("over the best scale for each scene, in the worst row of motion", min(ahead(p, BEST) for p in motions), -1),
        (f"over the full size, motion above {LARGE} pixels", ahead(large, NAMES[1]) if large else float("nan"), 3),
        ("over optical flow (DIS), in the worst row of motion", min(ahead(part, FLOW) for part in motions), 0),
    ):
        yield what, figure, bar, figure >= bar


def table(rows: Sequence[Row]) -> str:
    names = list(means(rows))
    lines = [
        [name, str(len(part))] + [f"{f['psnr']:.2f} / {f['ssim']:.3f} / {f['gmsd']:.3f}" for f in means(part).values()]
        for name, part in groups(rows).items()
    ]
    asked = [
        [what, f"{figure:.2f} dB", f"at least {bar:g}", "yes" if met else "**no**"]
        for what, figure, bar, met in checks(rows)
    ]
    return (
        report.table(("Motion", "scenes", *names), lines)
        + "\n\nPSNR in dB / SSIM / GMSD, the means over scenes.\n\n"
        + report.table(("`auto`: PSNR", "Figure", "Bar", "Met"), asked)
    )


def summary(rows: Sequence[Row]) -> str:
    names = (BLEND, MINTERPOLATE, FLOW, NAMES[1], AUTO)
    shown = [name for name in names if name in rows[0].figures]
    by_group = {name: means(part) for name, part in groups(rows).items()}
    lines = [[name, *(f"{figures[method]['psnr']:.1f}" for method in shown)] for name, figures in by_group.items()]
    titles = {NAMES[1]: "AMT-S, motion found in full", AUTO: "AMT-S, `auto`"}
    return report.table(("PSNR, dB", *(titles.get(name, name) for name in shown)), lines)


def pictured(rows: Sequence[Row]) -> list[Row]:
    """The scene of 1280 x 720 in the middle by PSNR in three rows of motion, and the worst of the last row."""
    chosen = []
    for bounds in (ROWS[2], ROWS[4], ROWS[5], ROWS[-1]):
        part = [row for row in rows if row.scene.row == bounds and row.scene.size == (720, 1280)]
        part.sort(key=lambda row: row.figures[AUTO]["psnr"])
        if part:
            chosen.append(part[0] if bounds == ROWS[-1] else part[len(part) // 2])
    return chosen


def write_pictures(rows: Sequence[Row], weights: Path) -> list[tuple[str, str]]:
    """Strips; returns their names and what they show."""
    shown = []
    for i, row in enumerate(pictured(rows), start=1):
        shot = read_shot(row.scene, _pictures())
        with torch.inference_mode():
            made = middles(shot, weights)
        frame0, frame1 = (frame.astype(np.float32) / 255 for frame in shot.pair)
        images = {"frame 0": frame0, "frame 1": frame1} | {n: made[n] for n in (FLOW, NAMES[1], AUTO)}
        images["truth"] = shot.truth.astype(np.float32) / 255
        name = f"scene-{i}.jpg"
        strip = report.strip(images, report.busiest(*shot.pair, SQUARE), SQUARE)
        report.save(strip, PICTURES / name)
        shown.append((name, f"Motion of {row.scene.motion:.0f} pixels, {row.figures[AUTO]['psnr']:.1f} dB"))
    return shown


def write_docs(rows: Sequence[Row], weights: Path) -> None:
    content = {"list": json.loads(LIST.read_text())["version"], "scenes": [_as_json(row) for row in rows]}
    FIGURES.write_text(json.dumps(content, indent=1) + "\n")
    pictures = write_pictures(rows, weights)
    for path in (README, CARD):
        folder = "../docs/pictures" if path == CARD else "docs/pictures"
        texts = {
            "scenes": table(rows),
            "scenes summary": summary(rows),
            "scene pictures": "\n\n".join(f"{what}:\n\n![{what}]({folder}/{name})" for name, what in pictures),
        }
        written = [name for name, text in texts.items() if insert(path, f"evaluation: {name}", text)]
        print(f"{path.name}: {', '.join(written) or 'no marks of ours in it'}", file=sys.stderr)


def _as_json(row: Row) -> Mapping[str, Any]:
    scene = {key: value for key, value in asdict(row.scene).items() if key in ("seed", "size", "kind", "motion")}
    rounded = {name: {key: round(value, 4) for key, value in f.items()} for name, f in row.figures.items()}
    return scene | {"figures": rounded}


def main() -> None:
    parser = argparse.ArgumentParser(
        "evaluation scenes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=BUNDLED)
    parser.add_argument("--clips", type=Path, default=_pack.ROOT / "runs" / "clips", help="the package goes here")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write-docs", action="store_true", help="figures, tables and pictures, into the documents")
    arguments = parser.parse_args()
    _prepare(arguments.clips)
    listed = read_list(LIST, _pictures())
    rows: list[Row] = []
    with multiprocessing.get_context("spawn").Pool(arguments.processes, _prepare, (arguments.clips,)) as pool:
        for row in pool.imap_unordered(_measure, [(scene, arguments.weights) for scene in listed]):
            rows.append(row)
            figures = ", ".join(f"{name} {f['psnr']:.2f}" for name, f in row.figures.items())
            print(f"{len(rows)} of {len(listed)}: {row.scene.motion} px, {figures}", file=sys.stderr, flush=True)
    rows.sort(key=lambda row: row.scene.motion)
    print(table(rows))
    if arguments.write_docs:
        write_docs(rows, arguments.weights)


if __name__ == "__main__":
    main()
