"""Load AMT Model."""

from __future__ import annotations

import comfy.model_management as mm
import comfy.model_patcher
import folder_paths
import torch
from comfy_api.latest import io

from .. import models
from .interp_model import AMTModel, InterpModel

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class AMTModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AMTModelLoader",
            display_name="Load AMT Model",
            category="video/AMT",
            description="Loads an AMT frame-interpolation model, downloading a known one where it is missing.",
            search_aliases=["amt", "frame interpolation", "vfi", "interpolation model"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=models.names(_folders()),
                    tooltip="The bundled model, the published AMT models (CC BY-NC 4.0, downloaded on first use), "
                    "and the files in models/amt and models/frame_interpolation.",
                ),
                io.Combo.Input(
                    "precision",
                    options=["auto", *PRECISIONS],
                    default="auto",
                    optional=True,
                    tooltip="auto: half precision where the device is good at it. fp32: exact everywhere.",
                ),
            ],
            outputs=[InterpModel.Output(tooltip="For this pack's nodes and for Run Frame Interpolation Model.")],
        )

    @classmethod
    def execute(cls, model_name: str, precision: str = "auto") -> io.NodeOutput:
        device = mm.get_torch_device()
        dtype = _dtype(precision, device)
        network = models.load(model_name, _folders(), progress=None)
        patcher = comfy.model_patcher.CoreModelPatcher(
            AMTModel(network.to(dtype)), load_device=device, offload_device=mm.unet_offload_device()
        )
        return io.NodeOutput(patcher)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        return torch.float16 if mm.should_use_fp16(device) else torch.float32
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected auto, {', '.join(PRECISIONS)}, got {precision}")
    supported = {"fp32": True, "fp16": mm.should_use_fp16(device), "bf16": mm.should_use_bf16(device)}
    if not supported[precision]:
        raise ValueError(f"precision: {device} is no device for {precision}. Choose auto or fp32.")
    return PRECISIONS[precision]


def _folders() -> list[str]:
    return [*folder_paths.get_folder_paths("amt"), *folder_paths.get_folder_paths("frame_interpolation")]


NODES = [AMTModelLoader]
