"""Makes the pictures of the help pages (web/docs/images), and the moving one of the README, with the bundled weights.

  python scripts/documents pictures

Needs torch, PyAV and Pillow, and no ComfyUI.
"""

from __future__ import annotations

import av
import numpy as np
import torch
from _pack import ROOT
from amt_frame_interpolation.amt.engine import Engine
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.flow_colours import flow_to_colours, motion_pictures
from amt_frame_interpolation.amt.network import AMT, Motion
from amt_frame_interpolation.amt.timeline import halvings
from amt_frame_interpolation.models.catalogue import BUNDLED, BUNDLED_FOLDER
from amt_frame_interpolation.models.loading import load_checkpoint
from PIL import Image
from torch import Tensor

from documents.tiles import BACKGROUND, tiles

TARGET = ROOT / "web" / "docs" / "images"
MOVING = ROOT / "docs" / "pictures" / "before_after.webp"
SIDE = 200


def read(name: str) -> Tensor:
    """[h, w, 3], 0..1."""
    return torch.from_numpy(np.array(Image.open(ROOT / "media" / name).convert("RGB"))).float() / 255


def row(frames: list[tuple[str, Tensor]], side: int = SIDE) -> Image.Image:
    """Pictures [h, w, 3] beside each other, each with its label."""
    pixels = [(label, (frame.clamp(0, 1) * 255).round().byte().numpy()) for label, frame in frames]
    return tiles([(label, Image.fromarray(picture)) for label, picture in pixels], (side, side))


def wheel() -> Tensor:
    """The colours of all flows of up to a length: [h, w, 3]."""
    steps = torch.linspace(-1, 1, 2 * SIDE)
    flow = torch.stack(torch.meshgrid(steps, steps, indexing="xy"))
    inside = torch.hypot(*flow) <= 1
    background = torch.tensor(BACKGROUND)[:, None, None] / 255
    return torch.where(inside, flow_to_colours(flow, 1), background).movedim(0, -1)


def motion(network: AMT, frame0: Tensor, frame1: Tensor) -> Motion:
    pair = network.padding.pad(torch.stack((frame0, frame1)).movedim(-1, 1))
    found = network.motion(pair[:1], pair[1:], torch.tensor([0.5]))
    return found.map(lambda part: network.padding.crop(part, frame0.shape[:2]).mean(dim=1, keepdim=True))


def save(picture: Image.Image, name: str) -> None:
    picture.save(TARGET / name, quality=85, optimize=True)
    print((TARGET / name).relative_to(ROOT))


def moving_picture(engine: Engine) -> None:
    """Every second frame of the demo clip, 6 a second, beside what two passes make of them, 24 a second."""
    with av.open(str(ROOT / "media" / "amt_demo_clip.mp4")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    given = [torch.from_numpy(frame).float() / 255 for frame in decoded[::2]]
    made = engine.run(given, halvings(2))
    first, *others = (
        row([("6 frames a second", given[index // 4]), ("24 frames a second", frame)], side=340)
        for index, frame in enumerate(made)
    )
    first.save(MOVING, save_all=True, append_images=others, duration=42, loop=0, quality=55, method=6)
    print(MOVING.relative_to(ROOT))


@torch.inference_mode()
def main() -> None:
    network = FastAMT(load_checkpoint(BUNDLED_FOLDER / BUNDLED.name).network)
    first, last = read("amt_demo_a.png"), read("amt_demo_b.png")
    engine = Engine(network, torch.device("cpu"))
    frames = list(engine.run([first, last], halvings(2)))
    labels = ("given", "made", "made", "made", "given")
    save(row(list(zip(labels, frames, strict=True))), "interpolation.jpg")
    shown = motion_pictures(motion(network, first, last))
    names = ("flow0", "flow1", "mask", "residual")
    save(row([*((name, getattr(shown, name)[0]) for name in names), ("colours of the flow", wheel())]), "motion.jpg")
    moving_picture(engine)
