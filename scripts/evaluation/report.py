"""How the figures are told: tables in Markdown, and strips of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from documents.tiles import tiles
from PIL import Image

HALVED = ", halving"
"""Behind the name of a network for the middle that reaches other times by halving."""
MOST_BYTES = 150_000
"""Of one picture."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary(results: dict[str, Any]) -> str:
    """All methods over the whole list."""
    triplets, gaps = results["triplets"]["all"], results["gaps"]["all"]
    rows = []
    for name in results["methods"]:
        t, g = triplets["figures"][name], gaps["figures"][name]
        figures = (t["psnr"], t["ssim"], g["psnr"], g["ssim"], g["change_psnr"])
        rows.append([name, *(f"{x:.{digits}f}" for x, digits in zip(figures, (2, 4, 2, 4, 2), strict=True))])
    head = ("", "Triplets: PSNR, dB", "SSIM", "4-frame gaps: PSNR, dB", "SSIM", "PSNR of changes, dB")
    about = results["list"]
    return (
        table(head, rows) + f"\n\nMeans over {triplets['count']} triplets (one frame hidden) and {gaps['count']} gaps "
        f"(three hidden, found in two passes) of {about['clips']} clips; `scripts/evaluation/validation.json`, version "
        f"{about['version']}. PSNR of changes compares each frame's difference to the next: flicker and judder."
    )


def details(results: dict[str, Any]) -> str:
    """By distance, by motion, and the differences with their intervals."""
    names = results["methods"]
    parts = []
    for kind, title in (("triplets", "Triplets"), ("gaps", "4-frame gaps")):
        rows = [
            [group, str(content["count"])]
            + [f"{content['figures'][name]['psnr']:.2f} / {content['figures'][name]['ssim']:.4f}" for name in names]
            for group, content in results[kind].items()
        ]
        parts.append(table((f"{title}: PSNR, dB / SSIM", "count", *names), rows))
    rows = [
        [
            f"{name} over {other}",
            *(
                f"{d:+.{k}f} ({low:+.{k}f} to {high:+.{k}f})"
                for (d, low, high), k in zip(figures.values(), (2, 4, 2, 4, 2), strict=True)
            ),
        ]
        for name, others in results["differences"].items()
        for other, figures in others.items()
    ]
    head = (
        "Difference (95 % interval over clips)",
        "Triplets: PSNR, dB",
        "SSIM",
        "Gaps: PSNR, dB",
        "SSIM",
        "PSNR of changes, dB",
    )
    parts.append(table(head, rows))
    parts.append(
        "Rows of motion: 90 % of the pixels move by less than this between the given frames. Each row has a quarter "
        "of the list."
    )
    return "\n\n".join(parts)


def times(results: dict[str, Any]) -> str:
    """Hidden frames that are not in the middle."""
    rows = [
        [f"t = {time}", str(content["count"])]
        + [f"{figures['psnr']:.2f} / {figures['ssim']:.4f}" for figures in content["figures"].values()]
        for time, content in results["times"].items()
    ]
    methods = next(iter(results["times"].values()))["figures"]
    return table(("Other times: PSNR, dB / SSIM", "count", *methods), rows) + (
        "\n\nOf each frame that is hidden here, the time between the given ones was measured by optical flow. "
        "Optical flow (DIS) is projected to that time; a network's motion in the middle is carried to it, or middles "
        "are halved until it is met to within a 32nd."
    )


def checks(results: dict[str, Any]) -> str:
    rows = []
    for check in results["checks"]:
        digits = 4 if check["unit"] == "SSIM" else 2
        bars = {"at least": check["least"], "at most": check["most"]}
        bar = ", ".join(f"{words} {value:g}" for words, value in bars.items() if value is not None)
        beside = ", ".join(f"{name} {value:.{digits}f}" for name, value in check["beside"].items())
        rows.append(
            [
                check["what"],
                f"{check['value']:.{digits}f} {check['unit']}",
                bar,
                "" if not bar else "yes" if check["met"] else "**no**",
                beside,
            ]
        )
    return table(("Check", "Figure", "Bar", "Met", "Others"), rows)


def training(results: dict[str, Any]) -> str:
    about = next(iter(results["weights"].values()))
    return (
        f"{int(about['samples']):,} samples in {float(about['hours']):.1f} hours of training; "
        f"SHA-256 `{about['sha256']}`.".replace(",", " ")
    )


def strip(images: dict[str, np.ndarray], place: tuple[int, int], side: int) -> Image.Image:
    """The same square of several images (float [h, w, 3], 0..1) in a row, each with its name."""
    squares = (slice(place[0], place[0] + side), slice(place[1], place[1] + side))
    crops = {name: (image[squares] * 255).round().clip(0, 255).astype(np.uint8) for name, image in images.items()}
    return tiles([(name, Image.fromarray(crop)) for name, crop in crops.items()], (side, side))


def busiest(frame0: np.ndarray, frame1: np.ndarray, side: int) -> tuple[int, int]:
    """Top and left of the square in which two frames (uint8) differ most."""
    change = np.abs(frame0.astype(np.float32) - frame1).sum(axis=-1)
    total = np.pad(change.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(top), int(left)


def save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=88, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, more than {MOST_BYTES}: show a smaller square")
