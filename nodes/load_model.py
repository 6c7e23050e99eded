"""Load AMT Model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import comfy.utils
import torch
from comfy_api.latest import io

from ..amt.fast import Compilation, FastAMT, compile_parts
from ..models.catalogue import BUNDLED, PUBLISHED, Record, by_name
from ..models.discovery import find_checkpoint, list_checkpoints
from ..models.download import download
from ..models.loading import load_checkpoint
from ..printable import printable
from .inputs import AUTO, InterpModel
from .interp_model import AMTModel
from .model_folders import model_folders
from .progress import show

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class AMTModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AMTModelLoader",
            display_name="Load AMT Model",
            category="video/AMT",
            description="Loads an AMT frame-interpolation model, and downloads a published one that is missing.",
            search_aliases=["amt model", "frame interpolation model", "rife model", "film model"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=list_checkpoints(model_folders()),
                    tooltip=f"Comes with the pack: {BUNDLED.facts}. Downloaded when first used: "
                    f"{', '.join(record.facts for record in PUBLISHED)}. CC BY-NC is not for commercial work. Besides: "
                    "the files in models/amt and models/frame_interpolation.",
                ),
                io.Combo.Input(
                    "precision",
                    options=["auto", *PRECISIONS],
                    default="auto",
                    optional=True,
                    advanced=True,
                    extra_dict=AUTO,
                    tooltip="auto: half precision where the device is fast at it, else fp32. fp32 is the most exact.",
                ),
                io.Boolean.Input(
                    "torch_compile",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Compiles the network for your GPU with torch.compile. The first frames take minutes, and "
                    "the others may come faster. If it fails, the model runs uncompiled, and the node says why.",
                ),
            ],
            outputs=[InterpModel.Output(tooltip="For this pack's nodes and for Run Frame Interpolation Model.")],
        )

    @classmethod
    def execute(cls, model_name: str, precision: str = "auto", torch_compile: bool = False) -> io.NodeOutput:
        device = mm.get_torch_device()
        dtype = _dtype(precision, device)
        found = find_checkpoint(model_name, model_folders())
        path = _download(found) if isinstance(found, Record) else found
        checkpoint = load_checkpoint(path)
        network = FastAMT(checkpoint.network.to(dtype))
        compilation = _compile(network, device) if torch_compile else None
        model = AMTModel(network, printable(model_name), compilation, carried=checkpoint.carried)
        patcher = comfy.model_patcher.CoreModelPatcher(
            model, load_device=device, offload_device=mm.unet_offload_device()
        )
        return io.NodeOutput(patcher)

    @classmethod
    def fingerprint_inputs(cls, model_name: str | None = None, **_others: Any) -> object:
        """A file that was replaced by another of the same name is loaded again.

        model_name: None where it comes over a link; then what it is linked to decides.
        """
        if model_name is None:
            return None
        found = find_checkpoint(model_name, model_folders())
        # A file that was downloaded meanwhile is the one that the catalogue names, so nothing has changed.
        if isinstance(found, Record) or by_name(model_name):
            return None
        status = found.stat()
        return [status.st_mtime_ns, status.st_size]


def _download(record: Record) -> Path:
    """Into the first of ComfyUI's folders for AMT models, with progress on the node."""
    bar = comfy.utils.ProgressBar(1)
    shown = ""

    def progress(done: int, total: int | None) -> None:
        nonlocal shown
        mm.throw_exception_if_processing_interrupted()
        size = f" of {total / 1e6:.1f}" if total else ""
        text = f"Downloading {record.name}: {done / 1e6:.1f}{size} MB"
        if text != shown:
            show(text)
            bar.update_absolute(done, total or max(done, 1))
            shown = text

    return download(record, model_folders()[0], progress=progress)


def _compile(network: FastAMT, device: torch.device) -> Compilation:
    if device.type == "cpu":
        return Compilation("on a CPU it takes minutes and gains nothing")
    return compile_parts(network)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        return torch.float16 if mm.should_use_fp16(device) else torch.float32
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected auto, {', '.join(PRECISIONS)}, got {precision}")
    supported = {"fp32": True, "fp16": mm.should_use_fp16(device), "bf16": mm.should_use_bf16(device)}
    if not supported[precision]:
        raise ValueError(f"precision: {device} does not compute in {precision} as it should. Choose auto or fp32.")
    return PRECISIONS[precision]


NODES = [AMTModelLoader]
