"""Keyframes connected one by one, as the API's queue takes them."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from setup.client import NodeFailedError
from setup.server import LocalServer


def keyframes(*sizes: int) -> dict[str, dict]:
    """An "AMT Images to Video" of plain pictures of these sizes, each darker than the one before."""
    prompt = {
        "1": {"class_type": "AMTModelLoader", "inputs": {"model_name": "amt-s-open.safetensors", "precision": "auto"}},
        "2": {
            "class_type": "AMTImagesToVideo",
            "inputs": {"interp_model": ["1", 0], "output_fps": 24, "recursive_interpolation_passes": 0},
        },
        "3": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["2", 0], "filename_prefix": "more", "format": "auto", "codec": "auto"},
        },
    }
    for index, size in enumerate(sizes):
        grey = 0x101010 * (15 - 2 * index)
        inputs = {"width": size, "height": 64, "batch_size": 1, "color": grey}
        prompt[str(10 + index)] = {"class_type": "EmptyImage", "inputs": inputs}
        prompt["2"]["inputs"]["images" if not index else f"more_images.images{index + 1}"] = [str(10 + index), 0]
    return prompt


def test_they_follow_in_order(comfyui_server: LocalServer, tmp_path: Path) -> None:
    (file,) = comfyui_server.queue(keyframes(64, 64, 64, 64)).files
    with av.open(str(comfyui_server.download(file, tmp_path))) as container:
        greys = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert greys == pytest.approx([240, 208, 176, 144], abs=3)


def test_other_sizes_are_named(comfyui_server: LocalServer) -> None:
    with pytest.raises(NodeFailedError, match=r"one size, got images 64 x 64, images2 96 x 64"):
        comfyui_server.queue(keyframes(64, 96))
