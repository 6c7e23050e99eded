"""The list of scenes: pictures that move in layers along known paths, at sizes that people work at.

The middle frame of a scene is known exactly, whatever moves how far. Pictures are stills of an MIT-licensed package
that nothing was trained on.

    python -m evaluation.scene_list LIST.json FOLDER    (in scripts/) chooses the list; the package is kept in FOLDER
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import PIL
from PIL import Image
from training.clips import OtherPixelsError, digest, wheel_of
from training.scenes import Layer, Scene, cut_out, random_path

PACKAGE = "comfyui-workflow-templates-media-image==0.3.160"
BACKGROUNDS = (
    "flux_canny_model_example-1",
    "flux_fill_inpaint_example-1",
    "flux_schnell-1",
    "sd3.5_large_blur-1",
    "sd3.5_large_canny_controlnet_example-1",
    "sd3.5_large_depth-1",
    "sd3.5_simple_example-1",
    "sdxl_refiner_prompt_example-1",
    "sdxl_revision_text_prompts-1",
    "sdxl_simple_example-1",
    "default-1",
    "hidream_i1_dev-1",
    "hidream_i1_fast-1",
    "hidream_i1_full-1",
    "image_chrono_edit_14B-2",
    "sdxlturbo_example-1",
)
"""The photographs and paintings of 500 to 1024 pixels; the other large ones are drawings of edges and depths."""
CUT_OUTS = 400
"""Pixels of the sides of the pictures that cut-outs are made of."""

ROWS = ((2, 4), (4, 8), (8, 16), (16, 24), (24, 48), (48, 96), (96, 160), (160, 256))
"""Of motion between the given frames, pixels: least and most."""
HD, FULL_HD = (720, 1280), (1080, 1920)
SHAPES = (
    (HD, "camera"),
    (HD, "object"),
    (HD, "both"),
    (HD, "camera"),
    (HD, "object"),
    (HD, "camera"),
    (FULL_HD, "camera"),
    (FULL_HD, "object"),
)
"""The scenes of each row: (height, width), and what moves. "camera": everything, what is nearer faster; "object":
things over a background that hardly moves; "both": everything, each thing its own way."""
MOVING = 0.95
"""Motion is the way that this share of the pixels stays below."""


@dataclass(frozen=True)
class Listed:
    """What a scene is made from."""

    seed: int
    size: tuple[int, int]
    """Height and width."""
    kind: str
    pictures: tuple[str, ...]
    """The background, and what is cut out."""
    way: float
    """Pixels that paths are asked to go."""
    motion: float = 0
    """Pixels that MOVING of the pixels stay below, between the given frames."""
    digest: str = ""
    """Of frame 0, the middle and frame 1."""

    @property
    def row(self) -> tuple[int, int]:
        return next(row for row in ROWS if row[0] <= self.motion < row[1])


class Shot:
    """A scene as it is given to what is judged: with noise, and compressed. The truth has neither.

    Nobody asks an interpolator for the noise of a frame that it has not seen, or for the faults of its compression; in
    the truth they would hide differences between methods under the same error for all.
    """

    def __init__(self, listed: Listed, pictures: Mapping[str, np.ndarray]) -> None:
        """pictures: uint8 [h, w, 3], by name."""
        self.listed = listed
        self.scene = make_scene(listed, pictures)

    @cached_property
    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        """Both given frames, uint8 [h, w, 3]."""
        return self.given(0), self.given(1)

    @cached_property
    def truth(self) -> np.ndarray:
        """The middle, uint8 [h, w, 3]."""
        return self.scene.frame(0.5)

    @property
    def digest(self) -> str:
        return digest(np.stack((self.pair[0], self.truth, self.pair[1])))

    def given(self, time: int) -> np.ndarray:
        """The frame at a whole time, before the pair or after it as well, uint8 [h, w, 3]."""
        treatment = np.random.default_rng((self.listed.seed, 1))
        noise = max(0.0, float(treatment.uniform(-2, 2)))  # none in half of the scenes
        quality = int(treatment.integers(75, 106))  # of JPEG; above 95: none
        frame = self.scene.frame(time)
        if noise:
            grain = np.random.default_rng((self.listed.seed, 2, 100 + time)).normal(0, noise, frame.shape)
            frame = (frame + grain).round().clip(0, 255).astype(np.uint8)
        if quality > 95:
            return frame
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))


def make_scene(listed: Listed, pictures: Mapping[str, np.ndarray]) -> Scene:
    random = np.random.default_rng(listed.seed)
    size, way = listed.size, listed.way
    middle = (size[1] / 2, size[0] / 2)
    camera = int(random.integers(2**31))
    slow = {"camera": 1.0, "object": random.uniform(0, 0.1), "both": random.uniform(0.3, 1)}[listed.kind]

    def path(seed: int, centre: tuple[float, float], share: float) -> Layer:
        return Layer(picture, shown, random_path(size, centre, np.random.default_rng(seed), share * way))

    picture, shown = _canvas(pictures[listed.pictures[0]], size, random), None
    layers = [path(camera, middle, slow)]
    for name in listed.pictures[1:]:
        picture = _canvas(pictures[name], size, random)
        shown, centre = cut_out(size, random)
        own, depth, share = int(random.integers(2**31)), random.uniform(1, 1.5), random.uniform(0.3, 1)
        if listed.kind == "camera":
            layers.append(path(camera, middle, depth))
        else:
            layers.append(path(own, centre, 1.0 if listed.kind == "object" else share))
    return Scene(layers)


def _canvas(picture: np.ndarray, size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """A picture, enlarged and perhaps flipped, from some place of it on, with its mirror images where it ends."""
    scale = random.uniform(1, 1.75) * max(1024 / max(picture.shape), 1.0) ** 0.5
    large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    if random.random() < 0.5:
        large = large[:, ::-1]
    rows, columns = (_mirrored(side, wanted, random) for side, wanted in zip(large.shape, size, strict=False))
    return np.ascontiguousarray(large[rows[:, None], columns])


def _mirrored(side: int, wanted: int, random: np.random.Generator) -> np.ndarray:
    """`wanted` places on a side, up and down it."""
    spare = side - wanted
    start = int(random.integers(spare + 1)) if spare > 0 else int(random.integers(side))
    last = side - 1
    return last - np.abs((np.arange(wanted) + start) % (2 * last) - last)


def read_pictures(folder: Path) -> dict[str, np.ndarray]:
    """The package's still pictures in RGB by name, uint8 [h, w, 3]: those for backgrounds and for cut-outs."""
    pictures = {}
    with zipfile.ZipFile(wheel_of(PACKAGE, folder)) as wheel:
        for path in sorted(wheel.namelist()):
            if path.endswith(".webp"):
                image = Image.open(io.BytesIO(wheel.read(path)))
                still = getattr(image, "n_frames", 1) == 1 and image.mode == "RGB"
                name = Path(path).stem
                if still and (name in BACKGROUNDS or image.size == (CUT_OUTS, CUT_OUTS)):
                    pictures[name] = np.asarray(image)
    return pictures


def motion_of(scene: Scene) -> float:
    """Pixels between the given frames that MOVING of the pixels stay below, seen from the middle."""
    way = scene.flow(0.5, 1) - scene.flow(0.5, 0)
    return float(np.quantile(np.linalg.norm(way, axis=-1), MOVING))


def choose(pictures: Mapping[str, np.ndarray], seed: int, rows: Sequence[tuple[int, int]] = ROWS) -> list[Listed]:
    """A list of scenes, spread evenly over the rows of motion, and evenly within each."""
    random = np.random.default_rng(seed)
    backgrounds = [name for name in pictures if max(pictures[name].shape) > CUT_OUTS]
    cut_outs = [name for name in pictures if max(pictures[name].shape) <= CUT_OUTS]
    shown: list[str] = []
    chosen = []
    for least, most in rows:
        for place, (size, kind) in enumerate(SHAPES):
            share = (place * 3 % len(SHAPES) + random.uniform(0, 1)) / len(SHAPES)
            wanted = least * (most / least) ** share
            shown = shown or [backgrounds[i] for i in random.permutation(len(backgrounds))]
            names = [shown.pop()]
            while not (found := _of_motion(names, size, kind, wanted, cut_outs, random, pictures)):
                pass
            shot = Shot(found, pictures)
            chosen.append(replace(found, digest=shot.digest))
    return chosen


def _of_motion(
    background: Sequence[str],
    size: tuple[int, int],
    kind: str,
    wanted: float,
    cut_outs: Sequence[str],
    random: np.random.Generator,
    pictures: Mapping[str, np.ndarray],
) -> Listed | None:
    """A scene whose motion is `wanted` pixels, within a hundredth; None where what was drawn can't have it."""
    count = int(random.integers(2, 4)) if kind == "object" else int(random.integers(0 if kind == "camera" else 1, 4))
    names = (*background, *(str(name) for name in random.choice(cut_outs, count, replace=False)))
    listed = Listed(int(random.integers(2**31)), size, kind, names, wanted)
    for _ in range(4):
        motion = motion_of(make_scene(listed, pictures))
        listed = replace(listed, motion=round(motion, 2))
        if abs(motion - wanted) < 0.01 * wanted:
            return listed
        listed = replace(listed, way=round(listed.way * wanted / motion, 3))
        if not wanted / 2 < listed.way < 2 * wanted:  # what should move is too small
            return None
    return None


def read_list(path: Path, pictures: Mapping[str, np.ndarray]) -> list[Listed]:
    """The scenes of the versioned list. Raises OtherPixelsError where pictures are not those that it was made of."""
    content = json.loads(path.read_text())
    for name, known in content["pictures"].items():
        found = digest(pictures[name]) if name in pictures else "none: it is missing"
        _same(f"the picture {name}", found, known)
    scenes = [row | {"size": tuple(row["size"]), "pictures": tuple(row["pictures"])} for row in content["scenes"]]
    return [Listed(**row) for row in scenes]


def read_shot(listed: Listed, pictures: Mapping[str, np.ndarray]) -> Shot:
    """A scene of the list. Raises OtherPixelsError where its frames are not those that figures were made on."""
    shot = Shot(listed, pictures)
    _same(f"the scene with the seed {listed.seed}", shot.digest, listed.digest)
    return shot


def _same(what: str, found: str, known: str) -> None:
    if found != known:
        raise OtherPixelsError(
            f"the pixels of {what} have the digest {found}, the list says {known}. Figures on other pixels can't be "
            "compared: install the versions of OpenCV, Pillow and NumPy that the list names, or make a list of your own"
        )


def write_list(path: Path, pictures: Mapping[str, np.ndarray], seed: int) -> None:
    """Chooses the versioned list."""
    scenes = choose(pictures, seed)
    used = sorted({name for listed in scenes for name in listed.pictures})
    content = {
        "version": 1,
        "package": PACKAGE,
        "software": {module.__name__: module.__version__ for module in (cv2, np, PIL)},
        "pictures": {name: digest(pictures[name]) for name in used},
        "scenes": [asdict(listed) for listed in scenes],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    # Shows how the list came about; another list needs another version, as figures on it can't be compared.
    write_list(Path(sys.argv[1]), read_pictures(Path(sys.argv[2])), seed=1)
