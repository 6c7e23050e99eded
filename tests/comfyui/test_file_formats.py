"""Files other than MP4 go in and out through ComfyUI's own nodes and VideoHelperSuite's, as docs/formats.md says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from setup.server import LocalServer
from tiny_video import write_transparent

SIZE = 64
PICTURES = 3
FRAMES = 2 * PICTURES - 1

MODEL = {"class_type": "AMTModelLoader", "inputs": {"model_name": "amt-s-open.safetensors", "precision": "auto"}}


def pictures() -> np.ndarray:
    """A red square moves by 8 pixels from picture to picture, uint8 [n, h, w, 4]. All else is transparent black."""
    found = np.zeros((PICTURES, SIZE, SIZE, 4), np.uint8)
    for number, picture in enumerate(found):
        picture[16:48, 8 + 8 * number : 40 + 8 * number] = 255, 0, 0, 255
    return found


@pytest.fixture(scope="module")
def folder(comfyui_server: LocalServer) -> Path:
    """In the server's input folder: numbered pictures with alpha, and the same as GIF, WebP and ProRes 4444."""
    folder = comfyui_server.base / "input" / "sequence"
    folder.mkdir(parents=True)
    shots = [Image.fromarray(picture, "RGBA") for picture in pictures()]
    for number, shot in enumerate(shots):
        shot.save(folder / f"shot_{number:04}.png")
    for kind, options in {"gif": {}, "webp": {"lossless": True}}.items():
        first, *others = [shot.convert("RGB") for shot in shots]
        first.save(folder.parent / f"shot.{kind}", save_all=True, append_images=others, duration=100, **options)
    write_transparent(folder.parent / "shot.mov", "prores_ks", "yuva444p10le", pictures(), profile="4444")
    return folder


def interpolated(load: dict[str, dict[str, Any]], save: dict[str, Any], images: tuple[str, int] = ("1", 0)) -> dict:
    node = {"interp_model": ["8", 0], "images": list(images), "recursive_interpolation_passes": 1}
    return {**load, "8": MODEL, "9": {"class_type": "AMTInterpolate", "inputs": node}, "10": save}


def load_image(name: str) -> dict[str, dict[str, Any]]:
    return {"1": {"class_type": "LoadImage", "inputs": {"image": name}}}


def save_image(kind: str) -> dict[str, Any]:
    depth = {"png": "16-bit", "exr": "32-bit float"}[kind]
    inputs = {"format": kind, "format.bit_depth": depth, "format.input_color_space": "sRGB"}
    return {"class_type": "SaveImageAdvanced", "inputs": {"images": ["9", 0], "filename_prefix": "made", **inputs}}


def combine(kind: str, **more: Any) -> dict[str, Any]:
    inputs = {"frame_rate": 24, "loop_count": 0, "filename_prefix": "made", "format": kind, "pingpong": False}
    inputs |= {"save_output": True, "images": ["9", 0], **more}
    return {"class_type": "VHS_VideoCombine", "inputs": inputs}


def centre(picture: np.ndarray) -> float:
    """Where the square is: the mean column of what is bright in the first channel."""
    return float(np.nonzero(picture[..., 0] > picture[..., 0].max() / 2)[1].mean())


def assert_moves(found: list[np.ndarray]) -> None:
    assert len(found) == FRAMES
    assert [centre(picture) for picture in found] == pytest.approx([23.5 + 4 * n for n in range(FRAMES)], abs=1)


def opened(path: Path, kind: str = "RGB") -> list[np.ndarray]:
    with Image.open(path) as file:
        found = []
        for number in range(getattr(file, "n_frames", 1)):
            file.seek(number)
            found.append(np.asarray(file.convert(kind)))
        return found


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_moving_pictures(comfyui_server: LocalServer, folder: Path, tmp_path: Path, kind: str) -> None:
    save = {
        "class_type": "SaveAnimatedWEBP",
        "inputs": {
            **{"images": ["9", 0], "filename_prefix": "made", "fps": 20, "lossless": True, "quality": 90},
            "method": "default",
        },
    }
    (file,) = comfyui_server.queue(interpolated(load_image(f"shot.{kind}"), save)).files
    assert_moves(opened(comfyui_server.download(file, tmp_path)))


@pytest.mark.parametrize("kind", ["png", "exr"])
def test_sequences_out(comfyui_server: LocalServer, folder: Path, tmp_path: Path, kind: str) -> None:
    files = comfyui_server.queue(interpolated(load_image("shot.webp"), save_image(kind))).files
    found = []
    for file in files:
        with av.open(str(comfyui_server.download(file, tmp_path))) as container:
            (frame,) = container.decode(video=0)
            found.append(frame.to_ndarray(format="rgb48" if kind == "png" else "gbrpf32le"))
    assert_moves(found)
    assert [file.filename for file in files] == sorted(file.filename for file in files)


def test_a_sequence_with_alpha_in_and_out(vhs_server: LocalServer, folder: Path, tmp_path: Path) -> None:
    load = {
        "1": {"class_type": "VHS_LoadImagesPath", "inputs": {"directory": str(folder), "image_load_cap": 0}},
        "2": {"class_type": "JoinImageWithAlpha", "inputs": {"image": ["1", 0], "alpha": ["1", 1]}},
    }
    load["1"]["inputs"] |= {"skip_first_images": 0, "select_every_nth": 1}
    files = vhs_server.queue(interpolated(load, save_image("png"), ("2", 0))).files
    found = [opened(vhs_server.download(file, tmp_path), "RGBA")[0] for file in files]
    assert_moves([picture[..., 3:] for picture in found])


def test_prores_with_alpha_in_and_out(vhs_server: LocalServer, folder: Path, tmp_path: Path) -> None:
    video = {"video": str(folder.parent / "shot.mov"), "force_rate": 0, "custom_width": 0, "custom_height": 0}
    load = {
        "1": {
            "class_type": "VHS_LoadVideoFFmpegPath",
            "inputs": {**video, "frame_load_cap": 0, "start_time": 0, "format": "None"},
        },
        "2": {"class_type": "JoinImageWithAlpha", "inputs": {"image": ["1", 0], "alpha": ["1", 1]}},
    }
    save = combine("video/ProRes", profile="4444")
    (file,) = vhs_server.queue(interpolated(load, save, ("2", 0))).files
    with av.open(str(vhs_server.download(file, tmp_path))) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "prores"
        assert_moves([frame.to_ndarray(format="rgba")[..., 3:] for frame in container.decode(stream)])


@pytest.mark.parametrize("kind", ["image/gif", "image/webp"])
def test_moving_pictures_of_video_combine(vhs_server: LocalServer, folder: Path, tmp_path: Path, kind: str) -> None:
    (file,) = vhs_server.queue(interpolated(load_image("shot.webp"), combine(kind))).files
    assert_moves(opened(vhs_server.download(file, tmp_path)))
